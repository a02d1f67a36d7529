"""What did it cost? Time, memory and operations by H, and the loss that they bought."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.report.figures import LOSS, STYLE, curves, head_axis, style
from analysis.report.section import Picture, Section, Table
from analysis.runs import RunCurve, by_head
from experiment.config import Config
from model.describe import flops_per_token

MIB = 2**20
LOOKS = {"sdpa": ("o", "-", "0.1"), "eager": ("s", (0, (5, 2)), "#0072b2")}


def iteration_flops(config: Config, vocab_size: int, n_head: int) -> float:
    """Floating-point operations of a training iteration of one run: three forward passes' (Kaplan et al. 2020)."""
    train = config.train
    tokens = train.batch_size * train.gradient_accumulation_steps * config.model.block_size
    return 3.0 * tokens * sum(flops_per_token(config.model, vocab_size, n_head).values())


def cost_section(
    runs: Sequence[RunCurve],
    config: Config,
    environment: Mapping,
    costs: Mapping[str, Mapping[str, Mapping[str, float]]] | None,
    machine: Mapping[str, object] | None,
    title: str,
    suffix: str = "",
) -> Section:
    """runs: one group. costs: as measure_costs returns them, with `machine` it ran on; None where nothing was run."""
    heads = list(by_head(runs))
    flops = {h: iteration_flops(config, environment["vocab_size"], h) for h in heads}
    train, model = config.train, config.model
    text = [
        f"A training iteration of one run: {train.batch_size * train.gradient_accumulation_steps} sequences of "
        f"{model.block_size} tokens, forward, backward and AdamW. The matrices are D × D whatever H is, so the "
        "parameters and the operations of the matrix products do not depend on H; the attention scores do: H · T² of "
        "them a sequence and layer, which eager attention holds in memory and the fused one (sdpa) does not."
    ]
    pictures = []
    if costs:
        low, high = heads[0], heads[-1]
        told = []
        for core in costs:
            first, last = costs[core][str(low)], costs[core][str(high)]
            told.append(
                f"with the {core} core an iteration takes {first['seconds'] * 1e3:.1f} ms at H = {low} and "
                f"{last['seconds'] * 1e3:.1f} ms at H = {high}, and at most {first['peak_bytes'] / MIB:.1f} and "
                f"{last['peak_bytes'] / MIB:.1f} MiB of tensors"
            )
        sentence = "; ".join(told)
        text.insert(0, sentence[0].upper() + sentence[1:] + ".")
        text.append(
            f"Measured one run alone on {machine['device']} with {machine['threads']} "
            f"{'thread' if machine['threads'] == 1 else 'threads'}, PyTorch "
            f"{machine['torch']}: the fastest of several iterations, and the most tensor memory held in one (weights, "
            "gradients and AdamW's averages included; on a CPU as torch.profiler records it)."
        )
        caption = "A training iteration of one run: time, memory and operations against H."
        pictures.append(Picture(f"cost{suffix}", caption, cost_figure(costs, flops, heads, title)))
    caption = "Validation loss against the operations"
    caption += f" and the time that one run alone takes (core: {model.attention})." if costs else " of one run."
    pictures.append(Picture(f"loss-by-cost{suffix}", caption, loss_by_cost(runs, flops, costs, model.attention, title)))
    tables = [cost_table(costs, flops, heads, suffix), parameter_table(environment, suffix)]
    data = {"costs": costs, "machine": machine, "flops_per_iteration": flops}
    return Section(f"cost{suffix}", "What did it cost?", text, pictures, tables, data)


def cost_figure(costs: Mapping, flops: Mapping[int, float], heads: Sequence[int], title: str) -> Figure:
    """Time, memory and FLOPs of an iteration against H."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        panels = figure.subplots(1, 3)
        scales = (("seconds", 1e3, "time of an iteration (ms)"), ("peak_bytes", 1 / MIB, "peak memory (MiB)"))
        for axes, (key, factor, label) in zip(panels, scales, strict=False):
            for core, of in costs.items():
                marker, dashes, color = LOOKS[core]
                values = [of[str(h)][key] * factor for h in heads]
                axes.plot(heads, values, marker=marker, linestyle=dashes, color=color, label=core)
            axes.set_ylabel(label)
            axes.legend(fontsize=9)
        panels[2].plot(heads, [flops[h] / 1e9 for h in heads], marker="o", color="0.1")
        panels[2].set_ylabel("operations of an iteration (GFLOP)")
        for axes in panels:
            head_axis(axes, heads)
            axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
        figure.suptitle(title, fontsize=11)
    return figure


def loss_by_cost(
    runs: Sequence[RunCurve], flops: Mapping[int, float], costs: Mapping | None, core: str, title: str
) -> Figure:
    """Mean validation loss over seeds against operations, and against time where it was measured; a line for each H."""
    of_heads = by_head(runs)
    units = [("operations of one run (TFLOP)", {h: flops[h] / 1e12 for h in of_heads})]
    if costs:
        units.append(("time of one run alone (minutes)", {h: costs[core][str(h)]["seconds"] / 60 for h in of_heads}))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(units), 4), layout="constrained")
        panels = figure.subplots(1, len(units), squeeze=False)[0]
        for axes, (label, unit) in zip(panels, units, strict=True):
            ends = []
            for place, (h, of) in enumerate(of_heads.items()):
                iters, losses = curves(of, "iters", "val_loss")
                trained = iters > 0
                ends.append(losses.mean(0)[trained])
                axes.plot(iters[trained] * unit[h], ends[-1], **style(place, len(of_heads)), label=f"H = {h}")
            axes.set(xlabel=label, ylabel=LOSS)
            axes.xaxis.set_major_locator(MaxNLocator(6))
            if len(ends[0]) > 1:
                logarithmic(axes, np.concatenate(ends))
        panels[0].legend(handlelength=3.2, fontsize=9)
        figure.suptitle(f"{title}\nmean over seeds, from the first measurement after the start", fontsize=11)
    return figure


def logarithmic(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic loss axis with plain numbers at round values."""
    axes.set_yscale("log")
    steps = [1, 1.5, 2, 3, 5, 7] if values.max() / values.min() > 1.6 else [n / 10 for n in range(10, 100)]
    ticks = [
        s * 10.0**e for e in range(-3, 3) for s in steps if values.min() * 0.95 <= s * 10.0**e <= values.max() * 1.05
    ]
    axes.set_yticks(ticks[:: max(1, len(ticks) // 6)], minor=False)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def cost_table(costs: Mapping | None, flops: Mapping[int, float], heads: Sequence[int], suffix: str = "") -> Table:
    head = ["H", "GFLOP an iteration"]
    for core in costs or ():
        head += [f"{core}, ms an iteration", f"{core}, peak MiB"]
    rows = []
    for h in heads:
        row = [str(h), f"{flops[h] / 1e9:.3f}"]
        for of in (costs or {}).values():
            row += [f"{of[str(h)]['seconds'] * 1e3:.1f}", f"{of[str(h)]['peak_bytes'] / MIB:.1f}"]
        rows.append(row)
    return Table(f"cost-table{suffix}", "A training iteration of one run alone.", head, rows)


def parameter_table(environment: Mapping, suffix: str = "") -> Table:
    """Parameters by component, which do not depend on H."""
    parts = environment.get("parameter_table") or {}
    rows = [[name, f"{count:,}"] for name, count in parts.items()]
    rows.append(["all", f"{environment['parameters']:,}"])
    return Table(
        f"parameters{suffix}", "Parameters of one run: the same for every H.", ["component", "parameters"], rows
    )
