"""Carry out an experiment: prepare the data, make or continue the run folder, train every stack to the end."""

import fcntl
import os
import platform
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch

from data.packed import Dataset, prepare
from errors import InputError
from experiment.config import Config, differences
from experiment.device import pick_device
from experiment.folder import MAY_CHANGE, Experiment
from experiment.training import Stack, plan
from experiment.validation import Validation
from files import write_folder, write_json
from model.describe import parameter_table
from model.gpt import GPT


def train_experiment(
    config: Config, path: Path, device_name: str = "auto", say: Callable[[str], object] = print
) -> Experiment:
    """Train every run of the experiment that is not finished, in the folder `path`.

    Raises:
        InputError: the folder holds another config or other data, or the config does not fit the data.
        Interrupted: by a signal, after a checkpoint.
    """
    device = pick_device(device_name)
    precision = config.train.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    if (path / "config.yaml").exists():
        held = Experiment.open(path).config
        if changed := differences(held, config, MAY_CHANGE):
            raise InputError(
                f"{path} holds another experiment ({'; '.join(changed)})\n"
                "give this one another --name or --out_dir, or remove the folder"
            )
    dataset = prepare(config.data)
    dataset.require(config.model.block_size)
    with _locked(path):
        experiment = Experiment.create(path, config)
        _record(experiment, dataset, device, precision)
        if not (path / "tokenizer").exists():
            write_folder(path / "tokenizer", dataset.tokenizer.save)
        size = len(experiment.runs) if config.train.stack == "auto" else config.train.stack
        stacks = plan(experiment.runs, size, say)
        if not stacks:
            say(f"{path}: all {len(experiment.runs)} runs are finished")
            return experiment
        _announce(experiment, dataset, device, precision, stacks, say)
        validation = Validation(dataset, config.model.block_size, device)
        for number, (runs, start) in enumerate(stacks, 1):
            stack = Stack(runs, config, dataset, device, precision, start)
            stack.train(validation, say, f"stack {number}/{len(stacks)}" if len(stacks) > 1 else "training")
    return experiment


@contextmanager
def _locked(path: Path):
    """Hold the folder's lock, which the system frees when the process ends, however it ends."""
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process is training here; wait for it, or give --out_dir") from None
        yield


def _record(experiment: Experiment, dataset: Dataset, device: torch.device, precision: str) -> None:
    """Write environment.json; where there is one already, check that the data is the same and add this start."""
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} ({platform.machine()})",
        "precision": precision,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "stack": experiment.config.train.stack,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    file = experiment.path / "environment.json"
    starts = []
    if file.exists():
        held = experiment.environment
        if held["data_hash"] != dataset.hash:
            raise InputError(
                f"{experiment.path}: the corpus has changed since this experiment began (data hash "
                f"{held['data_hash'][:12]} → {dataset.hash[:12]}); put it back, or give another --out_dir"
            )
        starts = held["starts"]
    model = GPT(experiment.config.model, dataset.tokenizer.vocab_size, [experiment.config.head_counts[0]])
    facts = {
        **start,
        "data_hash": dataset.hash,
        "train_tokens": len(dataset.train),
        "val_tokens": len(dataset.val),
        "val_bytes": dataset.val_bytes,
        "vocab_size": dataset.tokenizer.vocab_size,
        "parameters": model.n_parameters(),
        "parameter_table": parameter_table(model),
        "starts": [*starts, start],
    }
    write_json(file, facts)


def _announce(experiment: Experiment, dataset: Dataset, device: torch.device, precision: str, stacks, say) -> None:
    config = experiment.config
    say(
        f"{config.name}: {len(experiment.runs)} runs, H in {', '.join(map(str, config.head_counts))}, "
        f"{len(config.sweep.seed)} seed{'s' * (len(config.sweep.seed) > 1)}, "
        f"{experiment.environment['parameters']:,} parameters each, on {device} in {precision}"
    )
    say(
        f"data: {len(dataset.train):,} tokens to train on, {len(dataset.val):,} to validate on, "
        f"vocabulary {dataset.tokenizer.vocab_size}"
    )
    if config.model.dropout > 0 and config.model.attention == "sdpa":
        say("dropout > 0: training attends with the explicit core, whose dropout each run draws for itself")
    if any(start for _, start in stacks):
        say("going on from iteration " + ", ".join(str(start) for _, start in stacks))
