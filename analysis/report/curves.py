"""How did it get there? Losses, gradient norms and the learning rate against the iteration; diverged runs marked.

Curves of a head count are averaged over its seeds where all of them measured; runs that take no part in the statistics
are drawn one by one, as far as they went.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from analysis.report.figures import COLUMN, LOSS, PAGE, RED, curves, panels, style
from analysis.report.section import Picture, Section, Table
from analysis.report.words import number, told_at
from analysis.runs import RunCurve, Study, by_head, by_setting
from analysis.summary import setting_text

TITLE = "How did it get there?"


def curves_section(study: Study) -> Section | None:
    """The curves of every setting of learning rate and weight decay; None where no run has begun."""
    begun = [run for run in study.runs if run.iters or run.train_iters]
    if not begun:
        return None
    pictures = []
    settings = by_setting(begun)
    for setting, runs in settings.items():
        several = len(settings) > 1
        title = study.title(setting if several else None)
        place = f"at {setting_text(study, setting)}" * several
        caption = (
            "Loss against the iteration, from the first measurement after the start, and its end enlarged: mean over "
            "seeds, band one standard deviation. Thin lines on the left are training losses, smoothed."
        )
        if all(run.left_out() for run in runs):
            caption = "Losses of runs that take no part in the statistics, each as far as it went."
        norms = (
            "Gradient norm before clipping, smoothed: mean over seeds, band from the lowest to the highest seed; and "
            "the learning rate, the same for all these runs."
        )
        clip = study.settings.get("train.grad_clip")
        pictures += [
            Picture("loss-curves", title, told_at(place, caption), partial(loss_curves, runs)),
            Picture("training", title, told_at(place, norms), partial(training_curves, runs, clip)),
        ]
    lost = [run for run in study.runs if run.left_out()]
    text = ["Validation loss is taken over the same windows of the validation split for every run."]
    if lost:
        text.append(
            f"{len(lost)} of {len(study.runs)} runs take no part in the statistics. Those that had begun are drawn as "
            "dotted red lines, with a cross where they diverged."
        )
    data = {
        f"{run.experiment}/{run.name}": {"iters": run.train_iters}
        | {
            key: [v if math.isfinite(v) else None for v in getattr(run, key)]
            for key in ("train_loss", "grad_norm", "lr")
        }
        for run in begun
    }
    return Section("curves", TITLE, text, pictures, [left_out_table(lost)] if lost else [], data)


def left_out_table(runs: Sequence[RunCurve]) -> Table:
    rows = []
    for run in runs:
        last = next((loss for loss in reversed(run.val_loss) if math.isfinite(loss)), None)
        shown = f"{last:.4g}" if last and last >= 1e4 else number(last)
        rows.append([f"{run.experiment}/{run.name}", str(run.n_head), str(run.seed), run.left_out(), shown])
    head = ["run", "H", "seed", "why", "last validation loss, nats per token"]
    return Table("left-out", "Runs that take no part in the statistics.", head, rows)


def loss_curves(runs: Sequence[RunCurve]) -> Figure:
    """Loss against iteration: with the training loss on the left, its last part enlarged on the right."""
    heads = by_head(run for run in runs if run.left_out() is None)
    figure, (whole, *ends) = panels(2 if heads else 1, 2, 2.8, PAGE if heads else COLUMN)
    labels, shown = {}, []
    for index, (n_head, of) in enumerate(heads.items()):
        iters, losses = curves(of, "iters", "val_loss")  # (E,), (seeds, E)
        kept = iters > 0 if len(iters) > 1 else iters >= 0
        iters, losses = iters[kept], losses[:, kept]
        mean, looks = losses.mean(0), style(index, len(heads))
        start = min(int(len(iters) * 0.6), max(len(iters) - 3, 0))  # enlarge the last 40 %, three points or more
        for axes, first in ((whole, 0), (ends[0], start)):
            every = max(1, (len(iters) - first) // 10)
            axes.plot(iters[first:], mean[first:], **looks, markevery=every, label=f"H = {n_head}")
            if len(of) > 1:
                scatter = losses.std(0, ddof=1)
                low, high = (mean - scatter)[first:], (mean + scatter)[first:]
                axes.fill_between(iters[first:], low, high, color=looks["color"], alpha=0.09, linewidth=0)
        train_iters, train = curves(of, "train_iters", "train_loss")
        later = train_iters >= iters[0] if len(iters) > 1 else train_iters >= 0
        if later.any():
            smoothed = smooth(train_iters[later], train.mean(0)[later])
            whole.plot(*smoothed, color=looks["color"], linewidth=0.6, alpha=0.6)
        labels[n_head] = (iters[-1], mean[-1], looks["color"])
        shown += [loss for loss in mean[start:].tolist() if math.isfinite(loss)]
    limits = whole.get_ylim() if heads else None
    mark_left_out(whole, [run for run in runs if run.left_out()], limits)
    whole.set(xlabel="iteration", ylabel="loss (nats per token)")
    for axes in (whole, *ends):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if whole.get_legend_handles_labels()[0]:  # none where every run diverged
        whole.legend(handlelength=3.2)
    for end in ends:
        end.set(xlabel="iteration", ylabel=LOSS)
        if not shown:
            continue  # no loss of the later measurements was finite
        margin = 0.08 * (max(shown) - min(shown) or 1)
        end.set_ylim(min(shown) - margin, max(shown) + margin)
        label_ends(end, labels)
    return figure


def training_curves(runs: Sequence[RunCurve], clip: float | None = None) -> Figure:
    """Gradient norm of every head count (log scale; the clipping norm dashed) and the learning rate."""
    drawn = any(norm > 0 for run in runs for norm in run.grad_norm)  # what diverged at once has none to draw
    figure, (*left, rates) = panels(2 if drawn else 1, 2, 2.5, PAGE if drawn else COLUMN)
    for norms in left:
        gradient_norms(norms, runs, clip)
    longest = max(runs, key=lambda run: len(run.lr))
    rates.plot(longest.train_iters[: len(longest.lr)], longest.lr, color="0.15")
    rates.set(xlabel="iteration", ylabel="learning rate")
    rates.set_ylim(bottom=0)
    for axes in (*left, rates):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def gradient_norms(norms: Axes, runs: Sequence[RunCurve], clip: float | None) -> None:
    """The panel of the gradient norms, of which one at least is above 0."""
    heads = by_head(run for run in runs if run.left_out() is None)
    for index, (n_head, of) in enumerate(heads.items()):
        iters, values = curves([run for run in of if run.grad_norm], "train_iters", "grad_norm")
        if not len(iters):
            continue
        looks = style(index, len(heads))
        parts = [smooth(iters, row) for row in values]
        x, rows = parts[0][0], np.array([row for _, row in parts])
        norms.plot(x, rows.mean(0), **looks, markevery=max(1, len(x) // 8), label=f"H = {n_head}")
        if len(of) > 1:
            norms.fill_between(x, rows.min(0), rows.max(0), color=looks["color"], alpha=0.12, linewidth=0)
    for run in runs:
        if run.left_out():
            norms.plot(run.train_iters[: len(run.grad_norm)], run.grad_norm, ":", color=RED, linewidth=0.8)
    if clip:
        norms.axhline(clip, color="0.3", linewidth=0.8, linestyle=(0, (4, 3)), label=f"clipped above {clip:g}")
    norms.set(xlabel="iteration", ylabel="gradient norm")
    if math.isfinite(norms.dataLim.minposy):  # something above 0 was drawn
        norms.set_yscale("log")
        norms.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        norms.yaxis.set_minor_locator(NullLocator())
        norms.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if norms.get_legend_handles_labels()[0]:
        norms.legend(ncols=2, handlelength=3.2)


def mark_left_out(axes: Axes, runs: Sequence[RunCurve], limits: tuple[float, float] | None) -> None:
    """Runs that are left out, dotted, one by one; a cross and the name where one diverged. Keeps the others' limits."""
    lost: dict[int, list[tuple[float, str]]] = {}
    for run in runs:
        last = math.inf if run.diverged is None else run.diverged  # from there on it is frozen
        measured = [(i, loss) for i, loss in zip(run.iters, run.val_loss, strict=True) if math.isfinite(loss)]
        if run.diverged is not None or len(measured) < 2:  # training losses go on to where validation did not
            measured = [*(dict(zip(run.train_iters, run.train_loss, strict=True)) | dict(measured)).items()]
        points = sorted((i, loss) for i, loss in measured if math.isfinite(loss) and i <= last)
        if not points:
            continue
        if limits:
            points = [(i, min(loss, limits[1])) for i, loss in points]
        axes.plot(*zip(*points, strict=True), ":", color=RED, linewidth=0.9)
        if run.diverged is not None:
            axes.plot(*points[-1], "x", color=RED, markersize=6, markeredgewidth=1.5)
            lost.setdefault(points[-1][0], []).append((points[-1][1], run.name))
    middle = sum(axes.get_xlim()) / 2
    for iteration, ends in lost.items():
        text = f"{ends[0][1] if len(ends) == 1 else f'{len(ends)} runs'} diverged"
        left = iteration < middle
        where = {"xytext": (5 if left else -5, 5), "ha": "left" if left else "right"}
        axes.annotate(text, (iteration, max(ends)[0]), textcoords="offset points", fontsize=6.5, color=RED, **where)
    if any(run.diverged is None for run in runs):
        axes.plot([], [], ":", color=RED, linewidth=0.9, label="left out")
    if limits:
        axes.set_ylim(limits)
    elif axes.get_ylim()[1] > 50:  # nats per token: nothing but divergence goes there
        axes.set_yscale("log")


def smooth(x: np.ndarray, y: np.ndarray, points: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal stretches, about `points` of them, so that a noisy line can be seen past."""
    parts = min(points, len(x))
    return tuple(np.array([part.mean() for part in np.array_split(v, parts)]) for v in (x, y))


def label_ends(axes: Axes, labels: dict[int, tuple[float, float, tuple]]) -> None:
    """Name each line at its right end, moved apart where ends lie close: {n_head: (x, y, colour)}."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.06
    heights: list[float] = []
    for _, y, _ in sorted(labels.values(), key=lambda label: label[1]):
        heights.append(max(y, heights[-1] + gap) if heights else y)
    shift = sum(heights) / len(heights) - sum(y for _, y, _ in labels.values()) / len(labels)
    ordered = sorted(labels.items(), key=lambda item: item[1][1])
    for (n_head, (x, y, color)), target in zip(ordered, heights, strict=True):
        axes.annotate(
            f"H = {n_head}",
            (x, y),
            (1.04, (target - shift - low) / (high - low)),
            xycoords="data",
            textcoords="axes fraction",
            va="center",
            color=color,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 2},
        )
