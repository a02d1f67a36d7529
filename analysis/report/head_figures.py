"""Figures of single heads: heat maps by layer, head and H, and what is left of them on average, by H.

Heat maps are in cividis, whose lightness rises evenly: they read alike in grey and with any colour vision.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from analysis.report.figures import STYLE, head_axis, intervals, seed_lines, style
from analysis.statistics import estimate

COLORS = "cividis"
NUMBERS_UP_TO = 8
"""Heads in a layer up to which a heat map shows its numbers."""


def heat_maps(rows: Mapping[str, Mapping[int, np.ndarray]], title: str, logarithmic: bool = False) -> Figure:
    """A row of maps for each measure, a column for each H; rows: {label: {n_head: values (L, H)}}.

    A row has one scale, from 0 (or its lowest value, where that is below) to its highest;
    `logarithmic`: over three decades, with what is lower, or below 0, in the darkest shade.
    """
    heads = sorted(next(iter(rows.values())))
    layers = len(next(iter(rows.values()))[heads[0]])
    height = 0.75 + 0.2 * layers
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "font.size": 9}):
        figure = Figure(figsize=(2.1 * len(heads) + 1.2, height * len(rows) + 1.1), layout="constrained")
        grid = figure.subplots(len(rows), len(heads), squeeze=False)
        for axes_row, (label, maps) in zip(grid, rows.items(), strict=True):
            flat = np.concatenate([maps[h].ravel() for h in heads])
            low, high = min(0.0, float(flat.min())), float(flat.max())
            high = high if high > low else low + 1
            norm = LogNorm(high / 1000, high, clip=True) if logarithmic else Normalize(low, high)
            for axes, h in zip(axes_row, heads, strict=True):
                image = axes.imshow(maps[h], cmap=COLORS, aspect="auto", norm=norm)
                if h <= NUMBERS_UP_TO:
                    write_numbers(axes, maps[h], norm)
                axes.set_yticks(range(layers), [str(layer + 1) for layer in range(layers)])
                axes.xaxis.set_major_locator(FixedLocator(range(0, h, max(1, h // 8))))
                axes.xaxis.set_major_formatter(lambda value, _: f"{value + 1:g}")
                axes.tick_params(length=0, labelsize=8)
            figure.colorbar(image, ax=axes_row[-1], fraction=0.12, aspect=8).ax.tick_params(labelsize=8)
            axes_row[0].set_ylabel("layer")
            axes_row[0].set_title(label, loc="left", fontsize=9, fontweight="bold")
        for axes, h in zip(grid[0], heads, strict=True):
            place = {"xy": (0.5, 1.0), "xytext": (0, 20), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"H = {h}", xycoords="axes fraction", **place)
        for axes in grid[-1]:
            axes.set_xlabel("head")
        figure.suptitle(title, fontsize=11)
    return figure


def write_numbers(axes: Axes, values: np.ndarray, norm: Normalize) -> None:
    """Each cell's value in it, dark on light and light on dark."""
    digits = 0 if norm.vmax >= 10 else 2 if norm.vmax > 0.1 else 3
    for (row, column), value in np.ndenumerate(values):
        dark = norm(value) < 0.55
        text = f"{value:.{digits}f}"
        if digits and abs(value) < 1:
            text = text.replace("0.", ".", 1)
        text = text.replace("-", "" if float(text) == 0 else "−")
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")


def panels_by_head(rows: Mapping[str, Mapping[int, Mapping[int, float]]], title: str, columns: int = 3) -> Figure:
    """A panel for each measure against H: seeds, mean and 95 % interval; rows: {label: {n_head: {seed: value}}}."""
    lines = -(-len(rows) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.5 * min(columns, len(rows)), 2.9 * lines + 0.7), layout="constrained")
        panels = figure.subplots(lines, min(columns, len(rows)), squeeze=False).ravel()
        for axes, (label, values) in zip(panels, rows.items(), strict=False):
            by_head_panel(axes, values, label)
        for axes in panels[len(rows) :]:
            axes.remove()
        keys = (axes.get_legend_handles_labels() for axes in panels[: len(rows)])
        figure.legend(*max(keys, key=lambda key: len("".join(key[1]))), loc="outside lower center", ncols=2, fontsize=9)
        figure.suptitle(title, fontsize=11)
    return figure


