"""Checkpoints of single runs as they are read: the model, the optimizer's moments and a state with their checksums.

A damaged one is passed over, and said so. Only safetensors and JSON are read back. training/checkpoint.py writes them.
"""

import logging
import typing
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from errors import InputError
from experiment.folder import LINE, METRICS, Run, checkpoint_iteration
from experiment.values import require
from files import read_checked, sha256

log = logging.getLogger("headcount")

WEIGHTS, MOMENTS = "model.safetensors", "optimizer.safetensors"
FILES = (WEIGHTS, MOMENTS, METRICS)


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


def load_weights(run: Run, iteration: int | None = None) -> tuple[State, dict[str, Tensor]] | None:
    """Where the run stands and its weights (GPT-2's names), of a good checkpoint; None where it has none.

    iteration: of the checkpoint of this step; None: of the newest. Raises InputError where there is no such one.
    """
    good = good_iterations(run)
    if iteration is None:
        iteration = next(iter(good), None)
    elif iteration not in good:
        kept = f"it has {', '.join(map(str, good))}" if good else "it has none"
        raise InputError(f"{run.path}: no checkpoint of iteration {iteration}; {kept}")
    return None if iteration is None else (good[iteration], load_file(checkpoint_folder(run, iteration) / WEIGHTS))


def checkpoint_folder(run: Run, iteration: int) -> Path:
    return run.path / "checkpoints" / f"iter-{iteration:06d}"
