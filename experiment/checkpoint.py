"""Checkpoints of single runs: a folder with the model, the optimizer and a state that holds their checksums.

A checkpoint belongs to a run, not to the stack it trained in. Two are kept; a damaged one is passed over, and said so.
Only safetensors and JSON are read back.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from errors import InputError
from experiment.folder import Run, checkpoint_iteration
from experiment.optimizer import StackedAdamW
from files import link_or_copy, sha256, write_folder, write_json
from model.gpt import GPT
from model.gpt2 import gpt2_config, gpt2_tensors, load_gpt2_tensors

KEEP = 2
FILES = ("model.safetensors", "optimizer.safetensors")


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
    target = run.path / "checkpoints" / f"iter-{state.iteration:06d}"
    config = gpt2_config(model, place, eot)

    def fill(folder: Path) -> None:
        save_file(gpt2_tensors(model, place), folder / FILES[0], metadata={"format": "pt"})
        save_file(optimizer.state(place), folder / FILES[1])
        checksums = {name: sha256(folder / name) for name in FILES}
        write_json(folder / "state.json", {**asdict(state), "config": config, "sha256": checksums})

    run.path.mkdir(parents=True, exist_ok=True)
    write_folder(target, fill)
    write_json(run.path / "config.json", config)
    link_or_copy(target / FILES[0], run.path / FILES[0])
    for old in run.checkpoints()[KEEP:]:
        shutil.rmtree(old)


def read(folder: Path, names: tuple[str, ...] = FILES) -> tuple[dict, list[dict]]:
    """The state and the tensors of the named files of one checkpoint.

    Raises:
        ValueError: the checkpoint is damaged; the message names the file.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        for name in names:
            if sha256(folder / name) != state["sha256"][name]:
                raise ValueError(f"{name} is damaged (checksum)")
        return state, [load_file(folder / name) for name in names]
    except (OSError, KeyError, TypeError, SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read ({type(error).__name__})") from None


def newest(run: Run, names: tuple[str, ...] = FILES, say: Callable[[str], object] = print, only: int | None = None):
    """(state, tensors) of the newest good checkpoint (of step `only`, where given), or None where there is none.

    Raises:
        InputError: every checkpoint is damaged.
    """
    checkpoints = [p for p in run.checkpoints() if only in (None, checkpoint_iteration(p))]
    for folder in checkpoints:
        try:
            return read(folder, names)
        except ValueError as error:
            say(f"{folder}: {error}; passed over")
    if checkpoints:
        raise InputError(f"{run.path / 'checkpoints'}: every checkpoint is damaged; remove the folder to start over")
    return None


def load(run: Run, model: GPT, optimizer: StackedAdamW, place: int, iteration: int) -> State:
    """Put the checkpoint of step `iteration` of run `run` into row `place`; iteration 0 needs none.

    Raises:
        InputError: the checkpoint does not fit the model.
    """
    found = newest(run, only=iteration) if iteration else None
    if found is None:
        return State()
    values, (weights, averages) = found
    state = State(**{name: values[name] for name in State.__dataclass_fields__})
    try:
        load_gpt2_tensors(model, place, weights)
        optimizer.load_state(place, averages, state.iteration)
    except ValueError as error:
        raise InputError(f"{run.path}: the checkpoint does not fit this config: {error}") from None
    return state
