"""What do the heads do, and what is each worth? The measures of heads and ablation (analysis.measure) in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.measure.heads import MEASURES
from analysis.report.head_figures import heat_maps, panels_by_head, rank_figure, silencing_figure, similarity_maps
from analysis.report.section import Picture, Section, Table
from analysis.statistics import estimate

Results = Mapping[int, Mapping[int, dict]]
"""{n_head: {seed: what measure_heads or ablate returned}}, both ascending."""

LABELS = {
    "distance": "mean distance (tokens)",
    "entropy": "entropy (nats)",
    "previous": "share on the previous token",
    "first": "share on the first token",
    "self": "share on itself",
    "induction": "induction score",
}


def heads_section(
    results: Results, head_size: Mapping[int, int], title: str, windows: str, suffix: str = ""
) -> Section:
    """Measures of every head. head_size: {n_head: d_h}; windows: what they were taken over, in words."""
    first = {h: next(iter(of.values())) for h, of in results.items()}
    seed = next(iter(next(iter(results.values()))))
    maps = {LABELS[m]: {h: np.array(found[m]) for h, found in first.items()} for m in MEASURES}
    means = {LABELS[m]: over_heads(results, m) for m in MEASURES}
    pictures = [
        Picture(
            f"heads{suffix}",
            f"Every head of the runs with seed {seed}: a measure a row, a number of heads a column.",
            heat_maps(maps, f"{title}\nwhat every head looks at, seed {seed}"),
        ),
        Picture(
            f"heads-by-h{suffix}",
            "The same measures, averaged over all heads and layers of a run, against H.",
            panels_by_head(means, f"{title}\nmeans over all heads of a run"),
        ),
    ]
    several = {h: np.array(found["similarity"]) for h, found in first.items() if h > 1}
    if several:
        caption = f"How alike the heads of a layer look, seed {seed}: 1 is the same pattern, 0 no token in common."
        figure = similarity_maps(several, f"{title}\nsimilarity between the heads of a layer, seed {seed}")
        pictures.append(Picture(f"similarity{suffix}", caption, figure))
    caption = (
        "Rank of W_Q W_Kᵀ of a head against H. A head's scores pass through d_h = D / H dimensions, whatever D is: the "
        "low-rank bottleneck of Bhojanapalli et al., ICML 2020."
    )
    ranks = rank_figure({h: list(of.values()) for h, of in results.items()}, head_size, title)
    pictures.append(Picture(f"ranks{suffix}", caption, ranks))
    return Section(
        f"heads{suffix}",
        "What do the heads do?",
        [heads_text(results, windows), *definitions()],
        pictures,
        [heads_table(results, head_size, suffix)],
        {f"H{h}-seed{s}": rounded(found) for h, of in results.items() for s, found in of.items()},
    )


def heads_text(results: Results, windows: str) -> str:
    """The strongest heads, by name."""
    told = []
    for measure, role in (("previous", "the previous token"), ("induction", "what followed the last time")):
        h, seed, (layer, head), value = strongest(results, measure)
        where = f"head {head} of layer {layer} at H = {h} (seed {seed})"
        told.append(f"the head that looks most at {role} is {where}, with {100 * value:.0f} % of its attention")
    text = f"Measured over {windows}: {'; '.join(told)}."
    alike = {h: similarity(of) for h, of in results.items() if h > 1}
    if len(alike) > 1:
        low, high = min(alike), max(alike)
        text += f" Two heads of a layer have a mean similarity of {alike[low]:.2f} at H = {low} "
        text += f"and {alike[high]:.2f} at H = {high}."
    return text


def definitions() -> list[str]:
    return [
        "Means are over the queries from the third token of a window on. Distance: tokens back to where a head looks, "
        "weighted by attention. Entropy: 0 where it looks at one token, the log of their number where at all alike. "
        "Induction score: on random tokens and the same again, the share on the token after the earlier occurrence. "
        "Similarity of two heads: the Bhattacharyya coefficient of their patterns, sum over tokens of sqrt(p p').",
        "Effective rank: exp of the entropy of the singular values of W_Q W_Kᵀ, scaled to sum 1; stable rank: the sum "
        "of their squares over the largest squared; numerical rank: how many exceed rounding. These are descriptions "
        "of the trained heads, not tests.",
    ]


def heads_table(results: Results, head_size: Mapping[int, int], suffix: str = "") -> Table:
    """By H: the mean over heads with its scatter over seeds, and the highest head."""
    rows = []
    for h, of in results.items():
        row = [str(h), str(head_size[h])]
        for measure in MEASURES:
            values = [np.array(found[measure]) for found in of.values()]
            row.append(f"{spread([v.mean() for v in values])} (max {max(v.max() for v in values):.2f})")
        row.append("–" if h == 1 else f"{similarity(of):.3f}")
        for kind in ("rank", "effective_rank", "stable_rank"):
            row.append(f"{np.mean([found[kind] for found in of.values()]):.1f}")
        rows.append(row)
    head = ["H", "d_h", *(LABELS[m] for m in MEASURES), "similarity", "rank", "effective rank", "stable rank"]
    caption = "Means over all heads of a run ± standard deviation over seeds, and the highest of any head."
    return Table(f"heads-table{suffix}", caption, head, rows)


def ablation_section(results: Results, title: str, windows: str, suffix: str = "") -> Section:
    """What the loss rises by without a head. windows: what the losses are over, in words."""
    first = {h: next(iter(of.values())) for h, of in results.items()}
    seed = next(iter(next(iter(results.values()))))
    rise = {"rise of the loss (nats per token)": {h: np.array(found["alone"]) for h, found in first.items()}}
    pictures = [
        Picture(
            f"ablation{suffix}",
            f"How much the validation loss rises when one head is silenced, every head of the runs with seed {seed}.",
            heat_maps(rise, f"{title}\nloss without a head, seed {seed}", logarithmic=True),
        ),
        Picture(
            f"silencing{suffix}",
            "Validation loss as heads are silenced together, in the order of what each is worth alone.",
            silencing_figure({h: list(of.values()) for h, of in results.items()}, title),
        ),
    ]
    head = ["H", "heads", "rise, mean head", "rise, least head", "rise, most important head"]
    head += ["heads whose silencing costs under 1 %", "share silenced together for under 5 %", "loss with none left"]
    rows = []
    for h, of in results.items():
        alone = [np.array(found["alone"]) for found in of.values()]
        cheap = np.mean([(a < 0.01 * found["loss"]).mean() for a, found in zip(alone, of.values(), strict=True)])
        row = [str(h), str(alone[0].size), spread([a.mean() for a in alone], 4), spread([a.min() for a in alone], 4)]
        row += [spread([a.max() for a in alone], 4), f"{100 * cheap:.0f} %"]
        row += [f"{100 * np.mean([spare(found) for found in of.values()]):.0f} %"]
        rows.append([*row, spread([found["cumulative"][-1] for found in of.values()], 3)])
    caption = "Validation loss with heads silenced, nats per token: mean ± standard deviation over seeds."
    text = [
        f"Silencing a head replaces its output by zero. The losses are over {windows}, the same for every run. "
        + ablation_text(results),
        "Heads are silenced together from the least important up, by what each costs alone (Michel et al., NeurIPS "
        "2019). One head of few is a larger part of the network than one of many: compare shares of all heads, not "
        "single heads, between numbers of heads.",
    ]
    data = {f"H{h}-seed{s}": rounded(found) for h, of in results.items() for s, found in of.items()}
    table = Table(f"ablation-table{suffix}", caption, head, rows)
    return Section(f"ablation{suffix}", "What is each head worth?", text, pictures, [table], data)


def ablation_text(results: Results) -> str:
    h, seed, (layer, head), value = strongest(results, "alone")
    text = (
        f"The head that is missed most is head {head} of layer {layer} at H = {h} (seed {seed}): without it the loss "
    )
    text += f"rises by {value:.3f} nats per token."
    most = max(results)
    if len(results) > 1:
        share = np.mean([spare(found) for found in results[most].values()])
        text += (
            f" At H = {most}, {100 * share:.0f} % of the heads can be silenced together before the loss is 5 % higher."
        )
    return text


def spare(found: dict, rise: float = 0.05) -> float:
    """The share of heads that can be silenced together, of the steps measured, with a loss no more than `rise` up."""
    allowed = 0
    for count, loss in zip(found["ablated"], found["cumulative"], strict=True):
        if loss > found["loss"] * (1 + rise):
            break
        allowed = count
    return allowed / len(found["order"])


def strongest(results: Results, measure: str) -> tuple[int, int, tuple[int, int], float]:
    """(H, seed, (layer, head) from 1, value) of the highest value of all."""
    best = None
    for h, of in results.items():
        for seed, found in of.items():
            values = np.array(found[measure])
            layer, head = np.unravel_index(values.argmax(), values.shape)
            if best is None or values[layer, head] > best[3]:
                best = (h, seed, (int(layer) + 1, int(head) + 1), float(values[layer, head]))
    return best


def similarity(of: Mapping[int, dict]) -> float:
    """Mean over seeds, layers and pairs of different heads."""
    values = np.array([found["similarity"] for found in of.values()])  # (seeds, L, H, H)
    return float(values[..., ~np.eye(values.shape[-1], dtype=bool)].mean())


def over_heads(results: Results, measure: str) -> dict[int, dict[int, float]]:
    """{n_head: {seed: mean over layers and heads}}."""
    return {h: {s: float(np.mean(found[measure])) for s, found in of.items()} for h, of in results.items()}


def spread(values: list[float], digits: int = 3) -> str:
    e = estimate(values)
    text = f"{e.mean:.{digits}f}".replace("-", "−")
    return text if e.standard_deviation is None else f"{text} ± {e.standard_deviation:.{digits}f}"


def rounded(value: Any, digits: int = 5) -> Any:
    """Numbers of a measurement, shortened for report.json."""
    if isinstance(value, dict):
        return {key: rounded(v, digits) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    return round(value, digits) if isinstance(value, float) else value
