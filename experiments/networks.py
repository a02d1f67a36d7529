"""What the results page says of what is inside the networks: heads pruned, and the four relations. No number by hand.

Each function takes a study as report.json holds it and returns Markdown; nothing where the study lacks it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.report.words import number, plain, plus_minus, signed
from analysis.summary import told_of
from experiments.findings import markdown, near_floor, with_ends

RISES = (0.01, 0.1)
"""Nats per token by which the loss may rise while heads are pruned."""
LEARNED = 0.9
"""The part of the way from the loss before training to the floor after which a relation is called learned."""


def prunable(study: Mapping) -> str:
    """By H: the heads that can be pruned after training, the least important first; how alike two of a layer look."""
    sections = study.get("sections", {})
    if not {"ablation", "heads"} <= set(sections):
        return ""
    by_head: dict[int, list[str]] = {}
    for name in sections["ablation"]:
        by_head.setdefault(int(name.removeprefix("H").split("-")[0]), []).append(name)
    rows = []
    for h, names in sorted(by_head.items()):
        curves = [sections["ablation"][name] for name in names]
        row = [str(h), str(curves[0]["ablated"][-1])]
        for most in RISES:
            shares = [100 * within(curve, most) / curve["ablated"][-1] for curve in curves]
            row.append(f"{over_seeds(shares, 0)} %")
        alone = [[value for layer in curve["alone"] for value in layer] for curve in curves]
        row.append(signed(float(np.mean([np.median(values) for values in alone]))))
        row.append(signed(float(np.mean([max(values) for values in alone]))))
        alike = [np.mean([likeness(layer) for layer in sections["heads"][name]["similarity"]]) for name in names]
        rows.append([*row, "–" if h == 1 else over_seeds(alike, 2)])
    head = ["H", "heads in all", *(f"pruned for {most:g} nats" for most in RISES)]
    head += ["loss increase without one head: median", "the most", "similarity of two heads of a layer"]
    return markdown(head, rows)


def over_seeds(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation."""
    return plus_minus(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None, digits)


def within(curve: Mapping, most: float) -> int:
    """How many heads go, in the order of their importance alone, before the loss has risen by more than `most` nats.

    Of the numbers that were measured: with more heads than steps not every one is.
    """
    pruned = 0
    for n, loss in zip(curve["ablated"], curve["cumulative"], strict=True):
        if loss - curve["loss"] > most:
            break
        pruned = n
    return pruned


def likeness(matrix: Sequence[Sequence[float]]) -> float:
    """Mean of a layer's similarities of two different heads."""
    values = np.array(matrix)
    return float(values[~np.eye(len(values), dtype=bool)].mean()) if len(values) > 1 else math.nan


def relations(study: Mapping) -> str:
    """By relation: loss and forced-choice accuracy of each H, the trend, and when in training it is learned."""
    found = study.get("sections", {}).get("relations")
    if not found:
        return ""
    heads = sorted(map(int, next(iter(found["loss"].values()))))
    rows = []
    for name, losses in found["loss"].items():
        row = [plain(name)]
        of_head = [list(losses[str(h)].values()) for h in heads]
        row += [f"{number(np.mean(of), 3)} ({number(min(of), 2)} … {number(max(of), 2)})" for of in of_head]
        row.append(number(found["floor"][name], 3) if found.get("floor") else "–")
        row.append(" / ".join(near_floor(found, name)) or "–")
        trend = found["verdicts"][name]["trend"] if name in found["verdicts"] else None
        row.append(with_ends(trend) if trend and trend["estimate"] is not None else "–")
        choices = found.get("choice", {}).get(name)
        row.append(" / ".join(number(np.mean(list(choices[str(h)].values())), 2) for h in heads) if choices else "–")
        rows.append([*row, " / ".join(learned(study, name, h, found["floor"]) for h in heads)])
    of = " / ".join(map(str, heads))
    head = ["relation", *(f"loss, H = {h} (seeds' range)" for h in heads), "floor", f"runs near the floor, H = {of}"]
    head.append("for each doubling of H (95 % CI)")
    return markdown([*head, f"forced-choice accuracy, H = {of}", f"learned by iteration, H = {of}"], rows)


def learned(study: Mapping, relation: str, n_head: int, floor: Mapping | None) -> str:
    """The first measured iteration whose mean loss over seeds is LEARNED of the way from the loss before to the floor.

    At the learning rate that all else about relations is told of.
    """
    best = told_of(study["groups"])
    runs = [run for run in study["runs"] if run["n_head"] == n_head and not run["left_out"]]
    runs = [run for run in runs if run["learning_rate"] == best["learning_rate"]]
    curves = [run["val_loss_by_relation"].get(relation) for run in runs]
    if not floor or not runs or not all(curves):
        return "–"
    length = min(map(len, curves))
    mean = np.mean([curve[:length] for curve in curves], axis=0)
    below = np.flatnonzero(mean <= mean[0] + LEARNED * (floor[relation] - mean[0]))
    return str(runs[0]["iters"][below[0]]) if len(below) else "not"
