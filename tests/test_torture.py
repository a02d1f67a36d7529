"""A short, seeded run of every part of the torture harness: no promise is broken."""

import random

import pytest

from tests.torture import damage, disk, inputs, kills, resources
from tests.torture.common import Tally


@pytest.mark.parametrize("part", ["kills", "damage", "input", "disk", "resources"])
def test_no_promise_is_broken(tmp_path, monkeypatch, part):
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path / "cache"))
    folder, tally, rng = tmp_path / part, Tally(), random.Random(0)
    folder.mkdir()
    if part == "kills":
        kills.kills(folder, rng, tally, 0, 6, [kills.MODES[0], kills.MODES[-1]])
    elif part == "damage":
        damage.damages(folder, tmp_path / "cache", rng, tally, 0, 12)
    elif part == "input":
        inputs.inputs(folder, 0, tally, 0, 100)
    elif part == "disk":
        disk.disk(folder, tally)
    else:
        resources.checkpoints(folder, tally, 6)
        resources.resources(folder, tally, 200)
    assert not tally.broken
    assert tally.counts or tally.notes
