"""What do the heads do, and what is each worth? The measures of heads and ablation (analysis.measure) in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.measure.heads import FIRST_QUERY, MEASURES
from analysis.report.figures import by_head_panels
from analysis.report.head_figures import ablation_curve, head_maps, rank_figure, similarity_maps
from analysis.report.section import Picture, Section, Table
from analysis.report.words import listed, number, p_text, percent, plus_minus, signed
from analysis.statistics import Verdict, compare_together, estimate
from analysis.summary import verdict_row

HEADS, ABLATION = "What do the heads do?", "How important is each head?"
Results = Mapping[int, Mapping[int, dict]]
"""{n_head: {seed: what measure_heads or ablate returned}}, both ascending."""

RANKS = {"rank": "rank", "effective_rank": "effective rank", "stable_rank": "stable rank"}


def heads_section(results: Results, n_embd: int, block_size: int, title: str, windows: str) -> Section:
    """Measures of every head. windows: what they were taken over, in words."""
    first, seed = one_seed(results)
    maps = {MEASURES[m]: {h: np.array(found[m]) for h, found in first.items()} for m in MEASURES}
    caption = f"Every head{seed}: a measure a map, a head a cell."
    pictures = [Picture("heads", title, caption, lambda: head_maps(maps))]
    if len(results) > 1:
        means = {MEASURES[m]: over_heads(results, m) for m in MEASURES}
        levels = {MEASURES[m]: level for m, level in uniform(block_size).items()}
        caption = "The same measures, averaged over all heads and layers of a run, against H."
        draw = lambda: by_head_panels(means, 3, levels, "attending to all tokens alike")  # noqa: E731
        pictures.append(Picture("heads-by-h", title, caption, draw))
    several = {h: np.array(found["similarity"]) for h, found in first.items() if h > 1}
    if several:
        caption = f"How alike two heads of a layer look{seed}: 1 is the same pattern, 0 no token in common."
        pictures.append(Picture("similarity", title, caption, lambda: similarity_maps(several)))
    if len(results) > 1:
        caption = (
            "Rank of W_Q W_Kᵀ of a head against H: means over heads and seeds, shaded from the lowest to the highest "
            "head. A head's scores pass through d_h = D / H dimensions, whatever D is: the low-rank bottleneck of "
            "Bhojanapalli et al., ICML 2020."
        )
        sizes, found = {h: n_embd // h for h in results}, {h: list(of.values()) for h, of in results.items()}
        pictures.append(Picture("ranks", title, caption, lambda: rank_figure(found, sizes)))
    columns = {MEASURES[m]: (m, 2) for m in MEASURES} | {RANKS[r]: (r, 1) for r in RANKS}
    tables = each_head(results, "heads", columns) or [heads_table(results, n_embd)]
    compared = compare_together({m: over_heads(results, m) for m in MEASURES}) if len(results) > 1 else {}
    told = " ".join(filter(None, [heads_text(results, windows), trend_text(compared)]))
    data = rounded(results) | {"verdicts": {name: verdict_row(verdict) for name, verdict in compared.items()}}
    return Section("heads", HEADS, [told, *definitions()], pictures, tables, data, heads_answer(results))


def trend_text(compared: Mapping[str, Verdict]) -> str:
    """Which measures change with H, by the tests of the losses (all measures are one family)."""
    sure = {name: verdict.trend for name, verdict in compared.items() if verdict.trend and verdict.trend.sign}
    if sure:
        changes = [f"{MEASURES[m]} {signed(t.estimate, 3)} ({p_text(t.p)})" for m, t in sure.items()]
        return f"Averaged over heads, these change for sure with each doubling of H: {listed(changes)}."
    return "No average over heads changes surely with H." if any(v.tested for v in compared.values()) else ""


def heads_answer(results: Results) -> str:
    """What H did to what heads do, in a sentence."""
    low, high = min(results), max(results)
    if low == high:
        return ""
    distance, entropy = (
        [np.mean(list(over_heads(results, measure)[h].values())) for h in (low, high)]
        for measure in ("distance", "entropy")
    )
    return (
        f"A head looks {number(distance[0], 1)} tokens back on average at H = {low} and {number(distance[1], 1)} at "
        f"H = {high}, with an entropy of {number(entropy[0], 2)} and {number(entropy[1], 2)} nats."
    )


def one_seed(results: Results) -> tuple[dict[int, dict], str]:
    """What was found at the first seed of each H, and how to say so; "" where there is one run alone."""
    first = {h: next(iter(of.values())) for h, of in results.items()}
    seeds = sorted({next(iter(of)) for of in results.values()})
    alone = len(results) == 1 and len(next(iter(results.values()))) == 1
    return first, "" if alone else f" of the runs with seed {', '.join(map(str, seeds))}"


def uniform(block_size: int) -> dict[str, float]:
    """What a head would score that attends to all tokens alike: the chance level of each measure, as measure_heads
    averages it. entropy: the most that there can be."""
    tokens = np.arange(FIRST_QUERY + 1, block_size + 1)  # that a query sees
    half = block_size // 2
    share = float((1 / tokens).mean())
    repeated = float((1 / np.arange(half + 1, 2 * half + 1)).mean()) if half else 1.0
    return {
        "distance": float((tokens - 1).mean() / 2),
        "entropy": float(np.log(tokens).mean()),
        **dict.fromkeys(("previous", "first", "self"), share),
        "induction": repeated,
    }


def heads_text(results: Results, windows: str) -> str:
    """The strongest heads, by name."""
    told = []
    for measure, role in (("previous", "the previous token"), ("induction", "what followed the last time")):
        name, value = strongest(results, measure)
        told.append(f"the head that looks most at {role} is {name}, with {percent(value)} of its attention")
    text = f"Measured over {windows}: {'; '.join(told)}."
    alike = {h: similarity(of) for h, of in results.items() if h > 1}
    if len(alike) > 1:
        low, high = min(alike), max(alike)
        text += f" Two heads of a layer have a mean similarity of {number(alike[low], 2)} at H = {low} "
        text += f"and {number(alike[high], 2)} at H = {high}."
    return text


def definitions() -> list[str]:
    return [
        "Means are over the queries from the third token of a window on. Distance: tokens back to where a head looks, "
        "weighted by attention. Entropy: 0 where it looks at one token, the log of their number where at all alike. "
        "Induction score: on random tokens and the same again, the share on the token after the earlier occurrence. "
        "Similarity of two heads: the Bhattacharyya coefficient of their patterns, sum over tokens of sqrt(p p').",
        "Effective rank: exp of the entropy of the singular values of W_Q W_Kᵀ, scaled to sum 1; stable rank: the sum "
        "of their squares over the largest squared; numerical rank: how many exceed rounding. What is said "
        "of single heads describes them and is no test.",
    ]


def heads_table(results: Results, n_embd: int) -> Table:
    """By H: the mean over heads with its scatter over seeds, and the highest head."""
    rows = []
    for h, of in results.items():
        row = [str(h), str(n_embd // h)]
        for measure in MEASURES:
            values = [np.array(found[measure]) for found in of.values()]
            row.append(f"{spread([v.mean() for v in values])} (max {number(max(v.max() for v in values), 2)})")
        row.append("–" if h == 1 else number(similarity(of), 3))
        rows.append([*row, *(number(np.mean([found[kind] for found in of.values()]), 1) for kind in RANKS)])
    caption = "Means over all heads of a run ± standard deviation over seeds, and the highest of any head."
    return Table("heads", caption, ["H", "d_h", *MEASURES.values(), "similarity", *RANKS.values()], rows)


def each_head(results: Results, id: str, columns: Mapping[str, tuple[str, int]], by: str | None = None) -> list[Table]:
    """Where there is one run alone, a table of its heads; columns: {head of the column: (measure, decimals)}.

    by: the measure that they are ordered by, the highest first.
    """
    first, said = one_seed(results)
    if said:
        return []
    ((n_head, found),) = first.items()
    places = [(layer, head) for layer in range(len(found[next(iter(columns.values()))[0]])) for head in range(n_head)]
    if by:
        places.sort(key=lambda place: -found[by][place[0]][place[1]])
    rows = [
        [str(at + 1), str(head + 1), *(number(found[name][at][head], digits) for name, digits in columns.values())]
        for at, head in places
    ]
    head = ["layer", "head", *columns]
    caption = "Every head, the most important first." if by else "Every head."
    return [Table(id, caption, head, rows, head[:5])]


def ablation_section(results: Results, title: str, windows: str) -> Section:
    """What the loss rises by without a head. windows: what the losses are over, in words."""
    first, seed = one_seed(results)
    rise = {"rise of the loss (nats per token)": {h: np.array(found["alone"]) for h, found in first.items()}}
    found = {h: list(of.values()) for h, of in results.items()}
    pictures = [
        Picture(
            "ablation",
            title,
            f"How much the validation loss rises when one head is ablated, every head{seed}. Red: it falls.",
            lambda: head_maps(rise, logarithmic=True),
        ),
        Picture(
            "ablation-together",
            title,
            "Rise of the validation loss as heads are ablated together, in the order of their importance alone: mean "
            "over seeds, shaded from the lowest to the highest.",
            lambda: ablation_curve(found),
        ),
    ]
    text = [
        f"Ablating a head replaces its output by zero; its importance is how much the loss rises. The losses are over "
        f"{windows}, the same for every run. {ablation_text(results)}",
        "Heads are ablated together from the least important up, by what each costs alone (Michel et al., NeurIPS "
        "2019). One head of few is a larger part of the network than one of many: compare shares of all heads, not "
        "single heads, between numbers of heads.",
    ]
    columns = {"rise of the loss (nats per token)": ("alone", 4)}
    tables = each_head(results, "ablation", columns, "alone") or [ablation_table(results)]
    return Section("ablation", ABLATION, text, pictures, tables, rounded(results))


def ablation_table(results: Results) -> Table:
    head = ["H", "heads", "rise, mean head", "rise, least head", "rise, most important head"]
    head += ["heads whose ablation costs under 1 %", "share ablated together for under 5 %", "loss with none left"]
    rows = []
    for h, of in results.items():
        alone = [np.array(found["alone"]) for found in of.values()]
        cheap = np.mean([(a < 0.01 * found["loss"]).mean() for a, found in zip(alone, of.values(), strict=True)])
        row = [str(h), str(alone[0].size)]
        row += [spread([take(a) for a in alone], 4) for take in (np.mean, np.min, np.max)]
        row += [percent(cheap), percent(np.mean([spare(found) for found in of.values()]))]
        rows.append([*row, spread([found["cumulative"][-1] for found in of.values()], 3)])
    caption = "Validation loss with heads ablated, nats per token: mean ± standard deviation over seeds."
    return Table("ablation", caption, head, rows)


def ablation_text(results: Results) -> str:
    name, value = strongest(results, "alone")
    most = max(results)
    text = f"The most important head is {name}: without it the loss "
    text += f"rises by {number(value, 3)} nats per token." if value > 0 else "does not rise, and without no other."
    if len(results) > 1:
        share = np.mean([spare(found) for found in results[most].values()])
        text += f" At H = {most}, {percent(share)} of the heads can be ablated together before the loss is 5 % higher."
    return text


def spare(found: dict, rise: float = 0.05) -> float:
    """The share of heads that can be ablated together, of the steps measured, with a loss no more than `rise` up."""
    allowed = 0
    for count, loss in zip(found["ablated"], found["cumulative"], strict=True):
        if loss > found["loss"] * (1 + rise):
            break
        allowed = count
    return allowed / len(found["order"])


def strongest(results: Results, measure: str) -> tuple[str, float]:
    """The head with the highest value of all, by name, and the value."""
    value, h, seed, layer, head = max(
        (float(value), h, seed, layer + 1, head + 1)
        for h, of in results.items()
        for seed, found in of.items()
        for (layer, head), value in np.ndenumerate(np.array(found[measure]))
    )
    at = f" at H = {h} (seed {seed})" if one_seed(results)[1] else ""
    return f"head {head} of layer {layer}{at}", value


def similarity(of: Mapping[int, dict]) -> float:
    """Mean over seeds, layers and pairs of different heads."""
    values = np.array([found["similarity"] for found in of.values()])  # (seeds, L, H, H)
    return float(values[..., ~np.eye(values.shape[-1], dtype=bool)].mean())


def over_heads(results: Results, measure: str) -> dict[int, dict[int, float]]:
    """{n_head: {seed: mean over layers and heads}}."""
    return {h: {s: float(np.mean(found[measure])) for s, found in of.items()} for h, of in results.items()}


def spread(values: list[float], digits: int = 3) -> str:
    e = estimate(values)
    return plus_minus(e.mean, e.standard_deviation, digits)


def rounded(results: Results) -> dict[str, dict]:
    """The measurements by run, their numbers shortened for report.json."""

    def short(value: Any) -> Any:
        if isinstance(value, dict | list):
            return {k: short(v) for k, v in value.items()} if isinstance(value, dict) else [short(v) for v in value]
        return round(value, 5) if isinstance(value, float) else value

    return {f"H{h}-seed{s}": short(found) for h, of in results.items() for s, found in of.items()}
