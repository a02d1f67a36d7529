"""environment.json: on what data, from what weights, where and how an experiment was carried out, at every start."""

import platform
from datetime import UTC, datetime
from typing import Any

import torch

from data.dataset import Dataset
from errors import InputError
from experiment.folder import Experiment
from files import write_checked
from machine import device_name
from model.describe import parameter_table
from model.gpt import GPT
from training.job import Job


def recorded(experiment: Experiment, dataset: Dataset, init: dict | None) -> dict[str, Any] | None:
    """What the starts before this one recorded; None at the first.

    Args:
        init: name and checksum of the GPT-2 that runs start from.

    Raises:
        InputError: the data or that GPT-2 is not what the experiment began with.
    """
    if not (experiment.path / "environment.json").exists():
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


def record(job: Job, init: dict | None, before: dict[str, Any] | None) -> None:
    """Write this start, after those `before` it."""
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(job.device),
        **job.settings.facts(job.device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    with torch.device("meta"):  # shapes without data
        model = GPT(job.config.model, job.vocab_size, [job.config.head_counts[0]])
    facts = {
        **start,
        "init": init,
        "data_hash": job.dataset.hash,
        "train_tokens": len(job.dataset.train),
        "val_tokens": len(job.dataset.val),
        "val_bytes": job.dataset.val_bytes,
        "vocab_size": job.vocab_size,
        "parameters": model.n_parameters(),
        "parameter_table": parameter_table(model),
        "starts": [*(before or {}).get("starts", []), start],
    }
    write_checked(job.experiment.path / "environment.json", facts)
