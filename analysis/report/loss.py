"""Does H matter, and how sure is that? The losses by head count, their differences, and what could have been seen."""

import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.report.figures import STYLE, loss_by_heads
from analysis.report.section import Picture, Section, Table
from analysis.report.terminal import interval, p_only, plus_minus, signed
from analysis.runs import RunCurve, Study
from analysis.statistics import smallest_detectable
from analysis.summary import UNIT, group, listed


def loss_section(
    study: Study, runs: Sequence[RunCurve], title: str, reference: int | None, suffix: str = ""
) -> Section:
    """The section of one group of runs, in which only head count and seed vary. suffix: ends every id."""
    told = group(study, runs, reference)
    with matplotlib.rc_context(STYLE):
        figure = loss_by_heads(runs, title, reference)
    caption = "Final validation loss against H, and the differences to the reference within each seed."
    pictures = [Picture(f"loss-by-heads{suffix}", caption, figure)]
    tables = [loss_table(told["heads"], suffix)]
    if told["differences"]:
        tables.append(difference_table(told, suffix))
    if told["detectable"] and told["detectable"]["standard_deviation"] > 0:
        caption = (
            "The smallest true difference that would be found with a chance of 80 %, against the number of seeds. "
            "Points: the differences measured here; above the line a difference of that size would be found."
        )
        pictures.append(Picture(f"detectable{suffix}", caption, detectable_figure(told, title)))
    return Section(f"loss{suffix}", "Does H matter, and how sure is that?", paragraphs(told), pictures, tables, told)


def paragraphs(told: dict) -> list[str]:
    """The answer, then what stands behind it."""
    texts = [told["sentence"]]
    if found := told["detectable"]:
        level = f", corrected for {found['comparisons']} comparisons" if found["comparisons"] > 1 else ""
        scatter, least = size(found["standard_deviation"]), size(found["difference"])
        texts.append(
            f"With {found['seeds']} seeds and a standard deviation of {scatter} {UNIT} within a seed, this experiment "
            f"finds a difference of {least} {UNIT} or more with a chance of "
            f"80 % (paired t-test{level}); what is smaller it can easily miss. The numbers of seeds "
            "that would settle a question suppose that the true difference is as large as the one measured."
        )
    if told["differences"]:
        test = (
            "Runs that share a seed start from the same weights and see the same batches, so differences are taken "
            "within a seed: paired t-test (scipy.stats.ttest_rel)"
        )
        if told["comparisons"] < 2:
            why = "one pair is tested, so nothing is corrected" if told["comparisons"] else "too few seeds to test any"
            texts.append(f"{test}; {why}. Intervals are t intervals.")
        elif told["chosen_by_data"]:
            texts.append(
                f"{test}, corrected by Holm's method for all {told['comparisons']} pairs of head counts, because the "
                "data chose the reference. Intervals are t intervals, simultaneous over all pairs (Bonferroni): a "
                "little wider than Holm's test, so that the interval of a difference that is told apart can hold 0."
            )
        else:
            texts.append(
                f"{test}, corrected by Holm's method for the {told['comparisons']} other head counts. Intervals are t "
                "intervals of each pair alone: one that leaves out 0 can still be no difference after the correction."
            )
    lost = [f"{row['left_out']} of H = {row['n_head']}" for row in told["heads"] if row["left_out"]]
    if lost:
        texts.append(
            f"Runs that diverged or are unfinished are left out: {listed(lost)}. What is said holds for the runs that "
            "remain, which may be the luckier ones."
        )
    return texts


def size(value: float) -> str:
    """Four decimals, or two digits of what is too small for them."""
    return f"{value:.4f}" if value == 0 or value >= 0.001 else f"{value:.2g}"


def loss_table(rows: Sequence[dict], suffix: str = "") -> Table:
    """Final and best loss in three units: mean ± standard deviation over seeds, and the 95 % interval of the mean."""
    units = {"loss": "nats per token", "perplexity": "perplexity", "bits_per_byte": "bits per byte"}
    units = {key: name for key, name in units.items() if all(row[f"final_{key}"] for row in rows)}
    head, lines = ["H", "d_h", "runs", "left out"], []
    for kind in ("final", "best"):
        for name in units.values():
            head += [f"{kind}, {name}", "95 % CI"]
    head.append("best at iteration")
    for row in rows:
        line = [str(row["n_head"]), str(row["head_size"]), str(len(row["seeds"])), str(row["left_out"])]
        for kind in ("final", "best"):
            for key in units:
                value = row[f"{kind}_{key}"]
                line += [plus_minus(value["mean"], value["standard_deviation"])]
                line += [interval(value["mean"], value["interval"])]
        lines.append([*line, "–".join(dict.fromkeys(map(str, row["best_iters"])))])
    caption = "Validation loss by number of heads: mean ± standard deviation over seeds, 95 % t interval of the mean."
    return Table(f"losses{suffix}", caption, head, lines)


