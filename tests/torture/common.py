"""What every part uses: a tiny sweep, the programs in this process or in their own, and the count of what happened."""

import contextlib
import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import yaml
from safetensors.torch import load_file
from tqdm import tqdm

import compare
import errors
import sample
import train
from experiment.folder import Experiment

# by default the bars share a semaphore with forks of this process: one that is killed would keep it for ever
tqdm.set_lock(threading.RLock())
tqdm.monitor_interval = 0

ROOT = Path(__file__).parent.parent.parent
MODULES = {"train.py": train, "sample.py": sample, "compare.py": compare}
CONFIG = {
    "name": "torture",
    "model": {"n_layer": 1, "n_embd": 16, "block_size": 16},
    "sweep": {"n_head": [1, 4], "seed": [0]},
    "data": {"vocab_size": 300, "n_stories": 60, "val_fraction": 0.05},
    "train": {
        "max_iters": 12,
        "batch_size": 2,
        "warmup_iters": 2,
        "learning_rate": 3e-3,
        "eval_interval": 6,
        "log_interval": 2,
        "checkpoint_interval": 4,
        "precision": "fp32",
        "compile": False,
    },
}


@dataclasses.dataclass
class Tally:
    """Counts of what was done, and every promise that was seen broken."""

    counts: Counter = dataclasses.field(default_factory=Counter)
    broken: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def fail(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        self.broken.append(f"{kind}: {what}")


def write_config(path: Path, **train_values) -> Path:
    path.write_text(yaml.safe_dump(CONFIG | {"train": CONFIG["train"] | train_values}))
    return path


def call(program: str, *argv, encoding: str = "utf-8") -> tuple[int, str, str]:
    """A program's main in this process: exit status (99: an exception came through), stdout, stderr.

    encoding: what the terminal, or the file that output goes to, can show.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, newline="\n") for _ in range(2)]

    def written() -> list[str]:
        for stream in streams:
            stream.flush()
        return [stream.buffer.getvalue().decode(encoding) for stream in streams]

    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            status = errors.guard(program, MODULES[program].main, [str(a) for a in argv])
        except SystemExit as stop:
            status = stop.code or 0
        except Exception as error:
            out, err = written()
            return 99, out, f"{err}Traceback: {type(error).__name__}: {error}"
    return status, *written()


def start(*argv, **options) -> subprocess.Popen:
    """A program in a process of its own, on one thread."""
    command = [sys.executable, str(ROOT / argv[0]), *map(str, argv[1:])]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def results(folder: Path) -> dict:
    """What counts of an experiment: final weights and averages as bytes, and metrics without their wall times."""
    found = {}
    for run in Experiment.open(folder).runs:
        newest = run.checkpoints()[0]
        tensors = load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")
        lines = [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
        found[run.name] = newest.name, {k: v.numpy().tobytes() for k, v in tensors.items()}, json.dumps(lines)
    return found


def shown(text: str) -> bool:
    """Whether a terminal shows all of the text and obeys none of it."""
    return all(c.isprintable() or c in errors.KEPT for c in text)


def clean(status: int, err: str, allowed=(0, 1, 2)) -> str | None:
    """What is wrong with how a program ended; None where it is as promised."""
    lines = [line for line in err.splitlines() if line.strip()]
    if "Traceback" in err or status not in allowed:
        return f"exit {status}: {err[-300:]}"
    if status and not 1 <= len(lines) <= 3:
        return f"exit {status} with {len(lines)} lines: {err[-300:]}"
    if not shown(err):
        return f"control characters on stderr: {err[-300:]!r}"
    return None
