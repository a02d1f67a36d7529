"""Carry out an experiment: check everything, make or continue the run folder, train every stack to the end."""

import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from data.dataset import Dataset, prepare
from data.tokenizers import load_tokenizer
from data.tokenizers.export import hf_files
from errors import InputError, WorkError
from experiment.checkpoint import good_iterations
from experiment.config import Config
from experiment.folder import Experiment, Run, refuse_links
from experiment.pretrained import check_init, check_vocabulary, given_tokenizer, open_pretrained, other_split
from files import make_folder, remove_folder, remove_temporaries, write_folder, write_text
from machine import free_bytes, pick_device, subnormals_flushed
from training import checkpoint
from training.growth import asked_for, begun, examine, generations
from training.job import Job
from training.loggers import Loggers
from training.loop import Stack
from training.memory import out_of_memory
from training.plan import Stacks, cut, plan
from training.progress import Progress
from training.ranks import Group, Ranks
from training.record import record, recorded, with_this_start
from training.settings import ExecutionSettings, choose, keep_freed_memory
from training.signals import Signals
from training.validation import Validation

log = logging.getLogger("headcount")


@subnormals_flushed()
def train_experiment(
    config: Config,
    path: Path,
    device_name: str = "auto",
    loggers: Loggers | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008
) -> Experiment:
    """Train every run of the experiment that is not finished, in the folder `path`; `loggers` get what it measures.

    ranks: the processes that carry it out together; this is the first, and the others `follow`.

    Raises:
        InputError: the folder holds another config or other data, or the config does not fit the data.
        WorkError: there is no room in memory or on the disk.
        Interrupted: by a signal, after a checkpoint.
    """
    device = on(device_name, ranks)
    examine(path, config)  # before the corpus is prepared, which may take long
    dataset = prepare(config.data, given=given_tokenizer(config))
    dataset.require(config.model.block_size)
    init = open_init(config, dataset)

    def check() -> tuple[Job, list[Run], list[dict]]:
        """The job, the runs that are asked for, and all starts. Nothing is written."""
        experiment, known = examine(path, config)
        before = recorded(experiment, dataset, init)
        settings = choose(config, dataset.tokenizer.vocab_size, device, before)
        job = Job(experiment, dataset, device, settings, loggers or Loggers(), ranks)
        asked = asked_for(experiment, config)
        refuse_links_in(experiment)
        if not all(run.finished for run in asked):
            require_room(job)
        return job, asked, with_this_start(job, asked, known, before)

    check()
    with locked(path):
        job, asked, starts = check()  # again, as another process may have been here
        rounds = planned(job, generations(asked, starts))
        record(job, init, starts)
        make_ready(job, asked)
        to_train = [part for round_ in rounds for part in round_.left()]
        unfinished = {run for runs, _ in to_train for run in runs}
        for run in asked:
            if run not in unfinished:
                checkpoint.put_back(run, run.max_iters)
        say_what_rests(job.experiment, asked)
        if to_train:
            announce(job, to_train)
            ranks.share(
                {
                    "path": str(path),
                    "settings": asdict(job.settings),
                    "device": device.type,
                    "loggers": job.loggers.names,
                    "data_hash": dataset.hash,
                    "rounds": [round_.named() for round_ in rounds],
                }
            )
            train(job, rounds)
        else:
            unseen = "; --log shows only what is trained with it" * bool(job.loggers.names)
            log.info(f"{path}: all {len(asked)} runs are finished{unseen}")
    return job.experiment


@subnormals_flushed()
def follow(ranks: Ranks) -> None:
    """What torchrun's other processes do: train what the first one deals, until it has no more."""
    while (shared := ranks.share(None)) is not None:
        experiment, settings = Experiment.open(shared["path"]), ExecutionSettings(**shared["settings"])
        runs = {run.name: run for run in experiment.runs}
        rounds = [Round.of_names(named, runs) for named in shared["rounds"]]
        device = on(shared["device"], ranks)
        dataset = prepare(experiment.config.data, progress=False, given=given_tokenizer(experiment.config))
        if dataset.hash != shared["data_hash"]:
            raise InputError(
                f"data: another corpus on this machine ({platform.node()}) than on the first; put it right"
            )
        loggers = Loggers(shared["loggers"])
        try:
            train(Job(experiment, dataset, device, settings, loggers, ranks), rounds)
        finally:
            loggers.finish()


