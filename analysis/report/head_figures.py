"""Figures of single heads: maps by H, layer and head, and what becomes of the loss without them.

Maps are in cividis, whose lightness rises evenly: they read alike in grey and with any colour vision.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from analysis.report.figures import COLUMN, PAGE, head_axis, panels, style

COLORS, BELOW = "cividis", "#f6c9c2"
"""Shades from low to high; that of a negative value on a logarithmic scale."""
NARROW = 16
"""Heads in a layer up to which two maps stand beside each other."""


def head_maps(rows: Mapping[str, Mapping[int, np.ndarray]], logarithmic: bool = False) -> Figure:
    """A map for each measure, a line for each H and layer, a cell for each head; rows: {label: {n_head: (L, H)}}.

    A map has one scale, from 0 (or its lowest value, where that is below) to its highest. `logarithmic`: over three
    decades, what is lower in the darkest shade and what is below 0 in red.
    """
    heads = sorted(next(iter(rows.values())))
    layers, widest = len(next(iter(rows.values()))[heads[0]]), heads[-1]
    lines = (layers + 0.5) * len(heads)
    figure, grid = panels(len(rows), 2 if widest <= NARROW else 1, 0.55 + 0.15 * lines, PAGE)
    for axes, (label, maps) in zip(grid, rows.items(), strict=True):
        norm = scale(np.concatenate([np.ravel(maps[h]) for h in heads]), logarithmic)
        colors = matplotlib.colormaps[COLORS].with_extremes(under=BELOW if logarithmic else None, bad="0.9")
        for index, h in enumerate(heads):
            top = index * (layers + 0.5)
            values = np.ma.masked_invalid(maps[h])
            image = axes.pcolormesh(np.arange(h + 1), top + np.arange(layers + 1), values, cmap=colors, norm=norm)
            write_numbers(axes, maps[h], norm, top, 3.6 + 14 / max(widest, 6))
        middles = [i * (layers + 0.5) + layer + 0.5 for i in range(len(heads)) for layer in range(layers)]
        names = [f"H = {h}, layer {n + 1}" if n == 0 else f"{n + 1}" for h in heads for n in range(layers)]
        axes.set_yticks(middles, names)
        axes.set(xlim=(0, widest), ylim=(lines - 0.5, 0))
        axes.set_xticks([i + 0.5 for i in range(0, widest, max(1, widest // 16))])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value + 0.5:g}")
        axes.tick_params(length=0, labelsize=6)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_title(label, loc="left", fontweight="bold")
        figure.colorbar(image, ax=axes, fraction=0.05, aspect=20).ax.tick_params(labelsize=6)
    grid[-1].set_xlabel("head")
    return figure


def scale(values: np.ndarray, logarithmic: bool) -> Normalize:
    """See head_maps."""
    values = values[np.isfinite(values)]
    if logarithmic:
        high = max(values.max(initial=0), 1e-6)
        return LogNorm(high / 1000, high)
    low, high = min(0.0, values.min(initial=0)), values.max(initial=0)
    return Normalize(low, high if high > low else low + 1)


def write_numbers(axes: Axes, values: np.ndarray, norm: Normalize, top: float, size: float) -> None:
    """Each cell's value in it, dark on light and light on dark; rows from `top` on, text of `size` points."""
    digits = 0 if norm.vmax >= 10 else 2 if norm.vmax > 0.1 else 3
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        text = f"{value:.{digits}f}"
        if abs(value) < 1:
            text = text.replace("0.", ".", 1)
        text = text.replace("-", "" if float(text) == 0 else "−")
        light = float(norm(max(value, norm.vmin))) < 0.55 and not (isinstance(norm, LogNorm) and value < 0)
        where = (column + 0.5, top + row + 0.5)
        axes.text(*where, text, ha="center", va="center", fontsize=size, color="white" if light else "black")


