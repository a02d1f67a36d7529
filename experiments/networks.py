"""What the results page says of what is inside the networks: heads pruned, and the four relations. No number by hand.

Each function takes a study as report.json holds it and returns Markdown; nothing where the study lacks it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.report.heads import similarity
from analysis.report.words import listed, number, plain, plus_minus, signed
from analysis.sentences import rate_text
from analysis.summary import told_of
from experiments.findings import LEARNED, NEAR, markdown, with_ends

RISES = (0.01, 0.1)
"""Nats per token by which the loss may rise while heads are pruned."""


def prunable(study: Mapping) -> str:
    """By H: the heads that can be pruned after training, the least important first; how alike two of a layer look."""
    sections = study.get("sections", {})
    if not {"ablation", "heads"} <= set(sections):
        return ""
    by_head: dict[int, list[str]] = {}
    for name in sorted(sections["ablation"].keys() & sections["heads"].keys()):
        by_head.setdefault(int(name.removeprefix("H").split("-")[0]), []).append(name)
    rows, told = [], {most: [] for most in RISES}
    for h, names in sorted(by_head.items()):
        curves = [sections["ablation"][name] for name in names]
        row = [str(h), str(curves[0]["ablated"][-1])]
        for most in RISES:
            shares = [100 * within(curve, most) / curve["ablated"][-1] for curve in curves]
            told[most].append(f"{number(np.mean(shares), 0)} % at H = {h}")
            row.append(f"{over_seeds(shares, 0)} %")
        row.append(" / ".join(f"{100 * share:.0f}" for share in by_layer(curves, RISES[-1])) + " %")
        alone = [[value for layer in curve["alone"] for value in layer] for curve in curves]
        row.append(signed(float(np.mean([np.median(values) for values in alone]))))
        row.append(signed(float(np.mean([max(values) for values in alone]))))
        alike = [similarity({0: sections["heads"][name]}) for name in names] if h > 1 else []
        rows.append([*row, over_seeds(alike, 2) if alike else "–"])
    head = ["H", "heads in all", *(f"pruned before the loss rises by over {most:g} nats" for most in RISES)]
    head += [f"pruned before it rises by over {RISES[-1]:g} nats, by layer from the first"]
    head += ["loss increase without one head: median", "the most", "similarity of two heads of a layer"]
    ends = {most: " and ".join(dict.fromkeys([of[0], of[-1]])) for most, of in told.items()}
    said = [f"Of the heads, {of} can go before the loss rises by over {most:g} nats." for most, of in ends.items()]
    order = f"The order of heads is that of their importance alone{at_rate(study)}."
    return f"{' '.join([*said, order])}\n\n{markdown(head, rows)}"


def by_layer(curves: Sequence[Mapping], most: float) -> list[float]:
    """The part of each layer's heads that goes before the loss has risen by more than `most`, mean over seeds."""
    gone = [[layer for layer, _ in curve["order"][: within(curve, most)]] for curve in curves]
    sizes = [len(layer) for layer in curves[0]["alone"]]
    return [float(np.mean([of.count(layer) / size for of in gone])) for layer, size in enumerate(sizes)]


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


def relations(study: Mapping) -> str:
    """By relation: loss and forced-choice accuracy of each H, the trend, and when runs first were near the floor."""
    found = study.get("sections", {}).get("relations")
    if not found:
        return ""
    heads = sorted(map(int, next(iter(found["loss"].values()))))
    rows = []
    for name, losses in found["loss"].items():
        row = [plain(name)]
        of_head = [list(losses[str(h)].values()) for h in heads]
        row += [f"{number(np.mean(of), 3)} ({number(min(of), 3)} … {number(max(of), 3)})" for of in of_head]
        row.append(number(found["floor"][name], 3) if found.get("floor") else "–")
        row.append(" / ".join(near_floor(found, name)) or "–")
        trend = found.get("verdicts", {}).get(name, {}).get("trend")
        row.append(with_ends(trend) if trend and trend["estimate"] is not None else "–")
        choices = found.get("choice", {}).get(name, {})
        means = [np.mean(list(choices[str(h)].values())) if str(h) in choices else None for h in heads]
        row.append(" / ".join(number(mean, 2) for mean in means) if choices else "–")
        rows.append([*row, " / ".join(reached(study, name, h, found["floor"]) for h in heads)])
    of = " / ".join(map(str, heads))
    head = ["relation", *(f"loss, H = {h} (seeds' range)" for h in heads), "floor", f"runs near the floor, H = {of}"]
    head.append("for each doubling of H (95 % CI)")
    return markdown([*head, f"forced-choice accuracy, H = {of}", f"first near the floor at iteration, H = {of}"], rows)


