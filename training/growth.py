"""Experiments that grow: a sweep takes more values, what is trained stays, and only what is missing is trained."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from errors import InputError
from experiment.config import Config, SweepConfig, check, differences
from experiment.folder import MAY_CHANGE, Experiment, Run

AXES = ("n_head", "seed", "learning_rate", "weight_decay")
GROWS = ("model.n_head", *(f"sweep.{axis}" for axis in AXES))


def begun(path: Path) -> bool:
    """Whether a run of the folder has a checkpoint."""
    return any(path.glob("*/checkpoints/iter-*"))


def examine(path: Path, config: Config) -> tuple[Experiment, list[Run]]:
    """The experiment that the folder is to hold, which is what it holds and what `config` adds; and its runs until now.

    Raises:
        InputError: it holds another one: they differ in more than the values of sweeps.
    """
    if not begun(path):
        return Experiment(path, config), []
    if not (path / "config.yaml").exists():
        raise InputError(f"{path} holds checkpoints and no config.yaml; put that back, or give another --out_dir")
    held = Experiment.open(path)
    if changed := differences(held.config, config, (*MAY_CHANGE, *GROWS)):
        rates = [
            key for key in ("learning_rate", "weight_decay") if any(c.startswith(f"train.{key}:") for c in changed)
        ]
        more = "".join(f"; --sweep.{key} adds values of it here" for key in rates)
        raise InputError(
            f"{path} holds another experiment ({'; '.join(changed)})\n"
            f"give this one another --name or --out_dir, or remove the folder{more}"
        )
    return Experiment(path, extended(held.config, config)), held.runs


def axes(config: Config) -> dict[str, list]:
    """The values of each axis, also of those that are not swept."""
    sweep, train = config.sweep, config.train
    return {
        "n_head": config.head_counts,
        "seed": sweep.seed,
        "learning_rate": sweep.learning_rate or [train.learning_rate],
        "weight_decay": sweep.weight_decay or [train.weight_decay],
    }


def extended(held: Config, asked: Config) -> Config:
    """`asked` with the values of both sweeps."""
    before, after = axes(held), axes(asked)
    union = {axis: sorted({*before[axis], *after[axis]}) for axis in AXES}
    for axis in AXES:
        if len(union[axis]) == 1 and not getattr(held.sweep, axis) and not getattr(asked.sweep, axis):
            union[axis] = []  # not swept: one value, which stands elsewhere
    model = replace(asked.model, n_head=None) if union["n_head"] else asked.model
    config = replace(asked, model=model, sweep=SweepConfig(**union))
    check(config)
    return config


def asked_for(experiment: Experiment, config: Config) -> list[Run]:
    """The runs that `config` names."""
    values = axes(config)
    return [run for run in experiment.runs if all(getattr(run, axis) in values[axis] for axis in AXES)]


def seconds_of(experiment: Experiment, start: Mapping[str, Any]) -> float | None:
    """The seconds of training of all stacks that a start added; None where it added none, or one is not finished."""
    runs = [run for run in experiment.runs if run.name in start.get("added", ())]
    if not runs or not all(run.finished and run.metrics() for run in runs):
        return None
    n_stack = math.ceil(len(runs) / start.get("stack_size", len(runs)))
    return n_stack * max(run.metrics()[-1]["seconds"] for run in runs)


def generations(runs: Sequence[Run], starts: Sequence[Mapping[str, Any]]) -> list[list[Run]]:
    """Runs by the start that added them: they train with those of their own alone, as bits depend on the company."""
    found: dict[int, list[Run]] = {}
    for run in runs:
        number = next(i for i, start in enumerate(starts) if run.name in start.get("added", ()))
        found.setdefault(number, []).append(run)
    return [found[number] for number in sorted(found)]
