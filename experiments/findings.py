"""What the results page says of heads, made from the studies that compare.py put into report.json: no number by hand.

Each function takes studies as report.json holds them, by name, and returns Markdown; what they lack is left out.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.report.loss import ends
from analysis.report.overview import verdict_of
from analysis.report.words import listed, number, plain, signed

RISES = (0.01, 0.1)
"""Nats per token by which the loss may rise while heads are removed."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def heads_of(verdict: Mapping) -> list[int]:
    return sorted({h for pair in verdict["pairs"] for h in (pair["n_head"], pair["reference"])})


def difference(verdict: Mapping, one: int, other: int) -> dict:
    """The pair as loss at `one` minus loss at `other`, whichever way it was compared."""
    pair = next(p for p in verdict["pairs"] if {p["n_head"], p["reference"]} == {one, other})
    if pair["n_head"] == one:
        return pair
    turned = {"worse": "better", "better": "worse"}
    ends_of = {"low": pair["high"], "high": pair["low"]}
    return (
        pair
        | {key: None if value is None else -value for key, value in ends_of.items()}
        | {
            "n_head": one,
            "reference": other,
            "estimate": -pair["estimate"],
            "verdict": turned.get(pair["verdict"], pair["verdict"]),
        }
    )


def pair_text(verdict: Mapping, one: int, other: int) -> str:
    pair = difference(verdict, one, other)
    answer = {"same": f"the same to within {verdict['margin']:g}", "open": "not settled"}
    found = answer.get(pair["verdict"], pair["verdict"])
    return f"H = {one} against H = {other}: {signed(pair['estimate'])} ({ends(pair)}), {found}"


def practice(studies: Mapping[str, Mapping], centre: str = "centre", learned: str = "tales-learned") -> str:
    """What to choose, how sure that is, and what was not settled."""
    verdicts = {name: found for name, study in studies.items() if (found := verdict_of(study))}
    told = []
    if verdict := verdicts.get(centre):
        heads, lowest = heads_of(verdict), verdict["lowest"]
        worst = max((h for h in heads if h != lowest), key=lambda h: difference(verdict, h, lowest)["estimate"])
        also = [str(h) for h in verdict["best"] if h != lowest]
        told.append(
            f"For D = {studies[centre]['n_embd']} on tiny Shakespeare the lowest loss is at H = {lowest}; "
            + (f"H = {listed(also)} cannot be excluded as the best. " if also else "no other can be the best. ")
            + f"The most that another choice costs is in nats per token: {pair_text(verdict, worst, lowest)}."
        )
    trends = {name: verdict["trend"] for name, verdict in verdicts.items()}
    if trends:
        sure = {
            "rises for sure": [name for name, trend in trends.items() if trend["sure"] and trend["estimate"] > 0],
            "falls for sure": [name for name, trend in trends.items() if trend["sure"] and trend["estimate"] < 0],
        }
        sure["shows no sure trend"] = [name for name, trend in trends.items() if not trend["sure"]]
        parts = "; ".join(f"it {way} in {listed(names)}" for way, names in sure.items() if names)
        smallest, largest = (pick(trends, key=lambda name: trends[name]["estimate"]) for pick in (min, max))
        low, high = (f"{signed(trends[name]['estimate'])} ({name})" for name in (smallest, largest))
        told.append(
            f"What H does to the loss depends on the setting: {parts}. "
            f"For each doubling of H it changes by {low} to {high}."
        )
    relations = studies.get(learned, {}).get("sections", {}).get("relations")
    if relations:
        gains = {
            name: found["trend"]["estimate"]
            for name, found in relations["verdicts"].items()
            if found["trend"] and found["trend"]["estimate"] is not None
        }
        most = min(gains, key=gains.get)
        found = relations["verdicts"][most]["trend"]
        told.append(
            f"Where a text needs relations, {plain(most)} words gain most from heads ({learned}): "
            f"{signed(found['estimate'])} nats a word for each doubling of H ({ends(found)}"
            f"{'' if found['sure'] else ', not sure'})."
        )
    lines = [f"{place}. {text}" for place, text in enumerate(told, 1)]
    open_ = {name: [p for p in verdict["pairs"] if p["verdict"] == "open"] for name, verdict in verdicts.items()}
    rest = [f"{name}: {len(pairs)} of {len(verdicts[name]['pairs'])} pairs" for name, pairs in open_.items() if pairs]
    lines += ["", f"Not settled to within {next(iter(verdicts.values()))['margin']:g} nats: {', '.join(rest)}."] * bool(
        rest
    )
    return "\n".join(lines)


def one_head(study: Mapping) -> str:
    """One head, and the most heads, against the head count with the lowest loss, at its rates tuned for each H."""
    verdict = verdict_of(study) if study else None
    if verdict is None:
        return ""
    heads, lowest = heads_of(verdict), verdict["lowest"]
    lines = [f"- {pair_text(verdict, h, lowest)}" for h in (heads[0], heads[-1]) if h != lowest]
    return "\n".join([f"The lowest loss is at H = {lowest}.", "", *lines])