def similarity_maps(maps: Mapping[int, np.ndarray]) -> Figure:
    """The similarity of two different heads of a layer, once; a row a layer, a column an H; {n_head: (L, H, H)}."""
    heads, layers = sorted(maps), len(next(iter(maps.values())))
    side = min(1.5, (PAGE - 1) / len(heads))
    figure = Figure(figsize=(max(COLUMN, side * len(heads) + 1), side * layers + 0.5), layout="constrained")
    grid = figure.subplots(layers, len(heads), squeeze=False)
    for (layer, column), axes in np.ndenumerate(grid):
        h = heads[column]
        shown = np.ma.masked_invalid(np.where(np.tri(h, k=-1, dtype=bool), maps[h][layer], np.nan))[1:, :-1]
        image = axes.imshow(shown, cmap=COLORS, vmin=0, vmax=1)
        if h <= 4:
            for (row, col), value in np.ndenumerate(shown.filled(np.nan)):
                if np.isfinite(value):
                    text, color = f"{value:.2f}".removeprefix("0"), "white" if value < 0.55 else "black"
                    axes.text(col, row, text, ha="center", va="center", fontsize=6, color=color)
        for axis, first in ((axes.xaxis, 1), (axes.yaxis, 2)):
            axis.set_major_locator(FixedLocator(range(0, h - 1, max(1, h // 4))))
            axis.set_major_formatter(lambda value, _, first=first: f"{value + first:g}")
        axes.tick_params(length=0, labelsize=6)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"H = {h}" if layer == 0 else "")
        axes.set_ylabel(f"layer {layer + 1}\nhead" if column == 0 else "")
        axes.set_xlabel("head" if layer == layers - 1 else "")
    figure.colorbar(image, ax=grid, label="similarity", fraction=0.04, aspect=25)
    return figure


def rank_figure(results: Mapping[int, Sequence[dict]], head_size: Mapping[int, int]) -> Figure:
    """Ranks of the query-key products against H, means over heads, layers and seeds, beside their bound d_h."""
    heads = sorted(results)
    kinds = {
        "rank": ("numerical rank", "s", (0, (6, 2))),
        "effective_rank": ("effective rank", "o", "-"),
        "stable_rank": ("stable rank", "^", (0, (2, 1.5))),
    }
    figure, (axes,) = panels(1, 1, 2.6, COLUMN)
    axes.plot(heads, [head_size[h] for h in heads], color="0.6", linewidth=4, alpha=0.5, label="d_h, the bound")
    for index, (kind, (label, marker, dashes)) in enumerate(kinds.items()):
        values = [np.array([found[kind] for found in results[h]]) for h in heads]
        color = matplotlib.colormaps["viridis"](0.3 * index)
        axes.plot(heads, [v.mean() for v in values], color=color, linestyle=dashes, marker=marker, label=label)
        if kind != "rank":
            ends = [v.min() for v in values], [v.max() for v in values]
            axes.fill_between(heads, *ends, color=color, alpha=0.12, linewidth=0)
    head_axis(axes, heads)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_locator(FixedLocator([2**n for n in range(12)]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("rank of a head's query-key product")
    axes.legend()
    return figure


def ablation_curve(results: Mapping[int, Sequence[dict]]) -> Figure:
    """How much the loss rises against the share of heads ablated, from the least important up, a line for each H."""
    figure, (axes,) = panels(1, 1, 2.6, COLUMN)
    for index, h in enumerate(sorted(results)):
        share = np.array(results[h][0]["ablated"]) / len(results[h][0]["order"]) * 100
        rises = np.array([np.array(found["cumulative"]) - found["loss"] for found in results[h]])
        looks = style(index, len(results))
        axes.plot(share, rises.mean(0), **looks, label=f"H = {h}")
        if len(rises) > 1:
            axes.fill_between(share, rises.min(0), rises.max(0), color=looks["color"], alpha=0.1, linewidth=0)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set(xlabel="heads ablated, the least important first (% of all)", ylabel="rise of the loss (nats per token)")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.legend(handlelength=3.2)
    return figure
