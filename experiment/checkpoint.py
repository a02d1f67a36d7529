"""Checkpoints of single runs: a folder with the model, the optimizer and a state that holds their checksums.

A checkpoint belongs to a run, not to the stack it trained in. Two are kept; a damaged one is passed over, and said so.
Only safetensors and JSON are read back.
"""

import json
import logging
import shutil
import typing
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from errors import InputError, WorkError
from experiment.folder import LINE, METRICS, Run, checkpoint_iteration, refuse_links, verified
from experiment.shapes import require
from files import link_or_copy, read_bytes, read_checked, remove_folder, sha256, write_checked, write_folder, write_json
from model.gpt import GPT
from model.gpt2 import gpt2_config, gpt2_tensors, load_gpt2_tensors
from training.optimizer import StackedAdamW

log = logging.getLogger("headcount")

KEEP = 2
WEIGHTS, AVERAGES = "model.safetensors", "optimizer.safetensors"
FILES = (WEIGHTS, AVERAGES, METRICS)


@dataclass
class State:
    """Where a run stands, besides its tensors."""

    iteration: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0  # of the training losses since the last line of metrics.jsonl
    loss_count: int = 0
    diverged: int | None = None
    unmeasured: dict | None = None  # this step's line of metrics.jsonl, where its measurement was interrupted


def save(run: Run, model: GPT, optimizer: StackedAdamW, place: int, state: State, eot: int | None) -> None:
    """Write run `run`, which is row `place` of the stack, as it stands; keep this checkpoint and the one before."""
    target = _folder(run, state.iteration)
    config = gpt2_config(model, place, eot)

    def fill(folder: Path) -> None:
        save_file(gpt2_tensors(model, place), folder / WEIGHTS, metadata={"format": "pt"})
        save_file(optimizer.state(place), folder / AVERAGES)
        shutil.copyfile(run.path / METRICS, folder / METRICS)
        checksums = {name: sha256(folder / name) for name in FILES}
        write_checked(folder / "state.json", {**asdict(state), "config": config, "sha256": checksums})

    inside(run)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        write_folder(target, fill)
        write_json(run.path / "config.json", config)
        link_or_copy(target / WEIGHTS, run.path / WEIGHTS)
        for old in run.checkpoints()[KEEP:]:
            remove_folder(old)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise WorkError(
            f"{target}: cannot write the checkpoint: {reason}; "
            "make room, and the same command goes on from the last good one"
        ) from None


def inside(run: Run) -> None:
    """Raises InputError where the run's folders are links that would lead a writer out of the experiment."""
    refuse_links(run.path, run.path / "checkpoints")


def restore(run: Run, iteration: int) -> None:
    """Make the run's own files those of its checkpoint of step `iteration`, its newest good one, where they are not."""
    inside(run)
    _forget_newer(run, iteration)
    folder = _folder(run, iteration)
    config = read_checked(folder / "state.json")["config"]
    wanted = {WEIGHTS: read_bytes(folder / WEIGHTS), METRICS: verified(folder, METRICS)}
    wanted["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    for name, content in wanted.items():
        file = run.path / name
        if file.is_file() and not file.is_symlink() and file.read_bytes() == content:
            continue
        log.warning(f"{file}: not that of {folder.name}; put back")
        if name == "config.json":
            write_json(file, config)
        else:  # metrics grow: never a link
            link_or_copy(folder / name, file, link=name == WEIGHTS)


def verify(folder: Path) -> State:
    """The state of a checkpoint whose files are what was written.

    Raises:
        ValueError: it is damaged; the message names the file.
    """
    try:
        values = read_checked(folder / "state.json")
        require(values, typing.get_type_hints(State) | {"config": dict, "sha256": dict[str, str]})
        state = State(**{name: values[name] for name in State.__dataclass_fields__ if name in values})
        if state.unmeasured is not None:
            require(state.unmeasured, LINE, float | None)
        for name in FILES:
            if sha256(folder / name) != values["sha256"][name]:
                raise ValueError(f"{name} is damaged (checksum)")
    except FileNotFoundError as error:
        raise ValueError(f"{Path(error.filename).name} is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except (KeyError, TypeError):
        raise ValueError("state.json is of another version") from None
    if state.iteration != checkpoint_iteration(folder):
        raise ValueError(f"it is that of iteration {state.iteration}")
    return state


def good_iterations(run: Run) -> dict[int, State]:
    """The steps of which the run has an undamaged checkpoint, newest first, with their states.

    Raises:
        InputError: it has checkpoints, and every one is damaged.
    """
    checkpoints = run.checkpoints()
    good = {}
    for folder in checkpoints:
        try:
            good[checkpoint_iteration(folder)] = verify(folder)
        except ValueError as error:
            log.warning(f"{folder}: {error}; passed over")
    if checkpoints and not good:
        raise InputError(f"{run.path / 'checkpoints'}: every checkpoint is damaged; remove {run.path} to start it over")
    return good


def load_weights(run: Run) -> tuple[State, dict[str, Tensor]] | None:
    """Where the run stands and its weights (GPT-2's names), of the newest good checkpoint; None where it has none."""
    for iteration, state in good_iterations(run).items():
        return state, load_file(_folder(run, iteration) / WEIGHTS)
    return None


def load(run: Run, model: GPT, optimizer: StackedAdamW, place: int, iteration: int) -> State:
    """Put the checkpoint of step `iteration`, found good before, into row `place` of the stack; 0 needs none.

    Raises:
        InputError: the checkpoint does not fit the model.
    """
    inside(run)
    _forget_newer(run, iteration)
    if iteration == 0:
        return State()
    folder = _folder(run, iteration)
    try:
        state = verify(folder)
        load_gpt2_tensors(model, place, load_file(folder / WEIGHTS))
        optimizer.load_state(place, load_file(folder / AVERAGES), state.iteration)
    except ValueError as error:
        raise InputError(f"{folder}: does not fit this config: {error}") from None
    return state


def _forget_newer(run: Run, iteration: int) -> None:
    """Remove checkpoints of later steps: they are damaged, or not common to the stack, and are made again."""
    for newer in run.checkpoints():
        if checkpoint_iteration(newer) > iteration:
            remove_folder(newer)


def _folder(run: Run, iteration: int) -> Path:
    return run.path / "checkpoints" / f"iter-{iteration:06d}"
