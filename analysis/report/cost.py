"""What did it cost? Time, memory and operations by H, and the loss that they bought."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.report.figures import COLUMN, LOSS, PAGE, curves, head_axis, panels, style
from analysis.report.section import Picture, Section, Table
from analysis.report.words import number, percent, told_at
from analysis.runs import RunCurve, by_head
from experiment.config import Config
from model.describe import flops_per_token

TITLE = "What did it cost?"
MIB = 2**20
LOOKS = {"sdpa": ("o", "-", "0.1"), "eager": ("s", (0, (5, 2)), "#0072b2")}
Costs = Mapping[str, Mapping[str, Mapping[str, float]]]
"""As analysis.measure.cost.measure_costs returns them."""


def iteration_tokens(config: Config) -> int:
    train = config.train
    return train.sequences * config.model.block_size


def iteration_flops(config: Config, vocab_size: int, n_head: int) -> float:
    """Floating-point operations of a training iteration of one run: three forward passes' (Kaplan et al. 2020)."""
    return 3.0 * iteration_tokens(config) * sum(flops_per_token(config.model, vocab_size, n_head).values())


def cost_section(
    runs: Sequence[RunCurve],
    config: Config,
    environment: Mapping,
    measured: tuple[Costs, Mapping[str, object]] | None,
    title: str,
    place: str = "",
) -> Section:
    """runs: one group, and where among several it is: the losses are of it alone. measured: the costs and the machine
    they were measured on; None where nothing was run."""
    costs, machine = measured or (None, None)
    heads = list(by_head(runs))
    flops = {h: iteration_flops(config, environment["vocab_size"], h) for h in heads}
    attention = config.model.attention
    length = config.model.block_size
    text = [
        f"A training iteration of one run: {iteration_tokens(config) // length} sequences of {length} tokens, forward, "
        "backward and AdamW. The matrices are D × D whatever H is, so the parameters and the operations of the matrix "
        "products do not depend on H; the attention scores do: H · T² of them a sequence and layer, which eager "
        "attention holds in memory and the fused one (sdpa) does not."
    ]
    pictures = []
    if costs:
        text = [measured_text(costs, heads), *text, machine_text(machine)]
        caption = "A training iteration of one run: time, memory and operations against H."
        pictures.append(Picture("cost", title, caption, lambda: cost_figure(costs, flops, heads)))
    against = f" and the time that one run alone takes (attention: {attention})" if costs else " of one run"
    caption = (
        f"Validation loss against the operations{against}: mean over seeds, bars of one standard deviation, from the "
        "first measurement after the start."
    )
    caption = told_at(place, caption)
    pictures.append(Picture("loss-by-cost", title, caption, lambda: loss_by_cost(runs, flops, costs, attention)))
    data = {"costs": costs, "machine": machine, "flops_per_iteration": flops}
    tables = [cost_table(costs, flops, heads), parameter_table(environment)]
    return Section("cost", TITLE, text, pictures, tables, data, answer(costs, flops, heads, attention))


def answer(costs: Costs | None, flops: Mapping[int, float], heads: Sequence[int], attention: str) -> str:
    """What H did to the cost, in a sentence."""
    low, high = heads[0], heads[-1]
    if low == high:
        return ""
    if not costs:
        more = flops[high] / flops[low] - 1
        return f"A training iteration takes {percent(more, 1)} more operations at H = {high} than at H = {low}."
    times = [1e3 * costs[attention][str(h)]["seconds"] for h in (low, high)]
    sizes = [costs["eager"][str(h)]["peak_bytes"] / MIB for h in (low, high)]
    memory = [number(size, 0 if min(sizes) >= 10 else 1) for size in sizes]
    return (
        f"A training iteration of one run takes {times[0]:.1f} ms at H = {low} and {times[1]:.1f} ms at H = {high}; "
        f"with eager attention its memory goes from {memory[0]} to {memory[1]} MiB."
    )


def measured_text(costs: Costs, heads: Sequence[int]) -> str:
    told = []
    for attention, of in costs.items():
        first, last = of[str(heads[0])], of[str(heads[-1])]
        told.append(
            f"with {attention} attention an iteration takes {first['seconds'] * 1e3:.1f} ms at H = {heads[0]} and "
            f"{last['seconds'] * 1e3:.1f} ms at H = {heads[-1]}, and at most {first['peak_bytes'] / MIB:.1f} and "
            f"{last['peak_bytes'] / MIB:.1f} MiB of tensors"
        )
    sentence = "; ".join(told)
    return f"{sentence[0].upper()}{sentence[1:]}."


