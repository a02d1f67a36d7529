"""environment.json: on what data, from what weights, where and how an experiment was carried out, at every start.

A start notes which runs it added.
"""

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from data.dataset import Dataset
from errors import InputError
from experiment.folder import Experiment, Run
from files import write_checked
from machine import device_name
from model.describe import parameter_table
from model.gpt import GPT
from training.growth import begun
from training.job import Job


def recorded(experiment: Experiment, dataset: Dataset, init: dict | None) -> dict[str, Any] | None:
    """What the starts before this one recorded; None where no run has a checkpoint yet.

    Args:
        init: name and checksum of the GPT-2 that runs start from.

    Raises:
        InputError: the data or that GPT-2 is not what the experiment began with.
    """
    if not begun(experiment.path) or not (experiment.path / "environment.json").exists():
        return None
    held = experiment.environment
    if held["data_hash"] != dataset.hash:
        raise InputError(
            f"{experiment.path}: the corpus has changed since this experiment began (data hash "
            f"{held['data_hash'][:12]} → {dataset.hash[:12]}); put it back, or give another --out_dir"
        )
    if (held.get("init") or {}).get("sha256") != (init or {}).get("sha256"):
        raise InputError(
            f"{experiment.path}: the weights of --init {experiment.config.model.init} have changed since this "
            "experiment began; put them back, or give another --out_dir"
        )
    return held


def with_this_start(job: Job, asked: Sequence[Run], known: Sequence[Run], before: dict | None) -> list[dict[str, Any]]:
    """All starts, each with the names of the runs that it added; `known`: the runs that the folder held before."""
    starts = [dict(start) for start in (before or {}).get("starts", [])]
    if known and not any("added" in start for start in starts):  # of another version, or lost: all by the first
        starts = [{**(starts or [{}])[0], "added": [run.name for run in known]}, *starts[1:]]
    named = {name for start in starts for name in start.get("added", ())}
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(job.device),
        **job.settings.facts(job.device),
        "ranks": job.ranks.size,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "commit": commit(),
    }
    if added := [run.name for run in asked if run.name not in named]:
        start["added"] = added
    return [*starts, start]


def commit() -> str | None:
    """The commit of this program's checkout, with a + where files beside docs/ were changed; None where it is none."""
    root = Path(__file__).parent.parent
    git = ["git", f"--git-dir={root / '.git'}", f"--work-tree={root}"]

    def said(*argv: str) -> str:
        done = subprocess.run([*git, *argv], capture_output=True, text=True, timeout=10, check=True, cwd=root)
        return done.stdout.strip()

    try:
        changed = said("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
        return said("describe", "--always", "--exclude=*") + "+" * bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None


def record(job: Job, init: dict | None, starts: list[dict[str, Any]]) -> None:
    """Write environment.json; the last of `starts` is this one."""
    with torch.device("meta"):  # shapes without data
        model = GPT(job.config.model, job.vocab_size, [job.config.head_counts[0]])
    facts = {
        **{key: value for key, value in starts[-1].items() if key != "added"},
        "init": init,
        "data_hash": job.dataset.hash,
        "n_documents": job.dataset.n_documents,
        "train_tokens": len(job.dataset.train),
        "val_tokens": len(job.dataset.val),
        "val_bytes": job.dataset.val_bytes,
        "vocab_size": job.vocab_size,
        "parameters": model.n_parameters(),
        "parameter_table": parameter_table(model),
        "starts": starts,
    }
    write_checked(job.experiment.path / "environment.json", facts)