def bottleneck(studies: Mapping[str, Mapping]) -> str:
    """The most heads against the fewest, by the size d_h that a head has there, in studies that differ in D or T."""
    rows = []
    for name, study in sorted(studies.items(), key=lambda item: (item[1]["block_size"], item[1]["n_embd"])):
        verdict = verdict_of(study)
        if verdict is None or not (name == "centre" or name.startswith(("width", "context", "narrow"))):
            continue
        few, many = heads_of(verdict)[0], heads_of(verdict)[-1]
        pair, width, length = difference(verdict, many, few), study["n_embd"], study["block_size"]
        row = [name, str(width), str(length), str(many), str(width // many), number(width / many / length, 3)]
        rows.append([*row, signed(pair["estimate"]), ends(pair), str(verdict["lowest"])])
    head = ["study", "D", "T", "H", "d_h = D / H", "d_h / T", "loss − loss at the fewest heads", "95 % CI", "best H"]
    return markdown(head, rows) if rows else ""


def removable(study: Mapping) -> str:
    """By H: the heads that can be removed after training, the least important first; how alike two of a layer look."""
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
            removed = [within(curve, most) for curve in curves]
            shares = [n / curve["ablated"][-1] for n, curve in zip(removed, curves, strict=True)]
            row.append(f"{number(np.mean(removed), 1)} ({number(100 * np.mean(shares), 0)} %)")
        alone = [value for curve in curves for layer in curve["alone"] for value in layer]
        row.append(f"{signed(float(np.median(alone)))} … {signed(max(alone))}")
        alike = [likeness(layer) for name in names for layer in sections["heads"][name]["similarity"]]
        rows.append([*row, "–" if h == 1 else number(np.mean(alike), 2)])
    head = ["H", "heads in all", *(f"removed for {most:g} nats" for most in RISES)]
    return markdown([*head, "rise without one head, median … most", "similarity of two heads of a layer"], rows)


def within(curve: Mapping, most: float) -> int:
    """How many heads go, in the order of their importance alone, before the loss has risen by more than `most` nats."""
    over = [n for n, loss in zip(curve["ablated"], curve["cumulative"], strict=True) if loss - curve["loss"] > most]
    return max(0, over[0] - 1) if over else curve["ablated"][-1]


def likeness(matrix: Sequence[Sequence[float]]) -> float:
    """Mean of a layer's similarities of two different heads."""
    values = np.array(matrix)
    return float(values[~np.eye(len(values), dtype=bool)].mean()) if len(values) > 1 else math.nan


def relations(study: Mapping) -> str:
    """By relation: loss and right forced choices of each H, the trend, and when in training it is half learned."""
    found = study.get("sections", {}).get("relations")
    if not found:
        return ""
    heads = sorted(map(int, next(iter(found["loss"].values()))))
    rows = []
    for name, losses in found["loss"].items():
        row = [plain(name)]
        row += [number(np.mean(list(losses[str(h)].values())), 3) for h in heads]
        row.append(number(found["floor"][name], 3) if found.get("floor") else "–")
        trend = found["verdicts"][name]["trend"] if name in found["verdicts"] else None
        row.append(
            f"{signed(trend['estimate'], 3)} ({ends(trend)})" if trend and trend["estimate"] is not None else "–"
        )
        choices = found.get("choice", {}).get(name)
        row.append(" / ".join(number(np.mean(list(choices[str(h)].values())), 2) for h in heads) if choices else "–")
        rows.append([*row, " / ".join(half_learned(study, name, h, found["floor"]) for h in heads)])
    of = " / ".join(map(str, heads))
    head = ["relation", *(f"loss, H = {h}" for h in heads), "floor", "for each doubling of H (95 % CI)"]
    return markdown([*head, f"right choices, H = {of}", f"iteration where half is learned, H = {of}"], rows)


def half_learned(study: Mapping, relation: str, n_head: int, floor: Mapping | None) -> str:
    """The first measured iteration whose mean loss over seeds is half way from that before training to the floor.

    At the learning rate with the lowest mean loss, as all else about relations.
    """
    best = min(study["groups"], key=lambda group: np.mean([head["final_loss"]["mean"] for head in group["heads"]]))
    runs = [run for run in study["runs"] if run["n_head"] == n_head and not run["left_out"]]
    runs = [run for run in runs if run["learning_rate"] == best["learning_rate"]]
    curves = [run["val_loss_by_relation"].get(relation) for run in runs]
    if not floor or not runs or not all(curves):
        return "–"
    length = min(map(len, curves))
    mean = np.mean([curve[:length] for curve in curves], axis=0)
    below = np.flatnonzero(mean <= (mean[0] + floor[relation]) / 2)
    return str(runs[0]["iters"][below[0]]) if len(below) else "not"
