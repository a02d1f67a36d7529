"""A short, seeded run of the torture harness: no promise is broken. Its bad inputs are those of test_inputs.py."""

import random

import pytest

from tests.torture import damage, disk, kills
from tests.torture.common import Tally


@pytest.mark.parametrize("part", ["kills", "damage", "disk"])
def test_no_promise_is_broken(tmp_path, monkeypatch, part):
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path / "cache"))
    folder, tally, rng = tmp_path / part, Tally(), random.Random(0)
    folder.mkdir()
    if part == "kills":
        kills.kills(folder, rng, tally, 0, 4, kills.MODES[:1])
    elif part == "damage":
        damage.damages(folder, tmp_path / "cache", rng, tally, 0, 6)
    else:
        disk.disk(folder, tally)
    assert not tally.broken
    assert tally.counts or tally.notes