def reached(study: Mapping, relation: str, n_head: int, floor: Mapping | None) -> str:
    """The first measured iterations at which runs were near the floor, of the earliest and the latest that ever were.

    At the learning rate that all else about relations is told of.
    """
    best = told_of(study["groups"])
    first = []
    for run in study["runs"]:
        curve = run["val_loss_by_relation"].get(relation)
        here = run["n_head"] == n_head and run["learning_rate"] == best["learning_rate"] and not run["left_out"]
        if floor and here and curve:
            first += [i for i, loss in zip(run["iters"], curve, strict=False) if loss < floor[relation] + NEAR][:1]
    ends = sorted({min(first), max(first)}) if first else []
    return "–".join(map(str, ends)) or "–"


def gains(study: Mapping) -> str:
    """The relations whose loss changes with H by their intervals."""
    section = study.get("sections", {}).get("relations")
    found = {name: row["trend"] for name, row in (section or {}).get("verdicts", {}).items() if row["trend"]}
    found = {name: trend for name, trend in found.items() if trend["low"] is not None}
    if not found:
        return ""
    heads = listed(sorted(next(iter(section["loss"].values()), {}), key=int))
    near = {name: of for name in found if (of := near_floor(section, name))}
    ends_near = {name: f", with {listed(of)} runs near its floor," for name, of in near.items()}
    at = {
        name: f": mean losses {listed(means(section, name))}{ends_near.get(name, '')} at H = {heads}" for name in found
    }
    of = f"{LEARNED} (the four relations{at_rate(study)}, nats per token of their words for each doubling of H)"
    clear = {name: trend for name, trend in found.items() if trend["sure"]}
    if clear:
        told = [
            f"{'falls' if trend['estimate'] < 0 else 'rises'} for {plain(name)} words, {with_ends(trend)}{at[name]}"
            for name, trend in clear.items()
        ]
        rest = [plain(name) for name in found if name not in clear]
        unsure = f"; not sure for {listed(rest)} ones" * bool(rest)
        return f"In {of}, the loss {'; '.join(told)}{unsure}."
    largest = max(found, key=lambda name: abs(found[name]["estimate"]))
    return (
        f"Which relation needs more heads is not settled in {of}: every interval holds 0; the largest is "
        f"{plain(largest)}, {with_ends(found[largest])}{at[largest]}."
    )


def means(section: Mapping, relation: str) -> list[str]:
    """The mean loss over seeds of each head count, ascending."""
    losses = sorted(section["loss"][relation].items(), key=lambda item: int(item[0]))
    return [number(np.mean(list(of.values())), 3) for _, of in losses]


def at_rate(study: Mapping) -> str:
    """The learning rate that all but losses is told of."""
    return f", at learning rate {rate_text(told_of(study['groups'])['learning_rate'])} for every H"


def near_floor(section: Mapping, relation: str) -> list[str]:
    """How many runs of each head count, ascending, end near the relation's floor; none where it has no floor."""
    if not section.get("floor"):
        return []
    losses = sorted(section["loss"][relation].items(), key=lambda item: int(item[0]))
    floor = section["floor"][relation]
    return [f"{sum(loss < floor + NEAR for loss in of.values())} of {len(of)}" for _, of in losses]
