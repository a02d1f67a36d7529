"""Memory and file handles of train, sample and compare stay flat."""

import gc
import os
from pathlib import Path

from tests.torture.common import Tally, call, write_config

GROWTH = 24 * 2**20
"""Bytes that may come in the second half of a long training: the allocator's play, not a leak."""


def held() -> tuple[int, int]:
    """(resident bytes, open files) of this process."""
    gc.collect()  # figures refer to themselves
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def resources(folder: Path, tally: Tally, iterations: int = 10_000) -> None:
    """Train `iterations` steps, sample and compare again and again; growth from the middle to the end is measured."""
    from experiment.training import Stack

    seen = {}
    step = Stack.step

    def watched(self, iteration: int) -> None:
        step(self, iteration)
        if iteration in (iterations // 2, iterations - 1):
            seen[iteration] = held()

    config = write_config(
        folder / "c.yaml", max_iters=iterations, checkpoint_interval=500, eval_interval=1000, log_interval=100
    )
    Stack.step = watched
    try:
        status, _, err = call("train.py", config, "--out_dir", folder / "x", "--device", "cpu")
    finally:
        Stack.step = step
    if status:
        tally.fail("lost runs", err)
        return
    _judge(f"train, {iterations} iterations", seen[iterations // 2], seen[iterations - 1], tally)
    for program, arguments in (("sample.py", ["--max_new_tokens", "20"]), ("compare.py", ["--json", "--quick"])):
        for _ in range(4):
            call(program, folder / "x", *arguments)
        before = held()
        for _ in range(6):
            call(program, folder / "x", *arguments)
        _judge(f"{program}, 6 times", before, held(), tally)


def _judge(what: str, before: tuple[int, int], after: tuple[int, int], tally: Tally) -> None:
    grown, files = after[0] - before[0], after[1] - before[1]
    tally.notes.append(f"resources: {what}: {grown / 2**20:+.1f} MiB, {files:+d} files")
    if grown > GROWTH or files > 0:
        tally.fail("leaks", tally.notes[-1])
