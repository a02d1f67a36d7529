"""How often the statistics of `analysis.statistics` claim what is not so, and how often they find what is.

    python -m benchmarks.calibration [RUNS ...] [--experiments 10000] [--docs docs/statistics.md]

Experiments are drawn as seeds × head counts, by thousands at once, and judged by the very functions that compare.py
uses. RUNS are experiments of at least eight seeds whose residuals are drawn from as well: each run's loss without what
its seed and its head count have in common. --docs puts the tables between the markers of that page. One thread,
minutes.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.special import stdtr

from analysis.collect import collect
from analysis.statistics.contrasts import Family, family
from analysis.statistics.looks import levels, planned_looks
from analysis.statistics.tuned import choices, rate_family
from analysis.statistics.variance import CAUTION, contrast_means, variances

LEVEL = 0.05
MARGIN = 0.01
HEADS = (1, 2, 4, 8, 16)
SEEDS = (2, 3, 4, 5, 8)
SCATTER = {
    "equal": np.ones(5),
    "proportional (0.5, 0.7, 1, 1.3, 1.6)": np.array([0.5, 0.7, 1, 1.3, 1.6]),
    "one outlier (1, 1, 1, 1, 6)": np.array([1.0, 1, 1, 1, 6]),
}
EFFECTS = np.array([0, 0.010, 0.018, 0.019, 0.028])
RATES = {
    "three rates alike": np.array([0.0, 0, 0]),
    "two alike, one 0.03 worse": np.array([0.0, 0, 0.03]),
    "0.010 and 0.008 worse": np.array([0.010, 0, 0.008]),
    "0.050 and 0.040 worse": np.array([0.050, 0, 0.040]),
    "nine alike, grid widened": np.zeros(9),
    "0.005 worse by each step, grid widened": 0.005 * np.arange(9.0),
}
"""By how much each rate is worse than the best. Of nine, three are tried first, and more as `widened` says."""
DEVIATION = 0.007

Draw = Callable[[np.random.Generator, int, int], np.ndarray | None]
"""(generator, experiments, seeds) -> residuals (experiments, seeds, heads), or None where there are too few to draw."""


def normal(scatter: np.ndarray) -> Draw:
    return lambda generator, count, seeds: generator.normal(size=(count, seeds, len(scatter))) * scatter


def resampled(residuals: np.ndarray) -> Draw:
    """From residuals (S, k), each head count from its own."""
    rows, heads = residuals.shape

    def draw(generator: np.random.Generator, count: int, seeds: int) -> np.ndarray:
        return residuals[generator.integers(rows, size=(count, seeds, heads)), np.arange(heads)]

    return draw


def split(losses: np.ndarray) -> Draw:
    """A/A: the runs of one head count (a column of (S, k)), dealt at random over five groups that differ in nothing."""
    rows, heads = losses.shape

    def draw(generator: np.random.Generator, count: int, seeds: int) -> np.ndarray | None:
        if seeds * len(HEADS) > rows:
            return None
        order = generator.permuted(np.tile(np.arange(rows), (count, 1)), axis=1)[:, : seeds * len(HEADS)]
        column = generator.integers(heads, size=(count, 1))
        return losses[order, column].reshape(count, seeds, len(HEADS))

    return draw


def critical(asked: Family, level: float, df: np.ndarray) -> np.ndarray:
    """The family's critical |t| for many degrees of freedom, one or more, interpolated in 1 / df."""
    nodes = np.linspace(0.001, 1, 60)
    return np.exp(np.interp(1 / df, nodes, [np.log(asked.max_t.critical(level, 1 / node)) for node in nodes]))


def intervals(
    tables: np.ndarray, asked: Family, levels: Sequence[float] = (LEVEL,), caution: float = CAUTION, blocks: bool = True
) -> list[np.ndarray]:
    """Means (n, c) of tables (n, S, k) and, for each level, the half widths (n, c) of the simultaneous intervals."""
    mean, _, count = contrast_means(tables, asked.weights)
    found = variances(tables, asked.weights, len(asked.pairs), blocks, caution)
    error = np.linalg.norm(asked.weights, axis=1) * (found.moderated / count) ** 0.5
    return [mean, *(critical(asked, level, found.df) * error for level in levels)]


