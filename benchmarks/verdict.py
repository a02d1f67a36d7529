"""What it costs to find an effect of H: as people do it, and here.

    python -m benchmarks.verdict RUNS SWEEP.json [SWEEP.json …] [--effects 0 .010 .018 .019 .028] [--json FILE]

RUNS is a finished experiment at one learning rate, from which the deviations are taken; SWEEP.json is what `python -m
benchmarks.sweep --nanogpt PATH --json SWEEP.json` wrote, from which the times are. People train every run with a seed
of its own, one nanoGPT run after another, and ask one-way ANOVA whether anything differs and Welch's t-test, corrected
by Holm, which pairs do. Here runs that share a seed are paired, all train at once, and `analysis.statistics` asks. Both
are simulated with as many seeds as it takes for a chance of 80 %. What else could lower the noise is measured on the
same runs: other summaries of a run than its final validation loss. One thread, a minute.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import fdtrc, stdtr

from analysis.collect import collect
from analysis.runs import RunCurve
from analysis.statistics.contrasts import Family, family
from analysis.statistics.variance import CAUTION
from benchmarks.calibration import EFFECTS, LEVEL, holm, moderated
from terminal import table

POWER = 0.8
MOST_SEEDS = 200
SUMMARIES: dict[str, Callable[[RunCurve], float]] = {
    "final loss": lambda run: run.final_loss,
    "mean of the last 2 measurements": lambda run: float(np.mean(run.val_loss[-2:])),
    "mean of the last 3 measurements": lambda run: float(np.mean(run.val_loss[-3:])),
    "lowest measurement": lambda run: run.best[0],
    "area under the second half of the curve": lambda run: area(run, 0.5),
    "area under the whole curve": lambda run: area(run, 0.0),
}
Chance = Callable[[int], float]
"""The chance that so many seeds find what is asked for."""


def area(run: RunCurve, start: float) -> float:
    """Mean validation loss over the iterations from a share of the training on, by the trapezoid rule."""
    at, loss = np.array(run.iters), np.array(run.val_loss)
    kept = at >= start * at[-1]
    return float(np.trapezoid(loss[kept], at[kept]) / np.ptp(at[kept]))


def losses(runs: list[RunCurve], summary: Callable[[RunCurve], float]) -> np.ndarray:
    """(S, k) of the seeds that every head count has."""
    values = {(run.seed, run.n_head): summary(run) for run in runs}
    heads = sorted({h for _, h in values})
    seeds = [s for s in sorted({s for s, _ in values}) if all((s, h) in values for h in heads)]
    return np.array([[values[s, h] for h in heads] for s in seeds])


def deviations(values: np.ndarray) -> tuple[float, float]:
    """Of one run of (S, k): over the seeds of a head count, and without what a seed has in common (both unbiased)."""
    rows, heads = values.shape
    apart = values - values.mean(0)
    paired = apart - apart.mean(1, keepdims=True)
    return float(np.sqrt((apart**2).sum() / ((rows - 1) * heads))), float(
        np.sqrt((paired**2).sum() / ((rows - 1) * (heads - 1)))
    )


def welch(tables: np.ndarray, asked: Family) -> np.ndarray:
    """Which pairs of columns of (n, S, k) differ, every run with a seed of its own, as (n, pairs)."""
    first, second = np.array([(asked.n_head.index(a), asked.n_head.index(b)) for a, b in asked.pairs]).T
    mean, square = tables.mean(1), tables.var(1, ddof=1) / tables.shape[1]
    both = square[:, first] + square[:, second]
    df = both**2 / ((square[:, first] ** 2 + square[:, second] ** 2) / (tables.shape[1] - 1))
    return holm(2 * stdtr(df, -np.abs(mean[:, first] - mean[:, second]) / both**0.5))


def anova(tables: np.ndarray) -> np.ndarray:
    """Whether anything differs between the columns of (n, S, k), by one-way analysis of variance."""
    _, seeds, heads = tables.shape
    between = seeds * tables.mean(1).var(1, ddof=1)
    within = tables.var(1, ddof=1).mean(1)
    return fdtrc(heads - 1, heads * (seeds - 1), between / within) <= LEVEL


def fewest(chance: Chance) -> int | None:
    """The fewest seeds with a chance of 80 %; None for over MOST_SEEDS."""
    return next((n for n in range(2, MOST_SEEDS + 1) if chance(n) >= POWER), None)


def chances(effects: np.ndarray, alone: float, paired: float, count: int) -> dict[str, tuple[Chance, Chance]]:
    """{question: (as people do it, here)}; alone, paired: deviations of one run."""
    asked = family(tuple(2**i for i in range(len(effects))))
    different = np.array([effects[i] != effects[j] for i in range(len(effects)) for j in range(i + 1, len(effects))])
    pairs, shape = slice(len(asked.pairs)), slice(len(asked.pairs), None)

    def draw(deviation: float, seeds: int) -> np.ndarray:
        return effects + np.random.default_rng(seeds).normal(0, deviation, (count, seeds, len(effects)))

    ours = moderated(CAUTION)
    return {
        "the loss changes with H": (
            lambda n: anova(draw(alone, n)).mean(),
            lambda n: ours(draw(paired, n), asked)[:, shape].any(1).mean(),
        ),
        "which pairs differ (four of five of those that do)": (
            lambda n: welch(draw(alone, n), asked)[:, different].mean(),
            lambda n: ours(draw(paired, n), asked)[:, pairs][:, different].mean(),
        ),
    }


def main() -> None:
    options = arguments()
    (study,), _ = collect([options.runs])
    (runs,) = study.groups().values()
    iterations = study.settings["train.max_iters"]
    found = {name: deviations(losses(runs, summary)) for name, summary in SUMMARIES.items()}
    alone, paired = found["final loss"]
    seeds, heads = losses(runs, SUMMARIES["final loss"]).shape
    print(f"{options.runs}: {seeds} seeds, {heads} head counts, {iterations} iterations\n")
    rows = [[name, f"{a:.4f}", f"{p:.4f}", f"{(p / paired) ** 2:.2f}"] for name, (a, p) in found.items()]
    print(table(["summary of a run", "deviation over seeds", "within a seed", "seeds, relative"], rows))
    effects = np.array(options.effects)
    needed = {q: tuple(map(fewest, of)) for q, of in chances(effects, alone, paired, options.experiments).items()}
    ms = times(options.sweeps)
    rows = []
    for question, counts in needed.items():
        cost = [n and n * len(effects) * iterations * t / 3.6e6 for n, t in zip(counts, ms, strict=True)]
        ratio = f"{cost[0] / cost[1]:.1f}" if all(cost) else "–"
        for way, n, hours in zip(("nanoGPT, seeds of their own", "Headcount"), counts, cost, strict=True):
            rows.append([question, way, str(n or f"over {MOST_SEEDS}"), f"{hours:.2f}" if n else "–", ratio])
    print(f"\nEffects {', '.join(f'{e:g}' for e in effects)}; {ms[0]:.1f} and {ms[1]:.1f} ms a run-iteration\n")
    print(table(["question", "way", "seeds", "hours", "times cheaper"], rows))
    if options.json:
        figures = {"deviations": found, "seeds": needed, "ms": ms, "rows": rows}
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def times(files: list[str]) -> tuple[float, float]:
    """Median milliseconds of a run-iteration over all rounds: nanoGPT's, and the stack's."""
    rounds = [json.loads(Path(file).read_text(encoding="utf-8"))["results"] for file in files]
    return tuple(
        statistics.median(r["ms"] for result in rounds for r in result[name])
        for name in ("nanoGPT, one run after another", "Headcount, the stack")
    )


def arguments() -> argparse.Namespace:
    result = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    result.add_argument("runs", metavar="RUNS", help="a finished experiment at one learning rate")
    result.add_argument("sweeps", metavar="SWEEP.json", nargs="+", help="what benchmarks.sweep --json wrote")
    result.add_argument("--effects", type=float, nargs="+", default=list(EFFECTS), help="true losses by H, nats")
    result.add_argument("--experiments", type=int, default=4000, help="simulated for each number of seeds")
    result.add_argument("--json", metavar="FILE", help="write the figures there as well")
    return result.parse_args()


if __name__ == "__main__":
    main()
