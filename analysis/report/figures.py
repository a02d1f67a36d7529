"""Figures of a group of runs, as SVG and PNG.

Head counts are told apart by lightness that falls as H grows (viridis, readable with any colour vision), by line style,
by marker, and by a label at the line itself, so that black and white loses nothing. The same data give the same SVG,
byte for byte. Matplotlib is loaded without pyplot: no window, no global state.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from analysis.report.section import Section
from analysis.runs import RunCurve, by_head, relation_names
from analysis.statistics import compare, estimate

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


def save(figure: Figure, path: Path) -> None:
    """Write a figure under another name and rename: a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    kind = path.suffix[1:]
    try:
        with matplotlib.rc_context(STYLE):
            figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_pictures(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Save every picture of the sections as SVG and PNG in `folder` (made where missing); return the paths."""
    paths = []
    for section in sections:
        for picture in section.pictures:
            for kind in ("svg", "png"):
                paths.append(folder / f"{picture.id}.{kind}")
                save(picture.figure, paths[-1])
                picture.figure.set_layout_engine("none")  # laid out once, which takes half the time of drawing
    return paths


def loss_by_heads(runs: Sequence[RunCurve], title: str, reference: int | None = None) -> Figure:
    """Final validation loss against H, and its difference to the reference within each seed.

    Thin lines are seeds, thick ones means with a 95 % interval. On the left the interval holds what seeds have in
    common, so that it is wide even where every seed agrees on the order of head counts; the right panel takes that out.
    The right panel is there where there is something to compare.
    """
    losses = {h: {run.seed: run.final_loss for run in of} for h, of in by_head(runs).items()}
    comparison = compare(losses, reference) if len(losses) > 1 and reference in {None, *losses} else None
    figure = Figure(figsize=(10 if comparison else 5.4, 4.2), layout="constrained")
    panels = figure.subplots(1, 2 if comparison else 1, squeeze=False)[0]
    seed_lines(panels[0], losses)
    means = {h: estimate(list(of.values())) for h, of in losses.items()}
    intervals(panels[0], {h: (e.mean, e.half_width()) for h, e in means.items()}, "mean, 95 % CI")
    panels[0].set_ylabel(f"final {LOSS}")
    if comparison:
        base = losses[comparison.reference]
        seed_lines(panels[1], {h: {s: of[s] - base[s] for s in of if s in base} for h, of in losses.items()})
        shown = {d.n_head: (d.estimate.mean, comparison.half_width(d)) for d in comparison.differences if d.estimate}
        simultaneous = comparison.chosen_by_data and comparison.family > 1
        label = f"mean within a seed, 95 % CI{f' for all {comparison.family} pairs' if simultaneous else ''}"
        intervals(panels[1], shown, label, line=False)
        panels[1].axhline(0, color="0.3", linewidth=1)
        panels[1].set_ylabel(f"loss − loss at H = {comparison.reference} (nats per token)")
    for axes in panels:
        head_axis(axes, sorted(losses))
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    figure.suptitle(title, fontsize=11)
    return figure


def relation_loss_by_heads(runs: Sequence[RunCurve], title: str) -> Figure:
    """Final validation loss on the words of each relation against H, every panel with its own loss scale."""
    names, heads = relation_names(runs), by_head(runs)
    lines = -(-len(names) // 2)  # two panels in a line: more would be too small to read on a page
    figure = Figure(figsize=(7, 2.9 * lines + 0.9), layout="constrained")
    panels = figure.subplots(lines, 2, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        losses = {h: {run.seed: run.relations[name][-1] for run in of} for h, of in heads.items()}
        seed_lines(axes, losses)
        means = {h: estimate(list(of.values())) for h, of in losses.items()}
        intervals(axes, {h: (e.mean, e.half_width()) for h, e in means.items()}, "mean, 95 % CI")
        head_axis(axes, list(heads))
        axes.set_title(name.replace("_", "-"), fontsize=10)
        axes.set_ylabel("loss (nats per token)", fontsize=9)
    keys = max(
        (axes.get_legend_handles_labels() for axes in panels[: len(names)]), key=lambda key: len("".join(key[1]))
    )
    figure.legend(*keys, loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(
        f"{title}\nfinal validation loss on the words that each kind of relation decides; scales differ", fontsize=11
    )
    return figure


def seed_lines(axes: Axes, losses: dict[int, dict[int, float]]) -> None:
    """A thin line for every seed through {n_head: {seed: value}}."""
    for place, seed in enumerate(sorted({seed for of in losses.values() for seed in of})):
        has = [h for h in sorted(losses) if seed in losses[h]]
        label = "one seed" if place == 0 else None
        axes.plot(has, [losses[h][seed] for h in has], "-", color="0.6", linewidth=0.8, marker=".", label=label)


def intervals(axes: Axes, points: dict[int, tuple[float, float | None]], label: str, line: bool = True) -> None:
    """Means with error bars from {n_head: (mean, half width)}; those without a half width are left to the seed lines.

    Call it after seed_lines: with two or three seeds a bar can be many times as long as the seeds lie apart, and it
    then leaves the panel, so that the seeds stay in sight.
    """
    known = [(h, mean, half) for h, (mean, half) in sorted(points.items()) if half is not None]
    if not known:
        return
    low, high = axes.get_ylim()
    room = 1.5 * (high - low)
    beyond = any(mean - half < low - room or mean + half > high + room for _, mean, half in known)
    label += "; bars leave the panel" if beyond else ""
    x, mean, half = zip(*known, strict=True)
    look = {"color": "#0b3c5d", "linewidth": 1.8, "elinewidth": 1.2, "markersize": 5, "capsize": 4, "label": label}
    axes.errorbar(x, mean, half, fmt="o-" if line else "o", **look)
    if beyond:
        axes.set_ylim(low - room / 2, high + room / 2)


def head_axis(axes: Axes, heads: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(heads[0] / 2**0.4, heads[-1] * 2**0.4)
    axes.xaxis.set_major_locator(FixedLocator(heads))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="x", labelsize=10 if len(heads) < 8 else 7.5)
    axes.set_xlabel("number of heads H")


def style(place: int, count: int) -> dict:
    """Colour, line style and marker of the head count at `place` of `count`, ascending."""
    lightness = 0.78 * (1 - place / max(1, count - 1))  # viridis beyond 0.78 is too light on white
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
    common = sorted(set.intersection(*(set(v) for v in values))) if values else []
    return np.array(common), np.array([[v[i] for i in common] for v in values]).reshape(len(runs), len(common))
