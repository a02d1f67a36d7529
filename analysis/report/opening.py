"""The answer, before everything else: what H changed, in a few sentences and one figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.report.figures import BLUE, LOSS, RED, head_axis, panels, seed_lines
from analysis.report.section import Picture, Section
from analysis.report.words import signed
from analysis.runs import RunCurve, by_head

TITLE = "The answer in one figure"
CELLS = {"worse": ("+", "#f1b6a8"), "better": ("−", "#b5d6a7"), "same": ("=", "#cfd8e3"), "open": ("?", "white")}
"""Mark and shade of a pair: the row's H against the column's."""
ROOMY = 6
"""Head counts up to which a cell has room for a word and the difference."""
Losses = Mapping[int, Mapping[int, float]]


def opening(first: str, sections: Sequence[Section], losses: Losses, verdict: dict | None, title: str) -> Section:
    """The answers and the figure. first: what H did to the loss; losses, verdict: of the comparison that counts."""
    said = {section.id: section.answer for section in sections}
    answers = [first, *(said[id] for id in ("cost", "heads", "texts") if said.get(id))]
    if not verdict or verdict["trend"] is None or verdict["trend"]["low"] is None:
        return Section("answer", TITLE, answers)
    caption = (
        "Left: final validation loss against H with what each seed has in common taken out; thin lines are seeds, the "
        "thick one their mean, the band the trend in log2 H with its 95 % interval. Right: each head count (row) "
        f"against each other (column), and the difference in nats per token: worse (+), better (−), the same to within "
        f"{verdict['margin']:g} (=) or not settled (?)."
    )
    return Section("answer", TITLE, answers, [Picture("answer", title, caption, lambda: draw(losses, verdict))])


def tuned_losses(told: dict, groups: Mapping[tuple[float, float], Sequence[RunCurve]]) -> Losses:
    """The losses of a row of summary.tuned_rows: each seed of a head count at the rate chosen for it."""
    found = {}
    for h, rates in told["chosen"].items():
        for seed, rate in rates.items():
            runs = by_head(groups[rate, told["weight_decay"]])[int(h)]
            found.setdefault(int(h), {}).update({r.seed: r.final_loss for r in runs if r.seed == int(seed)})
    return dict(sorted(found.items()))


def of_trend(losses: Losses, trend: dict) -> Losses:
    """The head counts that a trend is of, ascending, each over the seeds that it is of."""
    seeds = trend["seeds"]
    return {h: {s: of[s] for s in seeds} for h, of in sorted(losses.items()) if set(seeds) <= set(of)}


def draw(losses: Losses, verdict: dict) -> Figure:
    """The loss within seeds with its trend, and what differs and what is the same.

    Lines are of the head counts and seeds of the trend; of the other head counts there are the points of these seeds.
    """
    figure, (left, right) = panels(2, 2, 2.7)
    trend = verdict["trend"]
    drawn = of_trend(losses, trend)
    common = {s: np.mean([of[s] for of in drawn.values()]) for s in trend["seeds"]}
    everything = np.mean(list(common.values()))
    within = {h: {s: of[s] - common[s] + everything for s in of if s in common} for h, of in losses.items()}
    heads = list(drawn)
    seed_lines(left, {h: within[h] for h in heads})
    for h in within.keys() - drawn.keys():
        left.plot([h] * len(within[h]), list(within[h].values()), ".", color="0.6", markersize=3)
    means = [np.mean(list(within[h].values())) for h in heads]
    x = np.log2(heads) - np.mean(np.log2(heads))
    ends = [np.minimum(trend["low"] * x, trend["high"] * x), np.maximum(trend["low"] * x, trend["high"] * x)]
    sure = trend["sure"]
    color = RED if sure and trend["estimate"] > 0 else "#2e7d32" if sure else "0.4"
    left.fill_between(heads, *(everything + end for end in ends), color=color, alpha=0.15, linewidth=0)
    label = "trend, 95 % CI" if sure else "trend, not sure, 95 % CI"
    left.plot(heads, everything + trend["estimate"] * x, "--", color=color, label=label)
    left.plot(heads, means, "o-", color=BLUE, label="mean of the seeds", linewidth=1.6, markersize=5)
    head_axis(left, sorted(losses))
    left.set_ylabel(f"final {LOSS}")
    left.legend()
    matrix(right, sorted(losses), verdict["pairs"])
    return figure


def matrix(axes: Axes, heads: Sequence[int], pairs: Sequence[dict]) -> None:
    """A cell for each pair, the larger H the row."""
    turned = {"worse": "better", "better": "worse"}
    for pair in pairs:
        row, column, answer = pair["n_head"], pair["reference"], pair["verdict"]
        if row < column:
            row, column, answer = column, row, turned.get(answer, answer)
        mark, shade = CELLS[answer] if pair["low"] is not None else ("", "0.92")
        at = heads.index(column), heads.index(row) - 1
        axes.add_patch(Rectangle(at, 1, 1, facecolor=shade, edgecolor="white" if shade != "white" else "0.85"))
        if pair["estimate"] is not None and len(heads) <= ROOMY:
            sign = 1 if pair["n_head"] == row else -1
            mark = f"{'?' if answer == 'open' else answer}\n{signed(sign * pair['estimate'])}"
        axes.text(at[0] + 0.5, at[1] + 0.5, mark, ha="center", va="center", fontsize=7)
    size = len(heads) - 1
    axes.set(xlim=(0, size), ylim=(size, 0), aspect="equal", xlabel="H", ylabel="H")
    axes.set_xticks(np.arange(size) + 0.5, [str(h) for h in heads[:-1]])
    axes.set_yticks(np.arange(size) + 0.5, [str(h) for h in heads[1:]])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