def by_head_panel(axes: Axes, values: Mapping[int, Mapping[int, float]], label: str) -> None:
    """One panel against H; {n_head: {seed: value}}."""
    seed_lines(axes, values)
    means = {h: estimate(list(of.values())) for h, of in values.items()}
    intervals(axes, {h: (e.mean, e.half_width()) for h, e in means.items()}, "mean, 95 % CI")
    head_axis(axes, sorted(values))
    axes.set_ylabel(label, fontsize=9)


def similarity_maps(maps: Mapping[int, np.ndarray], title: str) -> Figure:
    """Matrices of the similarity of a layer's heads, a row a layer and a column for each H; {n_head: (L, H, H)}."""
    heads = sorted(maps)
    layers = len(maps[heads[0]])
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "font.size": 9}):
        figure = Figure(figsize=(1.9 * len(heads) + 1.2, 1.85 * layers + 0.9), layout="constrained")
        grid = figure.subplots(layers, len(heads), squeeze=False)
        for (layer, column), axes in np.ndenumerate(grid):
            h = heads[column]
            image = axes.imshow(maps[h][layer], cmap=COLORS, vmin=0, vmax=1)
            ticks = range(0, h, max(1, h // 4))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(FixedLocator(ticks))
                axis.set_major_formatter(lambda value, _: f"{value + 1:g}")
            axes.tick_params(length=0, labelsize=8)
            if layer == 0:
                axes.set_title(f"H = {h}", fontsize=9)
            if column == 0:
                axes.set_ylabel(f"layer {layer + 1}\nhead")
            if layer == layers - 1:
                axes.set_xlabel("head")
        figure.colorbar(image, ax=grid, label="similarity", fraction=0.04, aspect=25)
        figure.suptitle(title, fontsize=11)
    return figure


def rank_figure(results: Mapping[int, Sequence[dict]], head_size: Mapping[int, int], title: str) -> Figure:
    """Ranks of the query-key products against H, means over heads, layers and seeds, beside their bound d_h."""
    heads = sorted(results)
    kinds = {
        "rank": ("numerical rank", "s", (0, (6, 2))),
        "effective_rank": ("effective rank", "o", "-"),
        "stable_rank": ("stable rank", "^", (0, (2, 1.5))),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(heads, [head_size[h] for h in heads], color="0.6", linewidth=5, alpha=0.5, label="d_h, the bound")
        for place, (kind, (label, marker, dashes)) in enumerate(kinds.items()):
            values = [[np.array(found[kind]) for found in results[h]] for h in heads]
            means = [np.mean(of) for of in values]
            ends = [[np.min(of) for of in values], [np.max(of) for of in values]]
            color = matplotlib.colormaps["viridis"](0.3 * place)
            axes.plot(heads, means, color=color, linestyle=dashes, marker=marker, markersize=5, label=label)
            if kind != "rank":
                axes.fill_between(heads, *ends, color=color, alpha=0.12, linewidth=0)
        head_axis(axes, heads)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_locator(FixedLocator([2**n for n in range(12)]))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(ylabel="rank of a head's query-key product", xlabel="number of heads H")
        axes.legend(fontsize=9)
        figure.suptitle(f"{title}\nmeans over heads and seeds; shaded: lowest to highest head", fontsize=11)
    return figure


def silencing_figure(results: Mapping[int, Sequence[dict]], title: str) -> Figure:
    """Validation loss against the share of heads silenced, from the least important up, a line for each H."""
    heads = sorted(results)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for place, h in enumerate(heads):
            share = np.array(results[h][0]["ablated"]) / len(results[h][0]["order"]) * 100
            losses = np.array([found["cumulative"] for found in results[h]])
            look = style(place, len(heads))
            axes.plot(share, losses.mean(0), **look, label=f"H = {h}")
            if len(losses) > 1:
                low, high = losses.min(0), losses.max(0)
                axes.fill_between(share, low, high, color=look["color"], alpha=0.1, linewidth=0)
        axes.set(xlabel="heads silenced, the least important first (% of all)")
        axes.set_ylabel("validation loss (nats per token)")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.legend(handlelength=3.2)
        several = any(len(of) > 1 for of in results.values())
        figure.suptitle(title + ("\nmean over seeds; shaded: lowest to highest seed" if several else ""), fontsize=11)
    return figure