def moderated(caution: float) -> Callable[[np.ndarray, Family], np.ndarray]:
    def claims(tables: np.ndarray, asked: Family) -> np.ndarray:
        mean, half = intervals(tables, asked, caution=caution)
        return np.abs(mean) > half

    return claims


def pooled(tables: np.ndarray, asked: Family) -> np.ndarray:
    mean, _, count = contrast_means(tables, asked.weights)
    found = variances(tables, asked.weights, len(asked.pairs))
    error = np.linalg.norm(asked.weights, axis=1) * (found.pooled[:, None] / count) ** 0.5
    return np.abs(mean) > asked.max_t.critical(LEVEL, found.pooled_df) * error


def paired(tables: np.ndarray, asked: Family) -> np.ndarray:
    """A t-test on the values of the seeds for each question alone, corrected by Holm."""
    mean, own, count = contrast_means(tables, asked.weights)
    with np.errstate(divide="ignore"):  # resampled values can be all the same
        return holm(2 * stdtr(count - 1, -np.abs(mean) / (own / count) ** 0.5))


def holm(p: np.ndarray) -> np.ndarray:
    """Which of the p (n, c) of each row are claims at the level, corrected by Holm."""
    order = p.argsort(1)
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1), 1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, stepped, 1)
    return adjusted <= LEVEL


METHODS = {
    "paired t-test of each question, Holm": paired,
    "pooled residuals, max-t": pooled,
    "moderated, prior df as Smyth estimates them, max-t": moderated(0.0),
    "**moderated, cautious prior df, max-t** (used)": moderated(CAUTION),
}


def false_claims(draws: dict[str, Draw], count: int, asked: Family) -> list[list[str]]:
    """By method and residuals, the share of experiments in which any interval misses its truth."""
    rows = []
    for name, method in METHODS.items():
        for kind, draw in draws.items():
            row = [name, kind]
            for seeds in SEEDS:
                tables = draw(np.random.default_rng(seeds), count, seeds)
                row.append("–" if tables is None else percent(method(tables, asked).any(1).mean()))
            rows.append(row)
    return rows


def power(count: int, asked: Family) -> list[list[str]]:
    """By method: the trend found, with a deviation of 0.007; the share of pairs found, with 0.003."""
    rows = []
    trend, pairs = len(asked.pairs), slice(len(asked.pairs))
    for name, method in METHODS.items():
        row = [name]
        for deviation, seeds, which in (
            *((DEVIATION, s, trend) for s in (2, 3, 4, 5)),
            *((0.003, s, pairs) for s in (2, 3, 4, 5)),
        ):
            noise = np.random.default_rng(seeds).normal(0, deviation, (count, seeds, 5))
            row.append(percent(method(EFFECTS + noise, asked)[:, which].mean()))
        rows.append(row)
    return rows


