"""A short, seeded run of the torture harness: no promise is broken. Its bad inputs are those of test_inputs.py."""

import random
import subprocess
import sys

import pytest

from tests.torture import damage, disk, kills
from tests.torture.common import ROOT, Tally


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


@pytest.mark.xfail(reason="not seen to the end since the quickstart changed", strict=False)
def test_memory_and_files_stay_flat():
    """In a process of its own, as what other tests leave behind moves its memory."""
    command = [sys.executable, "-m", "tests.torture", "--parts", "resources", "--iterations", "200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resources: compare.py" in done.stdout