def on(device_name: str, ranks: Ranks) -> torch.device:
    """The device of that name, made ready."""
    device = ranks.device(pick_device(device_name))
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # streams and graphs are made on the current one
    keep_freed_memory()
    return device


@dataclass(frozen=True)
class Round:
    """Runs that are trained before others: of one of an experiment's `generations`."""

    stacks: list[Stacks]
    """What is left of each stack."""
    n_group: int
    """Groups of ranks that take them in turn."""

    def left(self) -> Stacks:
        return [part for stack in self.stacks for part in stack]

    def named(self) -> dict[str, Any]:
        """What the other ranks are told of it: runs by their names."""
        stacks = [[([run.name for run in runs], start) for runs, start in stack] for stack in self.stacks]
        return {"stacks": stacks, "n_group": self.n_group}

    @classmethod
    def of_names(cls, named: Mapping[str, Any], runs: Mapping[str, Run]) -> "Round":
        """The round that `named` tells of."""
        stacks = [[([runs[name] for name in names], start) for names, start in stack] for stack in named["stacks"]]
        return cls(stacks, named["n_group"])


def planned(job: Job, parts: Sequence[Sequence[Run]]) -> list[Round]:
    """A round for each part of the runs of which something is left to train."""
    rounds = []
    for runs in parts:
        n_stack, n_group = cut(len(runs), job.settings.stack_size, job.ranks.size, job.config.train.sequences)
        rounds.append(Round(stacks_of(runs, n_stack), n_group))
    return [round_ for round_ in rounds if round_.left()]


def stacks_of(runs: Sequence[Run], n_stack: int) -> list[Stacks]:
    """See `plan`: by the checkpoints that are there."""
    return plan(runs, {run: good_iterations(run) for run in runs}, n_stack)


