"""Losses as tables: a row at each measurement while training, and at the end what each head count reached.

Means are over seeds, never over learning rates or weight decays: each of those has its own rows.
"""

import math
import statistics
from collections.abc import Iterable, Sequence

from data.config import RELATIONS
from experiment.config import Config
from experiment.folder import Experiment, Run
from terminal import table

WIDTH = 80
"""Characters of a terminal that every table fits, as far as it can."""


def by_setting(runs: Sequence[Run]) -> dict[tuple[float, float], dict[int, list[int]]]:
    """{(learning rate, weight decay): {H: rows of `runs`}}, in increasing order: rows that differ in seed alone."""
    found: dict = {}
    order = sorted(range(len(runs)), key=lambda i: (runs[i].learning_rate, runs[i].weight_decay, runs[i].n_head))
    for i in order:
        key = runs[i].learning_rate, runs[i].weight_decay
        found.setdefault(key, {}).setdefault(runs[i].n_head, []).append(i)
    return found


def swept(config: Config) -> list[str]:
    """Headers of the columns that tell apart runs of one head count, seeds left out."""
    return ["lr"] * (len(config.sweep.learning_rate) > 1) + ["wd"] * (len(config.sweep.weight_decay) > 1)


def setting_cells(config: Config, key: tuple[float, float]) -> list[str]:
    """The cells under `swept`."""
    values = dict(zip(("lr", "wd"), key, strict=True))
    return [f"{values[name]:g}" for name in swept(config)]


def mean(values: Iterable[float | None], digits: int = 4, spread: bool = False) -> str:
    """The mean of what is finite, with its standard deviation where asked; "-" of nothing."""
    held = [value for value in values if value is not None and math.isfinite(value)]
    if not held:
        return "-"
    text = f"{statistics.fmean(held):.{digits}f}"
    return f"{text} ± {statistics.stdev(held):.{digits}f}" if spread and len(held) > 1 else text


class LossRows:
    """A table that grows by a row, or one for each learning rate, at each measurement."""

    def __init__(self, runs: Sequence[Run], config: Config):
        self.config, self.groups = config, by_setting(runs)
        self.heads = sorted({run.n_head for run in runs})
        self.n_seed = {len(rows) for by_head in self.groups.values() for rows in by_head.values()}
        room = WIDTH - 15 - 9 * len(swept(config))
        self.digits = 4 if 8 * len(self.heads) <= room else 3

    def header(self) -> str:
        seeds = " to ".join(map(str, sorted({min(self.n_seed), max(self.n_seed)})))
        over = f", mean of {seeds} seeds" if self.n_seed != {1} else ""
        return f"validation loss in nats per token{over}\n" + self._line(
            "iter", swept(self.config), [f"H={heads}" for heads in self.heads], "left"
        )

    def rows(self, iteration: int, losses: Sequence[float], left: str) -> str:
        """The losses of all runs, and how long training will go on."""
        return "\n".join(
            self._line(
                str(iteration),
                setting_cells(self.config, key),
                [mean((losses[r] for r in by_head.get(heads, ())), self.digits) for heads in self.heads],
                left,
            )
            for key, by_head in self.groups.items()
        )

    def _line(self, iteration: str, setting: list[str], cells: list[str], left: str) -> str:
        wide = self.digits + 4
        text = iteration.rjust(7) + "".join(cell.rjust(9) for cell in setting)
        return text + "".join(cell.rjust(wide) for cell in cells) + left.rjust(8)


def result_table(experiment: Experiment) -> str:
    """H, d_h, final validation loss (mean ± standard deviation over seeds), and by relation for tales."""
    runs = experiment.runs
    last = [next((line for line in reversed(run.metrics()) if "val_loss" in line), None) for run in runs]
    diverged = [run for run in runs if run.diverged is not None]
    relations = [r for r in RELATIONS if any(r in line.get("val_loss_by_relation", {}) for line in last if line)]
    rows = []
    for key, by_head in by_setting(runs).items():
        for heads, positions in by_head.items():
            lines = [last[i] for i in positions if last[i] is not None and runs[i] not in diverged]
            rows.append(
                [
                    str(heads),
                    str(experiment.config.model.n_embd // heads),
                    *setting_cells(experiment.config, key),
                    str(len(lines)),
                    mean((line["val_loss"] for line in lines), spread=True),
                    *(mean(line["val_loss_by_relation"][r] for line in lines) for r in relations),
                ]
            )
    header = ["H", "d_h", *swept(experiment.config), "runs", "val loss", *(r.replace("_", "-") for r in relations)]
    text = table(header, rows)
    text += "\nValidation loss in nats per token, ± its standard deviation over seeds"
    text += "; the last columns are\nthat on the words that each relation decides." if relations else "."
    for run in diverged:
        text += f"\n{run.name} diverged at iteration {run.diverged} and is left out."
    return text
