"""What every figure shares: its looks, its axes over H, and how it becomes SVG, PDF and PNG.

Figures are for a paper as they stand: one or two columns wide (3.3 or 7 inches), 8-point text, the title left to the
caption. Head counts differ by lightness that falls as H grows (viridis, readable with any colour vision), by line
style and by marker, so that black and white loses nothing. The same data give the same SVG and PDF, byte for byte.
Matplotlib is loaded without pyplot: no window, no global state.
"""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from analysis.report.section import Picture
from analysis.runs import RunCurve
from analysis.statistics import estimate

COLUMN, PAGE = 3.3, 7.0
"""Widths of a figure: one column, or both; inches."""
DASHES = ["-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (4, 1.5, 1, 1.5, 1, 1.5))]
MARKERS = "osD^vPX*"
BLUE, RED = "#0b3c5d", "#c0392b"
LOSS = "validation loss (nats per token)"
STYLE = {
    "svg.hashsalt": "headcount",
    "pdf.fonttype": 42,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 8,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 300,
}
FORMATS = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
"""Formats of a figure, with the metadata that keeps the time out of it."""


def render(picture: Picture, title: bool = False) -> dict[str, bytes]:
    """The picture as {format: bytes}; title: with its title above."""
    with matplotlib.rc_context(STYLE):
        figure = picture.draw()
        if title:
            figure.suptitle(picture.title)
        files = {}
        for kind, metadata in FORMATS.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            figure.set_layout_engine("none")  # laid out once, which takes half the time of drawing
            files[kind] = buffer.getvalue()
        return files


def panels(count: int, columns: int, height: float = 2.1, width: float = PAGE) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels in rows of `columns`, each `height` inches high."""
    columns = min(columns, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(width, height * lines + 0.3), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def by_head_panels(
    rows: Mapping[str, Mapping[int, Mapping[int, float]]],
    columns: int = 3,
    levels: Mapping[str, float] | None = None,
    level_name: str = "",
) -> Figure:
    """A panel for each measure against H: seeds, mean, 95 % interval; rows: {label: {n_head: {seed: value}}}.

    levels: {label: value} of a dashed line called level_name.
    """
    count = len(rows)
    figure, grid = panels(count, columns, width=COLUMN if count == 1 else PAGE)
    for axes, (label, values) in zip(grid, rows.items(), strict=True):
        by_head_panel(axes, values, label)
        if label in (levels or {}):
            axes.axhline(levels[label], color="0.3", linewidth=0.9, linestyle=(0, (2, 2)), label=level_name)
    shared_legend(figure, grid)
    return figure


def shared_legend(figure: Figure, grid: Sequence[Axes]) -> None:
    """One legend below for what the panels name."""
    keys = {}
    for axes in grid:
        handles, labels = axes.get_legend_handles_labels()
        keys = dict(zip(labels, handles, strict=True)) | keys
    if keys:
        figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=len(keys))


def by_head_panel(axes: Axes, values: Mapping[int, Mapping[int, float]], label: str) -> None:
    """One panel against H; {n_head: {seed: value}}."""
    values = {h: {s: v for s, v in of.items() if np.isfinite(v)} for h, of in values.items()}
    seed_lines(axes, values)
    means = {h: estimate(list(of.values())) for h, of in values.items() if of}
    intervals(axes, {h: (e.mean, e.half_width()) for h, e in means.items()}, "mean, 95 % CI")
    head_axis(axes, sorted(values))
    axes.set_ylabel(label)


def seed_lines(axes: Axes, losses: Mapping[int, Mapping[int, float]]) -> None:
    """A thin line for every seed through {n_head: {seed: value}}."""
    for index, seed in enumerate(sorted({seed for of in losses.values() for seed in of})):
        has = [h for h in sorted(losses) if seed in losses[h]]
        label = "one seed" if index == 0 else None
        values = [losses[h][seed] for h in has]
        axes.plot(has, values, "-", color="0.6", linewidth=0.7, marker=".", markersize=3, label=label)


def intervals(
    axes: Axes, points: Mapping[int, tuple[float, float | None]], label: str, line: bool = True, **looks: object
) -> None:
    """Means with error bars from {n_head: (mean, half width)}; without a half width the mean alone is drawn."""
    if not points:
        return
    x, mean, half = zip(*((h, *of) for h, of in sorted(points.items())), strict=True)
    half = [h or 0 for h in half]
    looks = {"color": BLUE, "elinewidth": 1, "capsize": 2.5, "fmt": "o-" if line else "o"} | looks
    axes.errorbar(x, mean, half, label=label, **looks)


def head_axis(axes: Axes, heads: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(heads[0] / 2**0.4, heads[-1] * 2**0.4)
    axes.xaxis.set_major_locator(FixedLocator(heads))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel("number of heads H")


def style(index: int, count: int) -> dict:
    """Colour, line style and marker of head count number `index` of `count`, ascending."""
    lightness = 0.78 * (1 - index / max(1, count - 1))  # viridis beyond 0.78 is too light on white
    return {
        "color": matplotlib.colormaps["viridis"](lightness),
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def curves(runs: Sequence[RunCurve], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """The iterations (E,) that all runs measured, and their values there (runs, E)."""
    values = [dict(zip(getattr(run, x), getattr(run, y), strict=True)) for run in runs]
    common = sorted(set.intersection(*(set(v) for v in values))) if values else []
    return np.array(common), np.array([[v[i] for i in common] for v in values]).reshape(len(runs), len(common))