def train(job: Job, rounds: Sequence[Round]) -> None:
    """Train one round after another. Each rank trains what it is dealt, and waits for the others."""
    job.loggers.open(job.experiment)
    for round_ in rounds:
        own, group = job.ranks.deal(round_.stacks, round_.n_group, job.config.train.sequences, job.device.type)
        everywhere = round_.left()
        while not fits_in_memory(job, own, everywhere, group):
            size = max(len(runs) for runs, _ in own)
            if size == 1:
                raise WorkError(too_large(job))
            if group.size > 1:
                raise WorkError(f"out of memory with {size} runs at once; give --train.stack {size // 2}")
            if job.device.type == "cuda":
                torch.cuda.empty_cache()
            log.warning(f"out of memory with {size} runs at once: going on with {size // 2} from the last checkpoint")
            halves = Round([half for runs, _ in own for half in stacks_of(runs, -(-len(runs) // (size // 2)))], 1)
            own = everywhere = halves.left()


def fits_in_memory(job: Job, stacks: Stacks, everywhere: Stacks, group: Group) -> bool:
    """Train every stack to its end, and wait for the other ranks; False where one ran out of memory."""
    try:
        validation = Validation(job.dataset, job.config.model.block_size, job.device, group)
        with Progress(job, stacks, everywhere, group.index == 0) as progress:
            for number, (runs, start) in enumerate(stacks, 1):
                progress.begin(number, runs)
                Stack(job, runs, start, group).train(validation, progress)
            with Signals() as signals:
                job.ranks.wait(lambda: progress.wait(signals))
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return False
    return True


def open_init(config: Config, dataset: Dataset) -> dict | None:
    """Facts of the GPT-2 that runs start from, checked against the config and the corpus; None without one."""
    if config.model.init is None:
        return None
    source = open_pretrained(config.model.init)
    check_init(config.model, source)
    check_vocabulary(source, dataset.tokenizer)
    if warning := other_split(source, config.head_counts):
        log.warning(warning)
    return {"source": source.name, "sha256": source.sha256(), "n_head": source.config.n_head}


def require_room(job: Job) -> None:
    """Raises WorkError where the CPU has no room for one run: Linux would promise it, and kill the program later.

    A GPU refuses what it does not have.
    """
    if job.device.type == "cpu" and job.bytes_of_a_run() > free_bytes(job.device):
        raise WorkError(too_large(job))


def too_large(job: Job) -> str:
    return (
        f"out of memory: one run needs about {job.bytes_of_a_run() / 2**30:.1f} GiB on {job.device}, which has "
        f"{free_bytes(job.device) / 2**30:.1f} GiB free; lower train.batch_size (and raise "
        "train.gradient_accumulation_steps), model.block_size or model.n_embd"
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Make the folder and hold its lock, which the system frees when the process ends, however it ends."""
    make_folder(path, "--out_dir")
    refuse_links(path / ".lock")
    try:
        with FileLock(path / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"{path}: another process is training here; wait for it, or give --out_dir") from None


def refuse_links_in(experiment: Experiment) -> None:
    """Raises InputError where a folder that is written into is a link that leads elsewhere."""
    for run in experiment.runs:
        refuse_links(run.path, run.path / "checkpoints")
    refuse_links(*(experiment.path / name for name in ("figures", "tensorboard", "wandb")))


def make_ready(job: Job, asked: Sequence[Run]) -> None:
    """Write the config and the tokenizer into the folder; remove what writers that were killed left."""
    path = job.experiment.path
    if not begun(path):
        for folder in set(path.glob("h*-seed*")) - {run.path for run in asked}:  # of a config that nothing came of
            if folder.is_dir() and not folder.is_symlink():
                remove_folder(folder)
    for folder in (path, *(folder for run in asked for folder in (run.path, run.path / "checkpoints"))):
        remove_temporaries(folder)
    Experiment.create(path, job.config)
    keep_tokenizer(path / "tokenizer", job.dataset)
    write_hf_tokenizer(job, asked)


def keep_tokenizer(folder: Path, dataset: Dataset) -> None:
    """Write the tokenizer, where the folder does not hold it."""
    if folder.exists():
        try:
            if load_tokenizer(folder).definition == dataset.tokenizer.definition:
                return
            log.warning(f"{folder}: another tokenizer than that of the data; put back")
        except InputError as error:
            log.warning(f"{error}; put back")
    write_folder(folder, dataset.tokenizer.save)


def write_hf_tokenizer(job: Job, runs: Sequence[Run]) -> None:
    """Put the tokenizer as transformers reads it into the runs' folders, where it is not there as it should be."""
    for name, text in hf_files(job.dataset.tokenizer, job.config.model.block_size).items():
        for run in runs:
            run.path.mkdir(parents=True, exist_ok=True)
            target = run.path / name
            if not target.exists() or target.read_bytes() != text.encode("utf-8"):
                write_text(target, text)


def say_what_rests(experiment: Experiment, asked: Sequence[Run]) -> None:
    """Name the runs of the folder that this command does not ask for."""
    rest = [run for run in experiment.runs if run not in asked]
    for has_begun, what in ((True, "left as they are"), (False, "not trained")):
        if names := [run.name for run in rest if bool(run.checkpoints()) == has_begun]:
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            log.info(f"not asked for, and {what}: {', '.join(names[:6])}{more}")


def announce(job: Job, stacks: Stacks) -> None:
    """Say what will be trained, and how."""
    config, settings, data = job.config, job.settings, job.dataset
    runs = [run for together, _ in stacks for run in together]
    heads, seeds = sorted({run.n_head for run in runs}), {run.seed for run in runs}
    at_once = max(len(together) for together, _ in stacks)
    log.info(
        f"{config.name}: {len(runs)} runs, H in {', '.join(map(str, heads))}, "
        f"{len(seeds)} seed{'s' * (len(seeds) > 1)}, {job.experiment.environment['parameters']:,} parameters each, "
        f"on {job.device} in {settings.precision}"
        + ", compiled" * settings.compile
        + f", {at_once} at once" * (at_once < len(runs))
    )
    log.info(
        f"data: {len(data.train):,} tokens to train on, {len(data.val):,} to validate on, vocabulary {job.vocab_size}"
    )
    if config.model.dropout > 0 and config.model.attention == "sdpa":
        log.info("dropout > 0: attention is eager, as each run draws its own dropout of the patterns")
    if config.train.warmup_iters >= config.train.max_iters:
        log.warning(
            f"train.warmup_iters {config.train.warmup_iters} is not below train.max_iters {config.train.max_iters}: "
            "the learning rate never reaches its full value"
        )
    if any(start for _, start in stacks):
        log.info("going on from iteration " + ", ".join(str(start) for _, start in stacks))
