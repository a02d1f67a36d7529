"""Carry out an experiment: prepare the data, make or continue the run folder, train every stack to the end."""

import fcntl
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch

from data.dataset import Dataset, prepare
from data.tokenizers import fingerprint, load_tokenizer
from data.tokenizers.huggingface import hf_files
from errors import InputError, WorkError
from experiment.config import Config, differences
from experiment.folder import MAY_CHANGE, Experiment, Run, refuse_links
from experiment.pretrained import check_init, check_vocabulary, open_pretrained, other_split
from files import link_or_copy, make_folder, remove_temporaries, write_checked, write_folder, write_text
from machine import device_name, pick_device
from model.describe import parameter_table
from model.gpt import GPT
from training.loggers import Loggers
from training.loop import Stack, plan
from training.memory import ample_bytes, bytes_of_a_run, free_bytes, out_of_memory
from training.settings import Speed, as_facts, choose, keep_freed_memory
from training.validation import Validation

log = logging.getLogger("headcount")

Stacks = Sequence[tuple[list[Run], int]]
"""Runs that train together, and the step that they go on from."""


def train_experiment(
    config: Config,
    path: Path,
    device_name: str = "auto",
    loggers: Loggers | None = None,
) -> Experiment:
    """Train every run of the experiment that is not finished, in the folder `path`; `loggers` get what it measures.

    Raises:
        InputError: the folder holds another config or other data, or the config does not fit the data.
        Interrupted: by a signal, after a checkpoint.
    """
    device = pick_device(device_name)
    keep_freed_memory()
    if (path / "config.yaml").exists():
        held = Experiment.open(path).config
        if changed := differences(held, config, MAY_CHANGE):
            raise InputError(
                f"{path} holds another experiment ({'; '.join(changed)})\n"
                "give this one another --name or --out_dir, or remove the folder"
            )
    dataset = prepare(config.data)
    dataset.require(config.model.block_size)
    init = _open_init(config, dataset)
    with _locked(path):
        experiment = Experiment.create(path, config)
        folders = [folder for run in experiment.runs for folder in (run.path, run.path / "checkpoints")]
        refuse_links(*folders, *(path / name for name in ("figures", "tensorboard", "wandb")))
        for folder in (path, *folders):
            remove_temporaries(folder)
        held = _held(experiment, dataset, init)
        speed = choose(config, experiment.runs, dataset.tokenizer.vocab_size, device, held)
        _keep_tokenizer(path / "tokenizer", dataset)
        _write_hf_tokenizer(experiment, dataset)
        stacks = plan(experiment.runs, speed.stack_size)
        _record(experiment, dataset, device, speed, held, init)
        if not stacks:
            unseen = "; --log shows only what is trained with it" * bool(loggers and loggers.names)
            log.info(f"{path}: all {len(experiment.runs)} runs are finished{unseen}")
            return experiment
        _require_room(experiment, dataset, device, speed)
        _announce(experiment, dataset, device, speed, stacks)
        validation = Validation(dataset, config.model.block_size, device)
        loggers = loggers or Loggers()
        loggers.open(experiment)
        while stacks:
            size = max(len(runs) for runs, _ in stacks)
            if _train(stacks, config, dataset, validation, device, speed, loggers):
                break
            if size == 1:
                raise WorkError(_too_large(experiment, dataset, device, speed))
            log.warning(f"out of memory with {size} runs at once: going on with {size // 2} from the last checkpoint")
            stacks = plan(experiment.runs, size // 2)
    return experiment


def _train(
    stacks: Stacks,
    config: Config,
    dataset: Dataset,
    validation: Validation,
    device: torch.device,
    speed: Speed,
    loggers: Loggers,
) -> bool:
    """Train every stack to its end; False where one ran out of memory."""
    for number, (runs, start) in enumerate(stacks, 1):
        try:
            stack = Stack(runs, config, dataset, device, speed, start, loggers)
            stack.train(validation, f"stack {number}/{len(stacks)}" if len(stacks) > 1 else "training")
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            stack = None
            if device.type == "cuda":
                torch.cuda.empty_cache()
            return False
    return True


def _require_room(experiment: Experiment, dataset: Dataset, device: torch.device, speed: Speed) -> None:
    """Raises WorkError where the CPU has no room for one run: Linux would promise it, and kill the program later."""
    if device.type != "cpu":
        return  # a GPU refuses what it does not have
    heads, vocab_size = experiment.runs[-1].n_head, dataset.tokenizer.vocab_size
    if ample_bytes(experiment.config, vocab_size, heads) <= free_bytes(device):
        return
    if bytes_of_a_run(experiment.config, vocab_size, heads, device, speed.precision) > free_bytes(device):
        raise WorkError(_too_large(experiment, dataset, device, speed))


def _too_large(experiment: Experiment, dataset: Dataset, device: torch.device, speed: Speed) -> str:
    heads = experiment.runs[-1].n_head
    needed = bytes_of_a_run(experiment.config, dataset.tokenizer.vocab_size, heads, device, speed.precision)
    return (
        f"out of memory: one run needs about {needed / 2**30:.1f} GiB on {device}, which has "
        f"{free_bytes(device) / 2**30:.1f} GiB free; lower train.batch_size (and raise "
        "train.gradient_accumulation_steps), model.block_size or model.n_embd"
    )


def _write_hf_tokenizer(experiment: Experiment, dataset: Dataset) -> None:
    """Put the tokenizer as transformers reads it into every run's folder, where it is not there as it should be."""
    for name, text in hf_files(dataset.tokenizer, experiment.config.model.block_size).items():
        first = None
        for run in experiment.runs:
            target = run.path / name
            if target.exists() and target.read_bytes() == text.encode("utf-8"):
                first = first or target
                continue
            run.path.mkdir(parents=True, exist_ok=True)
            if first:
                link_or_copy(first, target)
            else:
                write_text(target, text)
                first = target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system frees when the process ends, however it ends."""
    make_folder(path, "--out_dir")
    refuse_links(path / ".lock")
    lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process is training here; wait for it, or give --out_dir") from None
        yield
    finally:
        os.close(lock)


def _keep_tokenizer(folder: Path, dataset: Dataset) -> None:
    """Write the tokenizer, where the folder does not hold it."""
    if folder.exists():
        try:
            if fingerprint(load_tokenizer(folder)) == fingerprint(dataset.tokenizer):
                return
            log.warning(f"{folder}: another tokenizer than that of the data; put back")
        except InputError as error:
            log.warning(f"{error}; put back")
    write_folder(folder, dataset.tokenizer.save)


def _open_init(config: Config, dataset: Dataset) -> dict | None:
    """Facts of the GPT-2 that runs start from, checked against the config and the corpus; None without one."""
    if config.model.init is None:
        return None
    source = open_pretrained(config.model.init)
    check_init(config.model, source)
    check_vocabulary(source, dataset.tokenizer)
    if warning := other_split(source, config.head_counts):
        log.warning(warning)
    return {"source": source.name, "sha256": source.sha256(), "n_head": source.config.n_head}


def _held(experiment: Experiment, dataset: Dataset, init: dict | None) -> dict | None:
    """What environment.json holds of the starts before this one; None at the first.

    Raises:
        InputError: the data, or the GPT-2 of --init, is not what the experiment began with.
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


def _record(
    experiment: Experiment, dataset: Dataset, device: torch.device, speed: Speed, held: dict | None, init: dict | None
) -> None:
    """Write environment.json: this start, after those before it."""
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(device),
        **as_facts(speed, device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    with torch.device("meta"):  # shapes without data
        model = GPT(experiment.config.model, dataset.tokenizer.vocab_size, [experiment.config.head_counts[0]])
    facts = {
        **start,
        "init": init,
        "data_hash": dataset.hash,
        "train_tokens": len(dataset.train),
        "val_tokens": len(dataset.val),
        "val_bytes": dataset.val_bytes,
        "vocab_size": dataset.tokenizer.vocab_size,
        "parameters": model.n_parameters(),
        "parameter_table": parameter_table(model),
        "starts": [*(held.get("starts", []) if held else []), start],
    }
    write_checked(experiment.path / "environment.json", facts)


def _announce(
    experiment: Experiment,
    dataset: Dataset,
    device: torch.device,
    speed: Speed,
    stacks: Stacks,
) -> None:
    config = experiment.config
    log.info(
        f"{config.name}: {len(experiment.runs)} runs, H in {', '.join(map(str, config.head_counts))}, "
        f"{len(config.sweep.seed)} seed{'s' * (len(config.sweep.seed) > 1)}, "
        f"{experiment.environment['parameters']:,} parameters each, on {device} in {speed.precision}"
        + (", compiled" if speed.compile else "")
        + (f", {speed.stack_size} at once" if speed.stack_size < len(experiment.runs) else "")
    )
    log.info(
        f"data: {len(dataset.train):,} tokens to train on, {len(dataset.val):,} to validate on, "
        f"vocabulary {dataset.tokenizer.vocab_size}"
    )
    if config.model.dropout > 0 and config.model.attention == "sdpa":
        log.info("dropout > 0: attention is eager, as each run draws its own dropout of the patterns")
    if any(start for _, start in stacks):
        log.info("going on from iteration " + ", ".join(str(start) for _, start in stacks))
