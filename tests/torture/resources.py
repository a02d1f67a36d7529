"""Memory and file handles of train, sample and compare stay flat; checkpoints take little of the time of training."""

import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import yaml

from experiment.config import TrainConfig
from tests.torture.common import ROOT, Tally, call, write_config
from training.loop import Stack

SHARE = 0.05
"""Of the time of training that checkpoints may take."""
GROWTH = 24 * 2**20
"""Bytes that may come in the second half of a long training: the allocator's play, not a leak."""


def held() -> tuple[int, int]:
    """(resident bytes, open files) of this process."""
    gc.collect()  # figures refer to themselves
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def resources(folder: Path, tally: Tally, iterations: int = 10_000) -> None:
    """Train `iterations` steps, sample and compare again and again; growth from the middle to the end is measured."""
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


def checkpoints(folder: Path, tally: Tally, iterations: int = 24) -> None:
    """The share of training's time that checkpoints of the quickstart's ten runs take, at the default interval."""
    config = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
    config["data"]["n_stories"] = 1500  # the network, which both times come from, is the quickstart's
    config["train"] |= {"max_iters": iterations, "eval_interval": iterations, "checkpoint_interval": iterations // 3}
    (folder / "quickstart.yaml").write_text(yaml.safe_dump(config))
    seconds = {"step": [], "_save": []}

    def timed(name: str) -> Callable:
        work = getattr(Stack, name)

        def call_timed(*arguments: object) -> None:
            began = time.perf_counter()
            work(*arguments)
            seconds[name].append(time.perf_counter() - began)

        return call_timed

    with mock.patch.multiple(Stack, step=timed("step"), _save=timed("_save")):
        status, _, err = call("train.py", folder / "quickstart.yaml", "--out_dir", folder / "q", "--device", "cpu")
    if status:
        tally.fail("lost runs", err)
        return
    step, save = (statistics.median(seconds[name][1:]) for name in ("step", "_save"))
    interval = TrainConfig.checkpoint_interval
    share = save / (save + interval * step)
    tally.notes.append(
        f"checkpoints: {save:.2f} s for all runs of the quickstart, a step {step:.2f} s: "
        f"{100 * share:.2f} % of the time at the default interval of {interval}"
    )
    if share > SHARE:
        tally.fail("slow checkpoints", tally.notes[-1])


def _judge(what: str, before: tuple[int, int], after: tuple[int, int], tally: Tally) -> None:
    grown, files = after[0] - before[0], after[1] - before[1]
    tally.notes.append(f"resources: {what}: {grown / 2**20:+.1f} MiB, {files:+d} files")
    if grown > GROWTH or files > 0:
        tally.fail("leaks", tally.notes[-1])
