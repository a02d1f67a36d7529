"""Does H matter, and how sure is that? The losses by head count, their differences, and what could have been seen."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.report.figures import COLUMN, LOSS, by_head_panel, head_axis, intervals, panels, seed_lines, shared_legend
from analysis.report.section import Picture, Section, Table
from analysis.report.words import interval, listed, number, p_only, plus_minus, signed, size
from analysis.runs import RunCurve, Study, by_head
from analysis.statistics import compare, smallest_detectable
from analysis.summary import UNIT, group

TITLE = "Does H matter, and how sure is that?"


def loss_section(study: Study, runs: Sequence[RunCurve], title: str, reference: int | None) -> Section:
    """The section of one group of runs, in which only head count and seed vary."""
    told = group(study, runs, reference)
    caption = "Final validation loss against H, and the differences to the reference within each seed."
    pictures = [Picture("loss-by-heads", title, caption, lambda: loss_by_heads(runs, reference))]
    tables = [loss_table(told["heads"])]
    if told["differences"]:
        tables.append(difference_table(told))
    if told["detectable"] and told["detectable"]["standard_deviation"] > 0:
        caption = (
            "The smallest true difference that would be found with a chance of 80 %, against the number of seeds. "
            "Points: the differences measured here; above the line a difference of that size would be found."
        )
        pictures.append(Picture("detectable", title, caption, lambda: detectable_figure(told)))
    return Section("loss", TITLE, paragraphs(told), pictures, tables, told)


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
        texts.append(method(told))
    lost = [f"{row['left_out']} of H = {row['n_head']}" for row in told["heads"] if row["left_out"]]
    if lost:
        texts.append(
            f"Runs that diverged or are unfinished are left out: {listed(lost)}. What is said holds for the runs that "
            "remain, which may be the luckier ones."
        )
    return texts


def method(told: dict) -> str:
    """The test and its correction."""
    test = (
        "Runs that share a seed start from the same weights and see the same batches, so differences are taken "
        "within a seed: paired t-test (scipy.stats.ttest_rel)"
    )
    if told["comparisons"] < 2:
        why = "one pair is tested, so nothing is corrected" if told["comparisons"] else "too few seeds to test any"
        return f"{test}; {why}. Intervals are t intervals."
    if told["chosen_by_data"]:
        return (
            f"{test}, corrected by Holm's method for all {told['comparisons']} pairs of head counts, because the "
            "data chose the reference. Intervals are t intervals, simultaneous over all pairs (Bonferroni): a "
            "little wider than Holm's test, so that the interval of a difference that is significant can hold 0."
        )
    return (
        f"{test}, corrected by Holm's method for the {told['comparisons']} other head counts. Intervals are t "
        "intervals of each pair alone: one that leaves out 0 can still be no difference after the correction."
    )


def loss_table(rows: Sequence[dict]) -> Table:
    """Final and best loss in three units: mean ± standard deviation over seeds, and the 95 % interval of the mean.

    Perplexity is that of the mean loss, and its interval the loss's, exponentiated.
    """
    in_bytes = all(row["final_bits_per_byte"] for row in rows)
    head, lines = ["H", "d_h", "runs", "left out"], []
    for kind in ("final", "best"):
        head += [f"{kind} loss", f"95 % CI of {kind} loss", f"{kind} perplexity", f"95 % CI of {kind} perplexity"]
        head += [f"{kind} bits/byte", f"95 % CI of {kind} bits/byte"] if in_bytes else []
    head.append("best at iteration")
    for row in rows:
        line = [str(row["n_head"]), str(row["head_size"]), str(len(row["seeds"])), str(row["left_out"])]
        for kind in ("final", "best"):
            line += estimated(row[f"{kind}_loss"])
            line += perplexity(row[f"{kind}_loss"])
            line += estimated(row[f"{kind}_bits_per_byte"]) if in_bytes else []
        lines.append([*line, "–".join(dict.fromkeys(map(str, row["best_iters"])))])
    several = any(len(row["seeds"]) > 1 for row in rows)
    spread = ": mean ± standard deviation over seeds, 95 % t interval of the mean" * several
    caption = f"Validation loss ({UNIT}) by number of heads{spread}."
    brief = ["H", "d_h", "runs", "final loss", "95 % CI of final loss", "best loss", "best at iteration"]
    return Table("losses", caption, head, lines, brief + ["final bits/byte"] * in_bytes + ["final perplexity"])


def estimated(value: Mapping) -> list[str]:
    """Mean ± standard deviation, and the interval."""
    mean = value["mean"]
    return [plus_minus(mean, value["standard_deviation"]), interval(mean, value["interval"])]


def perplexity(loss: Mapping) -> list[str]:
    mean, half = loss["mean"], loss["interval"]
    ends = [math.exp(min(mean + side * half, 700)) for side in (-1, 1)] if half is not None else []
    return [number(math.exp(min(mean, 700)), 3), " … ".join(number(end, 3) for end in ends) or "–"]


def difference_table(told: dict) -> Table:
    """Each head count against the reference, paired by seed."""
    best = {row["n_head"]: row for row in told["best_differences"]}
    rows = []
    for row in told["differences"]:
        other = best.get(row["n_head"], {"mean": None, "interval": None})
        tested = row["p_holm"] is not None
        rows.append(
            [
                str(row["n_head"]),
                signed(row["mean"]),
                interval(row["mean"], row["interval"], sign="+"),
                p_only(row["p"]),
                p_only(row["p_holm"]),
                str(len(row["seeds"])),
                ("yes" if row["different"] else "no") if tested else "–",
                "–" if row["different"] or not tested else str(row["seeds_needed"] or "over 1,000"),
                signed(other["mean"]),
                interval(other["mean"], other["interval"], sign="+"),
            ]
        )
    head = ["H", f"loss − loss at H = {told['reference']}", "95 % CI", "p", "p (Holm)", "seeds", "differs"]
    brief = head.copy()
    head += ["seeds to settle it", "the same of the best loss", "95 % CI of this pair"]
    caption = f"Differences in final validation loss ({UNIT}), paired by seed; positive is worse than the reference."
    if told["detectable"]:
        caption += f" Smallest detectable difference (power 80 %): {size(told['detectable']['difference'])}."
    return Table("differences", caption, head, rows, brief)


def loss_by_heads(runs: Sequence[RunCurve], reference: int | None = None) -> Figure:
    """Final validation loss against H, and its difference to the reference within each seed where there is any.

    On the left the interval holds what seeds have in common, so that it is wide even where every seed agrees on the
    order of head counts; the right panel takes that out.
    """
    losses = {h: {run.seed: run.final_loss for run in of} for h, of in by_head(runs).items()}
    comparison = compare(losses, reference) if len(losses) > 1 and reference in {None, *losses} else None
    figure, grid = panels(2, 2, 2.5) if comparison else panels(1, 1, 2.5, COLUMN)
    by_head_panel(grid[0], losses, f"final {LOSS}")
    if comparison:
        base, axes = losses[comparison.reference], grid[1]
        seed_lines(axes, {h: {s: of[s] - base[s] for s in of if s in base} for h, of in losses.items()})
        shown = {d.n_head: (d.estimate.mean, comparison.half_width(d)) for d in comparison.differences if d.estimate}
        intervals(axes, shown, "mean, 95 % CI", line=False)
        axes.axhline(0, color="0.3", linewidth=0.8)
        head_axis(axes, sorted(losses))
        axes.set_ylabel(f"loss − loss at H = {comparison.reference} (nats per token)")
    shared_legend(figure, grid)
    return figure


def detectable_figure(told: dict) -> Figure:
    """Smallest detectable difference against the number of seeds, with the differences measured, both axes log."""
    found = told["detectable"]
    deviation, now, family = found["standard_deviation"], found["seeds"], found["comparisons"]
    last = max([12, 2 * now, *(n for row in told["differences"] if (n := row["seeds_needed"] or 0) <= 64)])
    counts = sorted({now, *(n for n in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128) if n <= 1.4 * last)})
    figure, (axes,) = panels(1, 1, 2.5, COLUMN)
    sizes = [smallest_detectable(deviation, n, family) for n in counts]
    axes.plot(counts, sizes, "-", color="0.15", label="found with a chance of 80 %")
    if family > 1:
        alone = [smallest_detectable(deviation, n) for n in counts]
        axes.plot(counts, alone, "--", color="0.45", label="the same for a single comparison")
    axes.axvline(now, color="0.6", linewidth=0.7, linestyle=":")
    shown = sorted((abs(d["mean"]), d["n_head"], d["different"]) for d in told["differences"] if d["mean"])
    for index, (value, _, different) in enumerate(shown):
        x = now * 1.04 ** (index % 3 - 1)  # beside each other where they are alike
        axes.plot(x, value, "o", color="#0072b2" if different else "white", markeredgecolor="#0072b2")
    axes.plot([], [], "o", color="#0072b2", label="measured here, differs")
    axes.plot([], [], "o", color="white", markeredgecolor="#0072b2", label="measured here, does not")
    axes.set(xscale="log", yscale="log", xlabel="seeds of each head count", ylabel=f"|difference| ({UNIT})")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    label_points(axes, [(now, value, f"H = {h}") for value, h, _ in shown])
    figure.legend(loc="outside lower center", ncols=1)
    return figure


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]], gap: float = 0.06) -> None:
    """Name points (x, y, text) to their right, moved apart where they lie close; both axes are logarithmic."""
    low, high = axes.get_ylim()
    before = -1.0
    for x, y, text in sorted(points, key=lambda point: point[1]):
        before = max(math.log(y / low) / math.log(high / low), before + gap)  # as a share of the axis
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.annotate(text, (x, y), (x * 1.12, low * (high / low) ** before), fontsize=6.5, va="center", bbox=box)
    axes.set_ylim(low, high)
