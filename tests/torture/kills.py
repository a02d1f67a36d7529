"""kill -9 at random moments, some aimed at the writing of files: the finished results are the same."""

import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tests.torture.common import Tally, call, clean, results, write_config

CALLS = ("fsync", "replace", "rename", "link", "open")
MODES = (
    (),
    ("--train.precision", "bf16"),
    ("--train.compile", "true"),
    ("--train.precision", "bf16", "--train.compile", "true"),
    GROWN := ("--sweep.seed", "0,1", "--sweep.n_head", "1,2,4"),
)
"""What is killed: training in fp32 and in bf16, compiled and not; and the extension of a finished experiment."""


def reference(folder: Path, arguments: Sequence[str]) -> tuple[Path, dict]:
    """The config and what an uninterrupted training gives; the program's modules are loaded for the forks below."""
    config = write_config(folder / "config.yaml")
    if arguments == GROWN:
        status, _, err = call("train.py", config, "--out_dir", folder / "base", "--device", "cpu")
        assert status == 0, err
    begin(folder, folder / "whole")
    status, _, err = call("train.py", config, "--out_dir", folder / "whole", "--device", "cpu", *arguments)
    assert status == 0, err
    return config, results(folder / "whole")


def begin(folder: Path, target: Path) -> None:
    """Let `target` be what a training begins with: nothing, or the finished experiment that it extends."""
    shutil.rmtree(target, ignore_errors=True)
    if (folder / "base").exists():
        shutil.copytree(folder / "base", target)


def touched(folder: Path, target: Path) -> list[Path]:
    """Files of the extended experiment's runs that are no longer what they were."""
    before = [file for file in (folder / "base").glob("h*/**/*") if file.is_file()]
    return [f for f in before if (target / f.relative_to(folder / "base")).read_bytes() != f.read_bytes()]


def child(argv: Sequence, before: int | None) -> int:
    """train.py in a fork of this process, which kills itself before its system call number `before`; its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if before is not None:
            _mine(before)
        status = call("train.py", *argv)[0]
    finally:
        os._exit(status if "status" in dir() else 98)


def _mine(before: int) -> None:
    """Let the call number `before` of the writing kind be a kill -9."""
    left = [before]

    def wrapped(function):
        def mined(*arguments, **keywords):
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return mined

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))


def kills(
    folder: Path,
    rng: random.Random,
    tally: Tally,
    deadline: float,
    least: int,
    modes: Sequence[Sequence[str]] = MODES,
) -> None:
    """Kill in every mode, until the least count is reached and the time is over."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # a fork has no use for its parent's compiling processes
    for number, arguments in enumerate(modes):
        part = folder / f"mode-{number}"
        part.mkdir()
        left = len(modes) - number
        until = time.monotonic() + (deadline - time.monotonic()) / left
        done = _kills(part, rng, tally, until, -(-least // left), arguments)
        tally.counts["of them " + (" ".join(arguments).replace("--train.", "") or "fp32, not compiled")] += done
        least = max(1, least - done)


def _kills(
    folder: Path, rng: random.Random, tally: Tally, deadline: float, least: int, arguments: Sequence[str]
) -> int:
    """Kill, go on, kill, go on; at the end the results are compared bit for bit. How many kills it took."""
    config, truth = reference(folder, arguments)
    began = time.monotonic()
    whole = folder / "timed"
    begin(folder, whole)
    pid = child([config, "--out_dir", whole, "--device", "cpu", *arguments], None)
    os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    done = 0
    while done < least or time.monotonic() < deadline:
        target = folder / "killed"
        begin(folder, target)
        argv = [config, "--out_dir", target, "--device", "cpu", *arguments]
        for _ in range(rng.randint(1, 4)):
            aimed = rng.random() < 0.5
            pid = child(argv, rng.randint(1, 120) if aimed else None)
            if not aimed:
                time.sleep(rng.random() * seconds)
                os.kill(pid, signal.SIGKILL)
            _, ended = os.waitpid(pid, 0)
            if os.WIFSIGNALED(ended):
                done += 1
                tally.counts["kills"] += 1
                if aimed:
                    tally.counts["of them aimed at a write"] += 1
        status, _, err = call("train.py", *argv)
        if wrong := clean(status, err, allowed=(0,)):
            tally.fail("lost runs", wrong)
        elif results(target) != truth:
            tally.fail("lost runs", f"the results differ after kill {done}")
        elif changed := touched(folder, target):
            tally.fail("lost runs", f"finished runs were touched: {changed[:2]}")
        if list(target.rglob("*.tmp")):
            tally.fail("left files", str(list(target.rglob("*.tmp"))[:2]))
    return done
