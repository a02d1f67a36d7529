"""The plain tables that statistics, text and figures work on: a RunCurve for a run, a Study for runs that compare."""

import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field

from terminal import counted


@dataclass(frozen=True)
class RunCurve:
    """What one run measured. Losses are in nats per token; a value that was not finite is nan."""

    experiment: str  # the folder's path, as the user gave it
    name: str  # h04-seed0
    n_head: int
    seed: int
    learning_rate: float
    weight_decay: float
    iters: list[int]  # of the validation losses, ascending
    val_loss: list[float]
    train_iters: list[int]
    train_loss: list[float]
    relations: dict[str, list[float]] = field(default_factory=dict)  # validation loss by relation, one value an iter
    finished: bool = True
    iteration: int = 0  # of the newest checkpoint
    diverged: int | None = None  # the iteration
    grad_norm: list[float] = field(default_factory=list)  # before clipping, at train_iters
    lr: list[float] = field(default_factory=list)  # at train_iters

    @property
    def final_loss(self) -> float:
        """Validation loss at the last evaluation; nan where there is none."""
        return self.val_loss[-1] if self.val_loss else math.nan

    @property
    def best(self) -> tuple[float, int]:
        """Lowest validation loss and its iteration (the first one, where it is reached again)."""
        return min((loss, i) for loss, i in zip(self.val_loss, self.iters, strict=True) if math.isfinite(loss))

    def left_out(self) -> str | None:
        """Why the run takes no part in the statistics, in words; None where it does."""
        if self.diverged is not None:
            return f"diverged at iteration {self.diverged}"
        if not self.finished:
            return f"unfinished, at iteration {self.iteration}" if self.iteration else "not trained"
        if not self.val_loss:
            return "no validation loss"
        if not math.isfinite(self.final_loss):
            return "the final validation loss is not finite"
        return None


@dataclass(frozen=True)
class Study:
    """Runs that may be pooled: everything but head count, seed, learning rate and weight decay is the same."""

    name: str
    folders: list[str]
    n_embd: int
    n_layer: int
    block_size: int
    parameters: int | None  # of one run
    tokens_per_byte: float | None  # of the validation split
    settings: dict[str, object]  # what all runs share, by dotted key
    runs: list[RunCurve]
    notes: list[str]  # runs left out and the like, in words

    def title(self, setting: tuple[float, float] | None = None) -> str:
        """What a figure of these runs is headed with, in lines that fit one panel.

        setting: (learning_rate, weight_decay), where several were swept.
        """
        lines = textwrap.wrap(f"{self.name}: D = {self.n_embd}, {counted(self.n_layer, 'layer')}", 64)
        if setting:
            lines.append(f"learning rate {setting[0]:g}, weight decay {setting[1]:g}")
        return "\n".join(lines)

    def groups(self) -> dict[tuple[float, float], list[RunCurve]]:
        """Runs that take part in the statistics, by (learning_rate, weight_decay); in a group only (H, seed) varies."""
        return by_setting(run for run in self.runs if run.left_out() is None)


def by_setting(runs: Iterable[RunCurve]) -> dict[tuple[float, float], list[RunCurve]]:
    """Runs by (learning_rate, weight_decay), ascending; in a group ordered by head count and seed."""
    groups = {}
    for run in sorted(runs, key=lambda r: (r.learning_rate, r.weight_decay, r.n_head, r.seed)):
        groups.setdefault((run.learning_rate, run.weight_decay), []).append(run)
    return groups


def by_head(runs: Iterable[RunCurve]) -> dict[int, list[RunCurve]]:
    """Runs by head count, both ascending (seeds within a head count)."""
    heads = {}
    for run in sorted(runs, key=lambda r: (r.n_head, r.seed)):
        heads.setdefault(run.n_head, []).append(run)
    return heads


def relation_names(runs: Iterable[RunCurve]) -> list[str]:
    """Relations that every run measured with a finite final loss, in the order of the first run."""
    runs = list(runs)
    names = list(runs[0].relations) if runs else []
    return [n for n in names if all(r.relations.get(n) and math.isfinite(r.relations[n][-1]) for r in runs)]
