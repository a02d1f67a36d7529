"""The table at the end of training: what each head count reached."""

import math
import statistics
from collections import defaultdict

from data.config import RELATIONS
from experiment.folder import Experiment
from text import columns


def result_table(experiment: Experiment) -> str:
    """H, d_h, parameters, final validation loss (mean ± standard deviation over seeds), and by relation for tales."""
    by_head = defaultdict(list)
    for run in experiment.runs:
        by_head[run.n_head].append(run)
    measured = {run.name: [line for line in run.metrics() if "val_loss" in line] for run in experiment.runs}
    relations = [
        r for r in RELATIONS if any(r in m[-1].get("val_loss_by_relation", {}) for m in measured.values() if m)
    ]
    rows, diverged = [], []
    for heads, runs in by_head.items():
        diverged += [run for run in runs if run.diverged is not None]
        last = [measured[run.name][-1] for run in runs if run.diverged is None and measured[run.name]]
        row = [
            str(heads),
            str(experiment.config.model.n_embd // heads),
            f"{experiment.environment['parameters']:,}",
            str(len(last)),
            _mean([line["val_loss"] for line in last], spread=True),
        ]
        rows.append(row + [_mean([line["val_loss_by_relation"][r] for line in last]) for r in relations])
    header = ["H", "d_h", "parameters", "runs", "val loss (nats/token)", *(r.replace("_", "-") for r in relations)]
    text = columns(header, rows)
    if relations:
        text += "\nThe last columns are the loss on the words that each relation decides; ± is the standard deviation."
    for run in diverged:
        text += f"\n{run.name} diverged at iteration {run.diverged} and is left out."
    return text


def _mean(values: list[float | None], spread: bool = False) -> str:
    values = [value for value in values if value is not None and math.isfinite(value)]
    if not values:
        return "-"
    text = f"{statistics.fmean(values):.4f}"
    return f"{text} ± {statistics.stdev(values):.4f}" if spread and len(values) > 1 else text
