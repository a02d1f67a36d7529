"""Checkpoints of single runs: a folder with the model, the optimizer and a state that holds their checksums.

A checkpoint belongs to a run, not to the stack it trained in. Two are kept; a damaged one is passed over, and said so.
Only safetensors and JSON are read back.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from errors import InputError
from experiment.folder import Run, checkpoint_iteration
from experiment.optimizer import StackedAdamW
from files import link_or_copy, sha256, write_folder, write_json
from model.gpt import GPT
from model.gpt2 import gpt2_config, gpt2_tensors, load_gpt2_tensors

KEEP = 2
WEIGHTS, AVERAGES = "model.safetensors", "optimizer.safetensors"


@dataclass
class State:
    """Where a run stands, besides its tensors."""

    iteration: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0  # of the training losses since the last line of metrics.jsonl
    loss_count: int = 0
    diverged: int | None = None


def save(run: Run, model: GPT, optimizer: StackedAdamW, place: int, state: State, eot: int | None) -> None:
    """Write run `run`, which is row `place` of the stack, as it stands; keep this checkpoint and the one before."""
    target = _folder(run, state.iteration)
    config = gpt2_config(model, place, eot)

    def fill(folder: Path) -> None:
        save_file(gpt2_tensors(model, place), folder / WEIGHTS, metadata={"format": "pt"})
        save_file(optimizer.state(place), folder / AVERAGES)
        checksums = {name: sha256(folder / name) for name in (WEIGHTS, AVERAGES)}
        write_json(folder / "state.json", {**asdict(state), "config": config, "sha256": checksums})

    run.path.mkdir(parents=True, exist_ok=True)
    write_folder(target, fill)
    write_json(run.path / "config.json", config)
    link_or_copy(target / WEIGHTS, run.path / WEIGHTS)
    for old in run.checkpoints()[KEEP:]:
        shutil.rmtree(old)


def verify(folder: Path) -> State:
    """The state of a checkpoint whose files are what was written.

    Raises:
        ValueError: it is damaged; the message names the file.
    """
    try:
        values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        state = State(**{name: values[name] for name in State.__dataclass_fields__})
        for name in (WEIGHTS, AVERAGES):
            if sha256(folder / name) != values["sha256"][name]:
                raise ValueError(f"{name} is damaged (checksum)")
    except FileNotFoundError as error:
        raise ValueError(f"{Path(error.filename).name} is missing") from None
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError("state.json is damaged") from None
    return state


def good_iterations(run: Run, say: Callable[[str], object] = print) -> list[int]:
    """The steps of which the run has an undamaged checkpoint, newest first.

    Raises:
        InputError: it has checkpoints, and every one is damaged.
    """
    checkpoints = run.checkpoints()
    good = []
    for folder in checkpoints:
        try:
            verify(folder)
            good.append(checkpoint_iteration(folder))
        except ValueError as error:
            say(f"{folder}: {error}; passed over")
    if checkpoints and not good:
        raise InputError(f"{run.path / 'checkpoints'}: every checkpoint is damaged; remove {run.path} to start it over")
    return good


def load_weights(run: Run, say: Callable[[str], object] = print) -> tuple[State, dict[str, Tensor]] | None:
    """Where the run stands and its weights (GPT-2's names), of the newest good checkpoint; None where it has none."""
    for iteration in good_iterations(run, say):
        folder = _folder(run, iteration)
        return verify(folder), load_file(folder / WEIGHTS)
    return None


def load(run: Run, model: GPT, optimizer: StackedAdamW, place: int, iteration: int) -> State:
    """Put the checkpoint of step `iteration`, found good before, into row `place` of the stack; 0 needs none.

    Raises:
        InputError: the checkpoint does not fit the model.
    """
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


def _folder(run: Run, iteration: int) -> Path:
    return run.path / "checkpoints" / f"iter-{iteration:06d}"