def wrong(
    tables: np.ndarray, effects: np.ndarray, asked: Family, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """False claims (n, c) of differences, shapes and sameness, and settled pairs (n, pairs)."""
    mean, half, narrow = intervals(tables, asked, (level, 2 * level))
    truth = asked.weights @ effects
    sign = np.sign(mean) * (np.abs(mean) > half)
    false = (sign != 0) & (sign != np.sign(np.round(truth, 12)))
    pairs = slice(len(asked.pairs))
    same = (sign[:, pairs] == 0) & (np.abs(mean) + narrow < MARGIN)[:, pairs]
    false[:, pairs] |= same & (np.abs(truth[pairs]) >= MARGIN - 1e-12)
    return false, same | (sign[:, pairs] != 0)


def with_effects(count: int, asked: Family) -> list[list[str]]:
    """Claims that are false, of every kind, where effects are there to be found."""
    rows = []
    for name, effects in (
        ("0, .010, .018, .019, .028", EFFECTS),
        ("0 and the margin, in turn", MARGIN * np.array([0, 1, 0, 1, 0])),
    ):
        for deviation in (0.003, 0.005, 0.007, 0.01):
            row = [name, f"{deviation:g}"]
            for seeds in SEEDS:
                noise = np.random.default_rng(seeds).normal(0, deviation, (count, seeds, 5))
                false, _ = wrong(effects + noise, effects, asked)
                row.append(percent(false.any(1).mean()))
            rows.append(row)
    return rows


def tuned(count: int, asked: Family) -> list[list[str]]:
    """The tuned comparison, every head count with the same losses at each rate: any false claim, and one reading."""
    rows = []
    for name, rates in RATES.items():
        for kind, scatter in SCATTER.items():
            row = [name, kind]
            for seeds in SEEDS:
                generator = np.random.default_rng(seeds)
                noise = generator.normal(size=(count, seeds, 5, len(rates)))
                noise += generator.normal(size=(count, seeds, 5, 1))
                losses = rates + DEVIATION / 2**0.5 * scatter[:, None] * noise  # half of the variance is the run's
                losses = widened(losses) if len(rates) > 3 else losses
                claims = [np.abs(mean) > half for mean, half in readings(losses, asked)]
                spans = claims[0] & claims[1]
                row.append(f"{percent(spans.any(1).mean())} ({percent(claims[0].any(1).mean())})")
            rows.append(row)
    return rows


def widened(losses: np.ndarray, times: int = 3) -> np.ndarray:
    """Losses (n, S, k, rates) as `experiments.results` would see them: those of rates not tried too high to be chosen.

    The three rates in the middle are tried, and one more at an end of the grid where the best one of some head count
    ends it, at most `times` times.
    """
    place, middle = np.arange(losses.shape[-1]), losses.shape[-1] // 2
    low, high = (np.full((len(losses), 1), middle + by) for by in (-1, 1))
    for _ in range(times + 1):
        seen = losses + 1e6 * ((place < low) | (place > high))[:, None, None]
        best = choices(seen.swapaxes(1, 2))[1]  # (n, k)
        low = low - (best == low).any(1, keepdims=True)
        high = high + (best == high).any(1, keepdims=True)
    return seen


def readings(losses: np.ndarray, asked: Family) -> list[tuple[np.ndarray, np.ndarray]]:
    """Intervals of losses (n, S, k, rates), each seed at the rate chosen without it, and all at one rate."""
    others, all_ = choices(losses.swapaxes(1, 2))  # (n, k, S), (n, k)
    chosen = [others.swapaxes(1, 2), np.broadcast_to(all_[:, None], losses.shape[:3])]
    return [intervals(np.take_along_axis(losses, c[..., None], -1)[..., 0], asked) for c in chosen]


def interactions(count: int) -> list[list[str]]:
    """Slopes of three rates that are all 0: any claim of a trend or of a difference between rates."""
    asked, rows = rate_family((1e-3, 3e-3, 1e-2)), []
    for kind, scatter in {"equal": np.ones(3), "(0.5, 1, 2)": np.array([0.5, 1, 2.0])}.items():
        for shared in (0.0, 0.5):
            row = [kind, f"{shared:g}"]
            for seeds in SEEDS:
                generator = np.random.default_rng(seeds)
                noise = (1 - shared) ** 0.5 * generator.normal(size=(count, seeds, 3))
                noise += shared**0.5 * generator.normal(size=(count, seeds, 1))
                mean, half = intervals(noise * scatter, asked, blocks=False)
                row.append(percent((np.abs(mean) > half).any(1).mean()))
            rows.append(row)
    return rows


def growing(count: int, asked: Family) -> list[list[str]]:
    """Experiments that add seeds until every pair is settled: any false claim at any look, and what it takes."""
    rows = []
    for first, most in ((2, 12), (3, 16), (4, 24)):
        looks = planned_looks(first, most)
        for name, effects in (
            ("none", 0 * EFFECTS),
            ("as above", EFFECTS),
            ("margin", MARGIN * np.array([0, 1, 0, 1, 0])),
        ):
            for kind, scatter in SCATTER.items():
                noise = np.random.default_rng(first).normal(size=(count, most, 5)) * scatter
                tables = effects + DEVIATION * noise
                any_false, settled = np.zeros(count, bool), np.zeros((count, len(asked.pairs)), bool)
                seeds = np.full(count, most)
                for look, level in zip(looks, levels(looks), strict=True):
                    false, now = wrong(tables[:, :look], effects, asked, level)
                    going = ~settled.all(1)
                    any_false |= going & false.any(1)
                    settled |= now & going[:, None]
                    seeds = np.where(going & settled.all(1), look, seeds)
                rows.append(
                    [
                        ", ".join(map(str, looks)),
                        name,
                        kind.split(" (")[0],
                        percent(any_false.mean()),
                        percent(settled.mean()),
                        f"{seeds.mean():.1f}",
                    ]
                )
    return rows


def real(path: str) -> np.ndarray:
    """Final losses (S, k) of an experiment's complete seeds, all at one learning rate."""
    (study,), _ = collect([path])
    (runs,) = study.groups().values()
    losses: dict[int, dict[int, float]] = {}
    for run in runs:
        losses.setdefault(run.seed, {})[run.n_head] = run.final_loss
    heads = {run.n_head for run in runs}
    return np.array([[of[h] for h in sorted(heads)] for _, of in sorted(losses.items()) if len(of) == len(heads)])


def residuals(losses: np.ndarray) -> np.ndarray:
    """Losses (S, k) without seed and head-count effects, at the scale that independent errors would have."""
    rows, heads = losses.shape
    left = losses - losses.mean(0) - losses.mean(1, keepdims=True) + losses.mean()
    return left * (rows * heads / ((rows - 1) * (heads - 1))) ** 0.5


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    options = arguments()
    count, asked = options.experiments, family(HEADS)
    draws = {kind: normal(scatter) for kind, scatter in SCATTER.items()}
    notes = []
    for path in options.runs:
        losses = real(path)
        left = residuals(losses)
        draws[f"residuals of {Path(path).name}"] = resampled(left)
        draws[f"A/A, {Path(path).name}"] = split(losses)
        shown = ", ".join(f"{value:.4f}" for value in left.std(0))
        notes.append(f"{Path(path).name}: {len(losses)} seeds; deviations of the residuals by H: {shown}.")
    by_seeds = [f"{seeds} seeds" for seeds in SEEDS]
    parts = {
        "False claims": (["method", "residuals", *by_seeds], false_claims(draws, count, asked)),
        "Power": (
            ["method", *(f"trend, {s} seeds" for s in (2, 3, 4, 5)), *(f"pairs, {s} seeds" for s in (2, 3, 4, 5))],
            power(count, asked),
        ),
        "False claims where there are effects": (["effects", "deviation", *by_seeds], with_effects(count, asked)),
        "Tuned": (["rates", "residuals", *by_seeds], tuned(count, asked)),
        "Interaction": (["deviations by rate", "shared by rates", *by_seeds], interactions(count)),
        "Growing": (
            ["looks", "effects", "residuals", "any false claim", "pairs settled", "seeds on average"],
            growing(count, asked),
        ),
    }
    text = "\n\n".join(f"#### {title}\n\n{markdown(*part)}" for title, part in parts.items())
    text = "\n".join(
        [f"{count:,} experiments a cell; all figures are per cent of them, but for the seeds.", *notes, "", text]
    )
    print(text)
    if options.docs:
        page = Path(options.docs)
        old = page.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- calibration -->\n).*?(<!-- end of calibration -->)", re.DOTALL)
        page.write_text(marked.sub(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", old), encoding="utf-8")


def arguments() -> argparse.Namespace:
    result = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    result.add_argument("runs", nargs="*", metavar="RUNS", help="experiments whose residuals are drawn from")
    result.add_argument("--experiments", type=int, default=10_000, help="simulated in each cell (default: 10000)")
    result.add_argument("--docs", metavar="PAGE", help="a Markdown page with the markers that the tables go between")
    return result.parse_args()


if __name__ == "__main__":
    main()
