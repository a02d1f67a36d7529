"""A full disk and folders that cannot be written: one line, exit 1, the last good checkpoint whole, then going on."""

import os
import resource
import signal
import subprocess
from pathlib import Path

from experiment.checkpoint import good_iterations
from experiment.folder import Experiment
from tests.torture.common import Tally, call, clean, results, write_config


def disk(folder: Path, tally: Tally) -> None:
    """A limit on the size of files, a small tmpfs where mounting is allowed, and a path under a file."""
    config = write_config(folder / "c.yaml")
    arguments = ["--device", "cpu"]
    call("train.py", config, "--out_dir", folder / "whole", *arguments)
    truth = results(folder / "whole")
    status, _, err = call("train.py", config, "--out_dir", config / "under", *arguments)
    if status not in (1, 2) or clean(status, err):
        tally.fail("unclear ends", f"a folder under a file: {status} {err}")
    size = (folder / "whole" / "h01-seed0" / "checkpoints" / "iter-000012" / "model.safetensors").stat().st_size
    for limit in (100, 3000, size - 1, size + 10):
        _limited(folder / f"limited-{limit}", config, limit, truth, tally)
    _mounted(folder / "small", config, truth, tally)


def _limited(target: Path, config: Path, limit: int, truth: dict, tally: Tally) -> None:
    argv = [config, "--out_dir", target, "--device", "cpu"]
    call("train.py", *argv, "--train.max_iters", "12")  # the cache is there, whatever the limit
    for run in Experiment.open(target).runs:
        for checkpoint in run.checkpoints()[:1]:
            (checkpoint / "state.json").unlink()  # the last one has to be made again
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        status, _, err = call("train.py", *argv)
        os.write(writer, err[:2000].encode())
        os._exit(status)
    os.close(writer)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    err = os.read(reader, 4000).decode()
    os.close(reader)
    _after(f"a limit of {limit} bytes", status, err, argv, target, truth, tally)


def _after(what: str, status: int, err: str, argv: list, target: Path, truth: dict, tally: Tally) -> None:
    tally.counts["full disks"] += 1
    if status != 1 or clean(status, err):
        tally.fail("unclear ends", f"{what}: exit {status}: {err[-300:]}")
    status, _, again = call("train.py", *argv)
    if status != 0:
        tally.fail("lost runs", f"{what}: {again}")
    elif {n: v[0] for n, v in results(target).items()} != {n: v[0] for n, v in truth.items()}:
        tally.fail("lost runs", f"{what}: the results differ")
    elif not all(good_iterations(run) for run in Experiment.open(target).runs):
        tally.fail("lost runs", f"{what}: no good checkpoint")


def _mounted(target: Path, config: Path, truth: dict, tally: Tally) -> None:
    target.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=180k", "tmpfs", target], capture_output=True).returncode:
        tally.notes.append("disk: no tmpfs (mounting is not allowed here); the size limit stands for it")
        return
    try:
        argv = [config, "--out_dir", target / "x", "--device", "cpu"]
        status, _, err = call("train.py", *argv)
        subprocess.run(["mount", "-o", "remount,size=50m", target], check=True)
        _after("a full tmpfs", status, err, argv, target / "x", truth, tally)
        subprocess.run(["mount", "-o", "remount,ro", target], check=True)
        status, _, err = call("train.py", config, "--out_dir", target / "y", "--device", "cpu")
        if status != 1 or clean(status, err):
            tally.fail("unclear ends", f"a read-only folder: {status} {err}")
    finally:
        subprocess.run(["umount", target], check=True)
