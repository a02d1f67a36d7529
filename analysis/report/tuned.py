"""Does H matter where each has the learning rate that is best for it? The fair comparison, and the loss by rate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from analysis.report.figures import COLUMN, LOSS, intervals, panels, shared_legend, style
from analysis.report.loss import ends, method, pair_table, shape_table
from analysis.report.section import Picture, Section, Table
from analysis.report.words import number, p_only, signed, told_at
from analysis.runs import RunCurve
from analysis.sentences import UNIT, rate_text
from analysis.statistics import estimate

TITLE = "Does H matter, each at its best learning rate?"


def tuned_section(told: dict, groups: Mapping[tuple[float, float], Sequence[RunCurve]], title: str) -> Section:
    """told: a row of summary.tuned_rows; groups: the study's."""
    texts = [" ".join(told["sentences"])]
    texts.append(
        "Each seed of a head count has the learning rate with the lowest mean loss over the other seeds, so that no "
        "loss is chosen by its own luck; the comparison is made a second time with the rate that is best over all "
        "seeds, and what is claimed is claimed by both."
    )
    if told["verdict"]["questions"]:
        texts.append(method(told["verdict"]))
    runs = {rate: of for (rate, decay), of in groups.items() if decay == told["weight_decay"]}
    caption = "Final validation loss against the learning rate, by H; mean and 95 % interval over seeds."
    pictures = [Picture("loss-by-rate", title, caption, lambda: loss_by_rate(runs))]
    tables = [rate_table(told, runs)]
    if told["verdict"]["pairs"]:
        of_best = [pair_table(told["verdict"], "tuned-pairs"), shape_table(told["verdict"], "tuned-shape")]
        tables += [
            replace(table, caption=told_at("with each H at its best learning rate", table.caption)) for table in of_best
        ]
    if told["trends"]:
        tables.append(trend_table(told))
    return Section("tuned", TITLE, texts, pictures, tables, told)


def loss_by_rate(runs: Mapping[float, Sequence[RunCurve]]) -> Figure:
    """A line for each head count through its mean losses."""
    figure, (axes,) = panels(1, 1, 2.5, COLUMN)
    heads = sorted({run.n_head for of in runs.values() for run in of})
    for index, h in enumerate(heads):
        found = {rate: [run.final_loss for run in of if run.n_head == h] for rate, of in runs.items()}
        means = {rate: estimate(values) for rate, values in sorted(found.items()) if values}
        shift = 1.03 ** (index - (len(heads) - 1) / 2)  # bars beside each other
        points = {rate * shift: (e.mean, e.half_width()) for rate, e in means.items()}
        look = style(index, len(heads))
        axes.plot(list(points), [mean for mean, _ in points.values()], label=f"H = {h}", **look)
        intervals(axes, points, "", fmt="none", ecolor=look["color"])
    axes.set_xscale("log")
    axes.set_xticks(sorted(runs), labels=map(rate_text, sorted(runs)))
    axes.minorticks_off()
    axes.set(xlabel="learning rate", ylabel=f"final {LOSS}")
    shared_legend(figure, [axes])
    return figure


def rate_table(told: dict, runs: Mapping[float, Sequence[RunCurve]]) -> Table:
    """Mean loss of each head count at each rate, and its best rate."""
    rates = told["learning_rates"]
    rows = []
    for h in sorted({run.n_head for of in runs.values() for run in of}):
        losses = [[run.final_loss for run in runs.get(rate, []) if run.n_head == h] for rate in rates]
        best = told["best_learning_rate"].get(h)
        shown = [number(estimate(values).mean) if values else "–" for values in losses]
        rows.append([str(h), *shown, rate_text(best) if best else "–"])
    head = ["H", *map(rate_text, rates), "best"]
    caption = f"Mean final validation loss ({UNIT}) by learning rate, and the rate that is best for each H."
    return Table("rates", caption, head, rows, head)


def trend_table(told: dict) -> Table:
    """The trend at each rate and the differences between rates."""
    named = [(rate_text(row["learning_rate"]), row) for row in told["trends"]]
    named += [(" − ".join(map(rate_text, reversed(row["learning_rates"]))), row) for row in told["trend_differences"]]
    rows = [[name, signed(row["estimate"]), ends(row), p_only(row["p"])] for name, row in named]
    caption = f"Change of the final validation loss ({UNIT}) for each doubling of H, by learning rate; one family."
    return Table("trends", caption, ["learning rate", "for each doubling of H", "95 % CI", "p"], rows)
