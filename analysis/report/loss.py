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
from analysis.sentences import UNIT, rate_text
from analysis.statistics import MARGIN, Losses, mean_losses
from analysis.summary import group

TITLE = "Does H matter, and how sure is that?"


def loss_section(
    study: Study, runs: Sequence[RunCurve], title: str, reference: int | None, margin: float = MARGIN
) -> Section:
    """The section of one group of runs, in which only head count and seed vary."""
    told = group(study, runs, reference, margin)
    verdict = told["verdict"]
    caption = "Final validation loss against H, and the differences to one head count within each seed."
    pictures = [Picture("loss-by-heads", title, caption, lambda: loss_by_heads(runs, verdict))]
    tables = [loss_table(told["heads"])]
    if verdict and verdict["pairs"]:
        tables += [pair_table(verdict), shape_table(verdict)]
    if verdict and verdict["questions"] and verdict["standard_deviation"] > 0:
        caption = (
            "The smallest true difference of a pair that would be found with a chance of 80 %, against the number of "
            "seeds. Points: the differences measured here; above the line a difference of that size would be found."
        )
        pictures.append(Picture("detectable", title, caption, lambda: detectable_figure(verdict)))
    return Section("loss", TITLE, paragraphs(told, runs[0].learning_rate), pictures, tables, told)


def answer(told: dict, losses: Losses) -> str:
    """What H did to the loss, in a sentence or two. losses: final ones of the group that is told of."""
    first = told["sentences"][0]
    if not told["verdict"] or len(losses) < 2:
        return first
    means = mean_losses(losses)
    low, high, lowest = min(means), max(means), min(means, key=means.__getitem__)
    between = f", {means[lowest]:.4f} at H = {lowest}, the lowest," if low < lowest < high else ""
    return f"{first} It is {means[low]:.4f} at H = {low}{between} and {means[high]:.4f} at H = {high}."


def paragraphs(told: dict, rate: float) -> list[str]:
    """The answer, then what stands behind it. rate: learning rate of all runs."""
    texts, verdict = [" ".join(told["sentences"])], told["verdict"]
    if verdict and verdict["questions"]:
        least = verdict["detectable"][0]
        texts.append(
            f"With {least['seeds']} seeds and a standard deviation of {size(verdict['standard_deviation'])} {UNIT} "
            f"within a seed, a difference of {size(least['difference'])} between two head counts is found with a "
            "chance of 80 %; what is smaller is easily missed. The numbers of seeds that would settle a pair suppose "
            "that its true difference is as large as the one measured."
        )
        texts.append(method(verdict))
        texts.append(
            f"All of this is for learning rate {rate_text(rate)}. At the rate that is best for each H the answer can "
            "be another, even the opposite; which rate that is, runs at one rate cannot tell (sweep.learning_rate)."
        )
    lost = [f"{row['left_out']} of H = {row['n_head']}" for row in told["heads"] if row["left_out"]]
    if lost:
        texts.append(
            f"Runs that diverged or are unfinished are left out: {listed(lost)}. What is said holds for the runs that "
            "remain, which may be the luckier ones."
        )
    return texts


def method(verdict: dict) -> str:
    """The tests, their family and the error that they rest on."""
    pairs = "all pairs" if verdict["reference"] is None else f"the pairs with H = {verdict['reference']}"
    return (
        "Runs that share a seed start from the same weights and see the same batches, so everything is taken within a "
        f"seed. Trend, curvature and {pairs} are one family of {verdict['questions']} questions, in which any false "
        f"claim has a chance of {100 * verdict['level']:.3g} % ({verdict['method']}; docs/statistics.md has sources "
        f"and calibration); p and intervals are corrected for all of it. Errors have {freedom(verdict)} degrees of "
        "freedom: the scatter of each pair, shrunk towards that of all as far as so few seeds show that head counts "
        "scatter alike. Two head counts are called the same where two one-sided tests put them within "
        f"{verdict['margin']:g} {UNIT} (--margin)."
    )


def freedom(verdict: dict) -> str:
    """Degrees of freedom of the pairs, the fewest and the most where they differ."""
    found = [f"{row['df']:.1f}" for row in verdict["pairs"] if row["df"] is not None]
    low, high = min(found, key=float), max(found, key=float)
    return low if low == high else f"{low} to {high}"


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