def machine_text(machine: Mapping[str, object]) -> str:
    return (
        f"Measured one run alone on {machine['device']} with {machine['threads']} "
        f"{'thread' if machine['threads'] == 1 else 'threads'}, PyTorch {machine['torch']}: the fastest of several "
        "iterations, and the most tensor memory held in one (weights, gradients and AdamW's moments included; on a CPU "
        "as torch.profiler records it)."
    )


def cost_figure(costs: Costs, flops: Mapping[int, float], heads: Sequence[int]) -> Figure:
    """Time, memory and FLOPs of an iteration against H."""
    figure, grid = panels(3, 3, 2.2)
    scales = (("seconds", 1e3, "time of an iteration (ms)"), ("peak_bytes", 1 / MIB, "peak memory (MiB)"))
    for axes, (key, factor, label) in zip(grid, scales, strict=False):
        for attention, of in costs.items():
            marker, dashes, color = LOOKS[attention]
            values = [of[str(h)][key] * factor for h in heads]
            axes.plot(heads, values, marker=marker, linestyle=dashes, color=color, label=attention)
        axes.set_ylabel(label)
    grid[0].legend()
    grid[2].plot(heads, [flops[h] / 1e9 for h in heads], marker="o", color="0.1")
    grid[2].set_ylabel("operations of an iteration (GFLOP)")
    for axes in grid:
        head_axis(axes, heads)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
    return figure


def loss_by_cost(runs: Sequence[RunCurve], flops: Mapping[int, float], costs: Costs | None, attention: str) -> Figure:
    """Mean validation loss over seeds against operations, and against time where it was measured; a line for each H."""
    of_heads = by_head(runs)
    units = [("operations of one run (TFLOP)", {h: flops[h] / 1e12 for h in of_heads})]
    if costs:
        seconds = {h: costs[attention][str(h)]["seconds"] / 60 for h in of_heads}
        units.append(("time of one run alone (minutes)", seconds))
    figure, grid = panels(len(units), 2, 2.6, PAGE if costs else COLUMN)
    for axes, (label, unit) in zip(grid, units, strict=True):
        ends = []
        for index, (h, of) in enumerate(of_heads.items()):
            iters, losses = curves(of, "iters", "val_loss")
            trained = (iters > 0) & np.isfinite(losses).all(0) if len(iters) > 1 else iters >= 0
            ends.append(losses.mean(0)[trained])
            scatter = losses.std(0, ddof=1)[trained] if len(of) > 1 else None
            looks = style(index, len(of_heads)) | {"elinewidth": 0.8, "capsize": 1.5, "label": f"H = {h}"}
            axes.errorbar(iters[trained] * unit[h], ends[-1], scatter, **looks)
        axes.set(xlabel=label, ylabel=LOSS)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        if len(values := np.concatenate(ends)) > len(ends) and values.min() > 0:
            logarithmic(axes, values)
    grid[0].legend(handlelength=3.2)
    return figure


def logarithmic(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic loss axis with plain numbers at round values."""
    axes.set_yscale("log")
    steps = [1, 1.5, 2, 3, 5, 7] if values.max() / values.min() > 1.6 else [n / 10 for n in range(10, 100)]
    low, high = values.min() * 0.95, values.max() * 1.05
    ticks = [s * 10.0**e for e in range(-4, 4) for s in steps if low <= s * 10.0**e <= high]
    axes.set_yticks(ticks[:: max(1, len(ticks) // 6)], minor=False)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def cost_table(costs: Costs | None, flops: Mapping[int, float], heads: Sequence[int]) -> Table:
    head = ["H", "GFLOP an iteration"]
    for attention in costs or ():
        head += [f"{attention}, ms an iteration", f"{attention}, peak MiB"]
    rows = []
    for h in heads:
        row = [str(h), number(flops[h] / 1e9, 3)]
        for of in (costs or {}).values():
            row += [number(of[str(h)]["seconds"] * 1e3, 1), number(of[str(h)]["peak_bytes"] / MIB, 1)]
        rows.append(row)
    return Table("cost", "A training iteration of one run alone.", head, rows)


def parameter_table(environment: Mapping) -> Table:
    """Parameters by component, which do not depend on H."""
    rows = [[name, f"{count:,}"] for name, count in (environment.get("parameter_table") or {}).items()]
    rows.append(["all", f"{environment['parameters']:,}"])
    caption = "Parameters of one run: the same for every H."
    return Table("parameters", caption, ["component", "parameters"], rows)
