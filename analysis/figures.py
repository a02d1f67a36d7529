"""Figures of a group of runs, as SVG and PNG.

Head counts are told apart by lightness that falls as H grows (viridis, readable with any colour vision), by line style,
by marker, and by a label at the line itself, so that black and white loses nothing. The same data give the same SVG,
byte for byte. Matplotlib is loaded without pyplot: no window, no global state.
"""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from analysis.runs import RunCurve, by_head, relation_names
from analysis.statistics import estimate

DASHES = ["-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (4, 1.5, 1, 1.5, 1, 1.5))]
MARKERS = "osD^vPX*"
LOSS = "validation loss (nats per token)"
STYLE = {
    "svg.hashsalt": "headcount",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "savefig.dpi": 144,
}


def draw(runs: Sequence[RunCurve], folder: Path, title: str, suffix: str = "") -> list[Path]:
    """Draw every figure the runs have data for into `folder` (made where missing); return the paths written."""
    figures: dict[str, Callable[[Sequence[RunCurve], str], Figure]] = {
        "loss_curves": loss_curves,
        "loss_by_heads": loss_by_heads,
    }
    if relation_names(runs):
        figures["relation_loss_by_heads"] = relation_loss_by_heads
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, make in figures.items():
            figure = make(runs, title)
            for kind in ("svg", "png"):
                paths.append(folder / f"{name}{suffix}.{kind}")
                save(figure, paths[-1])
    return paths


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all."""
    drawn = io.BytesIO()
    kind = path.suffix[1:]
    figure.savefig(drawn, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write(path, drawn.getvalue())


def write(path: Path, content: bytes) -> None:
    """Write under another name and rename: a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def loss_curves(runs: Sequence[RunCurve], title: str) -> Figure:
    """Loss against iteration: all of it with the training loss on the left, its last part enlarged on the right."""
    heads = by_head(runs)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    whole, end = figure.subplots(1, 2, width_ratios=[1, 1.35])
    labels, seen = {}, []
    for place, (n_head, of) in enumerate(heads.items()):
        iters, losses = curves(of, "iters", "val_loss")  # (E,), (seeds, E)
        mean, look = losses.mean(0), style(place, len(heads))
        start = min(int(len(iters) * 0.6), max(len(iters) - 3, 0))  # enlarge the last 40 %, three points or more
        for axes, first, every in ((whole, 0, max(1, len(iters) // 8)), (end, start, max(1, len(iters) // 20))):
            axes.plot(iters[first:], mean[first:], **look, markevery=every, label=f"H = {n_head}")
            if len(of) > 1:
                spread = losses.std(0, ddof=1)
                low, high = (mean - spread)[first:], (mean + spread)[first:]
                axes.fill_between(iters[first:], low, high, color=look["color"], alpha=0.13, linewidth=0)
        train_iters, train = curves(of, "train_iters", "train_loss")
        if len(train_iters):
            whole.plot(*smooth(train_iters, train.mean(0)), color=look["color"], linewidth=0.7, alpha=0.6)
        labels[n_head] = (iters[-1], mean[-1], look["color"])
        seen += mean[start:].tolist()
    whole.set(xlabel="iteration", ylabel="loss (nats per token)", title="whole run; thin: training loss")
    end.set(xlabel="iteration", ylabel=LOSS, title="its end, enlarged")
    margin = 0.08 * (max(seen) - min(seen) or 1)
    end.set_ylim(min(seen) - margin, max(seen) + margin)
    whole.legend(fontsize=9, handlelength=3.2)
    label_ends(end, labels)
    several = max(len(of) for of in heads.values()) > 1
    figure.suptitle(title + ("\nmean over seeds, band: ± 1 standard deviation" if several else ""), fontsize=11)
    return figure


def loss_by_heads(runs: Sequence[RunCurve], title: str) -> Figure:
    """Final validation loss against H: each seed's thin line, and the mean with its 95 % t interval."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    several = by_heads_panel(axes, {(r.n_head, r.seed): r.final_loss for r in runs})
    axes.set_ylabel(f"final {LOSS}")
    figure.suptitle(title, fontsize=11)
    if several:
        axes.legend(fontsize=9)
    return figure


def relation_loss_by_heads(runs: Sequence[RunCurve], title: str) -> Figure:
    """The same as loss_by_heads for the words of each relation, every panel with its own loss scale."""
    names = relation_names(runs)
    figure = Figure(figsize=(3.1 * len(names), 3.5), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        by_heads_panel(axes, {(r.n_head, r.seed): r.relations[name][-1] for r in runs})
        axes.set_title(name.replace("_", "-"), fontsize=10)
    panels[0].set_ylabel(f"final {LOSS}")
    figure.suptitle(f"{title}\nloss on the words that each kind of relation decides; scales differ", fontsize=11)
    return figure


def by_heads_panel(axes: Axes, losses: dict[tuple[int, int], float]) -> bool:
    """One panel of loss against H from {(n_head, seed): loss}; whether any interval could be drawn."""
    heads = sorted({h for h, _ in losses})
    for place, seed in enumerate(sorted({s for _, s in losses})):
        has = [h for h in heads if (h, seed) in losses]
        label = "one seed" if place == 0 else None
        axes.plot(has, [losses[h, seed] for h in has], "-", color="0.6", linewidth=0.8, marker=".", label=label)
    means = [estimate([loss for (h, _), loss in losses.items() if h == head]) for head in heads]
    known = [(h, e.mean, e.half_width()) for h, e in zip(heads, means, strict=True) if e.count > 1]
    if known:
        x, mean, half = zip(*known, strict=True)
        axes.errorbar(
            x, mean, half, fmt="o-", color="#0b3c5d", linewidth=1.8, capsize=4, label="mean, 95 % CI over seeds"
        )
    axes.set_xscale("log", base=2)
    axes.set_xlim(heads[0] / 2**0.4, heads[-1] * 2**0.4)
    axes.xaxis.set_major_locator(FixedLocator(heads))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("number of heads H")
    return bool(known)


def style(place: int, count: int) -> dict:
    """Colour, line style and marker of the head count at `place` of `count`, ascending."""
    lightness = 0.85 * (1 - place / max(1, count - 1))  # viridis beyond 0.85 is too light on white
    return {
        "color": matplotlib.colormaps["viridis"](lightness),
        "linestyle": DASHES[place % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.5,
    }


def curves(runs: Sequence[RunCurve], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """The iterations (E,) that all runs measured, and their values there (runs, E)."""
    values = [dict(zip(getattr(run, x), getattr(run, y), strict=True)) for run in runs]
    common = sorted(set.intersection(*(set(v) for v in values)))
    return np.array(common), np.array([[v[i] for i in common] for v in values]).reshape(len(runs), len(common))


def smooth(x: np.ndarray, y: np.ndarray, points: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal stretches, about `points` of them, so that a noisy line can be seen past."""
    parts = min(points, len(x))
    return tuple(np.array([part.mean() for part in np.array_split(v, parts)]) for v in (x, y))


def label_ends(axes: Axes, labels: dict[int, tuple[float, float, tuple]]) -> None:
    """Name each line at its right end, moved apart where ends lie close: {n_head: (x, y, colour)}."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.055
    placed: list[float] = []
    for _, y, _ in sorted(labels.values(), key=lambda label: label[1]):
        placed.append(max(y, placed[-1] + gap) if placed else y)
    shift = sum(placed) / len(placed) - sum(y for _, y, _ in labels.values()) / len(labels)
    ordered = sorted(labels.items(), key=lambda item: item[1][1])
    for (n_head, (x, y, color)), target in zip(ordered, placed, strict=True):
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