def pair_table(verdict: dict, id: str = "pairs") -> Table:
    """Every pair of the family."""
    margin = f"{verdict['margin']:g}"
    names = {"worse": "worse", "better": "better", "same": f"same to within {margin}", "open": "not settled"}
    rows = [
        [
            f"{row['n_head']} − {row['reference']}",
            signed(row["estimate"]),
            ends(row),
            p_only(row["p"]),
            p_only(row["p_same"]),
            str(len(row["seeds"])),
            names[row["verdict"]] if row["p"] is not None else "not tested",
            "–" if row["verdict"] != "open" or row["p"] is None else str(row["seeds_needed"] or "over 1,000"),
        ]
        for row in verdict["pairs"]
    ]
    head = ["H", "loss − loss", "95 % CI", "p", f"p of ±{margin} or more", "seeds", "verdict", "seeds to settle it"]
    brief = [name for name in head if not name.startswith("p of")]
    caption = (
        f"Differences in final validation loss ({UNIT}) within a seed, the first H minus the second: above 0 it is "
    )
    caption += "worse. p and intervals are corrected for the whole family."
    return Table(id, caption, head, rows, brief)


def shape_table(verdict: dict, id: str = "shape") -> Table:
    """Trend and curvature."""
    named = {"for each doubling of H": verdict["trend"], "curvature, (log2 H)²": verdict["curvature"]}
    rows = [
        [name, signed(row["estimate"]), ends(row), p_only(row["p"]), p_only(row["p_seeds"]), str(len(row["seeds"]))]
        for name, row in named.items()
        if row
    ]
    head = ["", "change of the loss", "95 % CI", "p", "p of a t-test on the seeds alone", "seeds"]
    caption = (
        f"How the final validation loss ({UNIT}) changes with log2 H within a seed; p and intervals are corrected."
    )
    return Table(id, caption, head, rows)


def ends(row: dict) -> str:
    return "–" if row["low"] is None else f"{signed(row['low'])} … {signed(row['high'])}"


def loss_by_heads(runs: Sequence[RunCurve], verdict: dict | None) -> Figure:
    """Final validation loss against H, and its difference to one head count within each seed where there is any.

    On the left the interval holds what seeds have in common, so that it is wide even where every seed agrees on the
    order of head counts; the right panel takes that out.
    """
    losses = {h: {run.seed: run.final_loss for run in of} for h, of in by_head(runs).items()}
    compared = bool(verdict and verdict["pairs"])
    figure, grid = panels(2, 2, 2.5) if compared else panels(1, 1, 2.5, COLUMN)
    by_head_panel(grid[0], losses, f"final {LOSS}")
    if compared:
        at = verdict["lowest"] if verdict["reference"] is None else verdict["reference"]
        base, axes = losses[at], grid[1]
        seed_lines(axes, {h: {s: of[s] - base[s] for s in of if s in base} for h, of in losses.items()})
        shown = {}
        for row in verdict["pairs"]:
            if at in (row["n_head"], row["reference"]) and row["estimate"] is not None:
                sign, other = (1, row["n_head"]) if row["reference"] == at else (-1, row["reference"])
                half = None if row["low"] is None else (row["high"] - row["low"]) / 2
                shown[other] = (sign * row["estimate"], half)
        intervals(axes, dict(sorted(shown.items())), "mean, 95 % CI", line=False)
        axes.axhline(0, color="0.3", linewidth=0.8)
        head_axis(axes, sorted(losses))
        axes.set_ylabel(f"loss − loss at H = {at} (nats per token)")
    shared_legend(figure, grid)
    return figure


def detectable_figure(verdict: dict) -> Figure:
    """Smallest detectable difference against the number of seeds, with the differences measured, both axes log."""
    now, found = verdict["seeds"], verdict["detectable"]
    figure, (axes,) = panels(1, 1, 2.5, COLUMN)
    counts = [row["seeds"] for row in found]
    axes.plot(counts, [row["difference"] for row in found], "-", color="0.15", label="found with a chance of 80 %")
    axes.axvline(now, color="0.6", linewidth=0.7, linestyle=":")
    tested = [row for row in verdict["pairs"] if row["estimate"] and row["p"] is not None]
    shown = sorted((abs(d["estimate"]), f"{d['reference']}, {d['n_head']}", d["sure"]) for d in tested)
    for index, (value, _, sure) in enumerate(shown):
        x = now * 1.04 ** (index % 3 - 1)  # beside each other where they are alike
        axes.plot(x, value, "o", color="#0072b2" if sure else "white", markeredgecolor="#0072b2")
    axes.plot([], [], "o", color="#0072b2", label="pair measured here, differs")
    axes.plot([], [], "o", color="white", markeredgecolor="#0072b2", label="pair measured here, not sure to")
    axes.set(xscale="log", yscale="log", xlabel="seeds of each head count", ylabel=f"|difference| ({UNIT})")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    label_points(axes, [(now, value, f"H = {heads}") for value, heads, _ in shown])
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
