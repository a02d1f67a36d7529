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

    def header(self) -> str:
        counts = sorted({len(rows) for by_head in self.groups.values() for rows in by_head.values()})
        seeds = (
            "" if counts == [1] else f", mean of {' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))} seeds"
        )
        titles = ["iter", *swept(self.config), *(f"H={heads}" for heads in self.heads), "left"]
        return f"validation loss in nats per token{seeds}\n{row(titles)}"

    def rows(self, iteration: int, losses: Sequence[float], left: str) -> str:
        """The losses of all runs, and how long training will go on."""
        lines = []
        for key, by_head in self.groups.items():
            means = [mean((losses[r] for r in by_head.get(heads, ())), digits=3) for heads in self.heads]
            lines.append(row([str(iteration), *setting_cells(self.config, key), *means, left]))
        return "\n".join(lines)


def row(cells: Sequence[str]) -> str:
    """Cells in columns that are as wide in every row: nine head counts fit 80 characters."""
    return " ".join(cell.rjust(6) for cell in cells)


def result_table(experiment: Experiment) -> str:
    """H, d_h, final validation loss (mean ± standard deviation over seeds), and by relation for tales."""
    runs = experiment.runs
    last = [next((line for line in reversed(run.metrics()) if "val_loss" in line), None) for run in runs]
    left_out = {run: f"diverged at iteration {run.diverged}" for run in runs if run.diverged is not None}
    begun = [run for run in runs if run.checkpoints() and not run.finished and run not in left_out]
    left_out |= {run: f"is unfinished, at iteration {run.iteration}" for run in begun}
    relations = [r for r in RELATIONS if any(r in line.get("val_loss_by_relation", {}) for line in last if line)]
    rows = []
    for key, by_head in by_setting(runs).items():
        for heads, positions in by_head.items():
            lines = [last[i] for i in positions if last[i] is not None and runs[i] not in left_out]
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
    for run, why in left_out.items():
        text += f"\n{run.name} {why} and is left out."
    return text