def difference_table(told: dict, suffix: str = "") -> Table:
    """Each head count against the reference, paired by seed."""
    best = {row["n_head"]: row for row in told["best_differences"]}
    detected = told["detectable"]
    rows = []
    for row in told["differences"]:
        other = best.get(row["n_head"], {"mean": None, "standard_deviation": None, "interval": None})
        tested = row["p_holm"] is not None
        rows.append(
            [
                str(row["n_head"]),
                str(len(row["seeds"])),
                signed(row["mean"]),
                interval(row["mean"], row["interval"], signed),
                p_only(row["p"]),
                p_only(row["p_holm"]),
                ("yes" if row["different"] else "no") if tested else "–",
                "–" if row["different"] or not tested else str(row["seeds_needed"] or "over 1,000"),
                signed(other["mean"]),
                interval(other["mean"], other["interval"], signed),
            ]
        )
    head = ["H", "seeds", f"loss − loss at H = {told['reference']}", "95 % CI", "p", "p (Holm)", "told apart"]
    head += ["seeds to settle it", "the same of the best loss", "95 % CI of this pair"]
    caption = f"Differences in final validation loss ({UNIT}), paired by seed; positive is worse than the reference."
    if detected:
        caption += f" Smallest detectable difference (power 80 %): {size(detected['difference'])}."
    return Table(f"differences{suffix}", caption, head, rows)


def detectable_figure(told: dict, title: str) -> Figure:
    """Smallest detectable difference against the number of seeds, with the differences measured, both axes log."""
    found = told["detectable"]
    deviation, now, family = found["standard_deviation"], found["seeds"], found["comparisons"]
    last = max([12, 2 * now, *(n for row in told["differences"] if (n := row["seeds_needed"] or 0) <= 64)])
    counts = sorted({now, *(n for n in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128) if n <= 1.4 * last)})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        sizes = [smallest_detectable(deviation, n, family) for n in counts]
        axes.plot(counts, sizes, "-", color="0.15", linewidth=1.5, label="found with a chance of 80 %")
        if family > 1:
            alone = [smallest_detectable(deviation, n) for n in counts]
            axes.plot(counts, alone, "--", color="0.45", linewidth=1.2, label="the same for a single comparison")
        axes.axvline(now, color="0.6", linewidth=0.8, linestyle=":")
        shown = [d for d in told["differences"] if d["mean"] and len(d["seeds"]) > 1]
        for row in shown:
            color = "#0072b2" if row["different"] else "white"
            axes.plot(now, abs(row["mean"]), "o", color=color, markeredgecolor="#0072b2", markersize=6)
        axes.plot([], [], "o", color="#0072b2", label="measured here, told apart")
        axes.plot([], [], "o", color="white", markeredgecolor="#0072b2", label="measured here, not told apart")
        axes.set(xscale="log", yscale="log", xlabel="seeds of each head count", ylabel=f"|difference| ({UNIT})")
        axes.xaxis.set_major_locator(FixedLocator(counts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.legend(fontsize=8)
        label_points(axes, [(now, abs(row["mean"]), f"H = {row['n_head']}") for row in shown])
        figure.suptitle(f"{title}\nwhat this experiment could have seen", fontsize=11)
    return figure


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]], gap: float = 0.05) -> None:
    """Name points (x, y, text) to their right, moved apart where they lie close; both axes are logarithmic."""
    low, high = axes.get_ylim()
    before = -1.0
    for x, y, text in sorted(points, key=lambda point: point[1]):
        before = max(math.log(y / low) / math.log(high / low), before + gap)  # as a share of the axis
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.annotate(text, (x, y), (x * 1.08, low * (high / low) ** before), fontsize=8, va="center", bbox=box)
    axes.set_ylim(low, high)
