"""torchrun's processes killed and signalled at random moments, and gone on with in another number."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.torture.common import ROOT, Tally, call, results, write_config

PATIENCE = 60  # seconds in which the others have to end


def torchrun(n_rank: int, argv: Sequence) -> subprocess.Popen:
    """train.py in n_rank processes of one thread."""
    command = ["-m", "torch.distributed.run", "--nproc_per_node", n_rank, ROOT / "train.py", *argv]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command)], env=os.environ | {"OMP_NUM_THREADS": "1"}, **streams)


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that still are: of torchrun, its ranks."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ranks(folder: Path, rng: random.Random, tally: Tally, deadline: float, least: int) -> None:
    """Kill a rank or signal torchrun, go on with other ranks; at the end the results are those of one process.

    Not to the bit: a batch that is shared by three is summed in another order.
    """
    config = write_config(folder / "c.yaml", max_iters=200, checkpoint_interval=10, eval_interval=100)
    argv = [config, "--device", "cpu", "--sweep.seed", "0,1", "--out_dir"]
    status, _, err = call("train.py", *argv, folder / "whole")
    assert status == 0, err
    truth = results(folder / "whole")
    began = time.monotonic()
    torchrun(2, [*argv, folder / "timed"]).communicate(timeout=10 * PATIENCE)
    seconds = time.monotonic() - began
    while tally.counts["ends of ranks"] < least or time.monotonic() < deadline:
        target = folder / "x"
        shutil.rmtree(target, ignore_errors=True)
        for _ in range(rng.randint(1, 3)):
            process = torchrun(rng.choice((2, 3)), [*argv, target])
            time.sleep((0.3 + 0.7 * rng.random()) * seconds)
            _end(process, rng, tally)
        n_rank = rng.choice((1, 2, 3))
        process = torchrun(n_rank, [*argv, target])
        said = process.communicate(timeout=10 * PATIENCE)[0]
        if process.returncode:
            tally.fail("lost runs", f"{n_rank} ranks: {said[-600:]}")
        elif not _close(results(target), truth):
            tally.fail("lost runs", f"{n_rank} ranks end with other results")


def _end(process: subprocess.Popen, rng: random.Random, tally: Tally) -> None:
    """End a rank, or all, in some way, and wait for torchrun."""
    found = children(process.pid)
    if found and rng.random() < 0.6:
        os.kill(rng.choice(found), signal.SIGKILL)
    else:
        process.send_signal(rng.choice((signal.SIGTERM, signal.SIGINT)))
    try:
        said = process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        tally.fail("hanging ranks", f"{len(found)} of them, {PATIENCE} s after one was ended")
        for pid in (*children(process.pid), process.pid):
            os.kill(pid, signal.SIGKILL)
        return
    tally.counts["ends of ranks"] += process.returncode != 0
    if "[rank" in said or said.count("Traceback") > 1:  # one is torchrun's own
        tally.fail("unclear ends", said[-600:])


def _close(found: dict, truth: dict) -> bool:
    """Whether the same runs ended at the same steps with nearly the same weights."""
    if {name: value[0] for name, value in found.items()} != {name: value[0] for name, value in truth.items()}:
        return False
    return all(
        np.allclose(np.frombuffer(held, np.float32), np.frombuffer(truth[name][1][key], np.float32), atol=1e-3)
        for name, value in found.items()
        for key, held in value[1].items()
    )
