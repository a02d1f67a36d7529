"""Each head count at the learning rate that is best for it: the fair comparison.

For a seed, the rate of a head count is the one with the lowest mean loss over the other seeds, so that no loss is
reported that its own luck has chosen (leave one seed out). Such losses lean on each other through the choice: where
rates are as good as each other, a seed gets the rate that it is unlucky with, and tests that take seeds as independent
make false claims too often. The second reading, every head count at the rate with its lowest mean over all seeds, errs
the other way: too low, by about as much for every head count. A claim is made where both readings make it, and the
intervals span both; docs/statistics.md has the calibration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import TypeVar

import numpy as np

from analysis.statistics.contrasts import Family, differences, fit
from analysis.statistics.estimate import LEVEL
from analysis.statistics.variance import variances
from analysis.statistics.verdict import MARGIN, Losses, Pair, Test, Verdict, compare, tests

T = TypeVar("T", bound=Test)


@dataclass(frozen=True)
class Tuned:
    """The verdict with every head count at its own rate."""

    verdict: Verdict
    best: dict[int, float]  # the rate with the lowest mean over all seeds, by head count
    chosen: dict[int, dict[int, float]]  # the rate of each seed, chosen without it
    edges: dict[int, list[float]]  # rates to add, for head counts whose best rate ends the grid
    left_out: dict[int, list[float]]  # rates at which a head count lacks seeds that it has at others


def compare_tuned(
    losses: Mapping[float, Losses], margin: float = MARGIN, reference: int | None = None, level: float = LEVEL
) -> Tuned | None:
    """losses: {learning rate: {n_head: {seed: loss}}}, for a rate that was swept and has no loss {}. None where no head
    count has two seeds to choose with.

    A rate is open to a head count where all its seeds have it; head counts with a single seed are not compared.
    """
    grid = sorted(losses)
    of_head: dict[int, dict[float, dict[int, float]]] = {}
    for rate, heads in sorted(losses.items()):
        for h, of in heads.items():
            of_head.setdefault(h, {})[rate] = dict(of)
    best, chosen, left_out, apart, whole = {}, {}, {}, {}, {}
    for h, rates in sorted(of_head.items()):
        seeds = sorted({seed for of in rates.values() for seed in of})
        open_ = [rate for rate, of in rates.items() if len(of) == len(seeds)]
        if len(seeds) < 2 or not open_:
            continue
        table = np.array([[rates[rate][seed] for rate in open_] for seed in seeds])  # (S, rates)
        if len(open_) < len(grid):
            left_out[h] = [rate for rate in grid if rate not in open_]
        others, all_ = choices(table)
        best[h] = open_[all_]
        chosen[h] = {seed: open_[i] for seed, i in zip(seeds, others, strict=True)}
        apart[h] = {seed: rates[rate][seed] for seed, rate in chosen[h].items()}
        whole[h] = rates[best[h]]
    if not best or (reference is not None and reference not in best):
        return None
    verdict = spanning(compare(apart, margin, reference, level), compare(whole, margin, reference, level))
    edges = {h: more for h, rate in best.items() if (more := beyond(rate, grid))}
    return Tuned(verdict, best, chosen, edges, left_out)


def choices(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the best rate in losses (…, S, rates): for each seed (…, S) over the other seeds, and over all (…)."""
    total = losses.sum(-2, keepdims=True)
    return (total - losses).argmin(-1), total.argmin(-1)[..., 0]


def spanning(first: Verdict, second: Verdict) -> Verdict:
    """The first verdict with every p the larger of both and every interval spanning both."""
    return replace(
        first,
        pairs=tuple(span(a, b) for a, b in zip(first.pairs, second.pairs, strict=True)),
        trend=first.trend and span(first.trend, second.trend),
        curvature=first.curvature and span(first.curvature, second.curvature),
    )


def span(a: T, b: T) -> T:
    if not (a.tested and b.tested):
        return a
    both = {key: max(getattr(a, key), getattr(b, key)) for key in ("p", "p_alone", "p_seeds", "standard_error")}
    if isinstance(a, Pair):
        both |= {"p_same": max(a.p_same, b.p_same), "within_margin": a.within_margin and b.within_margin}
    return replace(a, low=min(a.low, b.low), high=max(a.high, b.high), **both)


def beyond(rate: float, grid: Sequence[float]) -> list[float]:
    """The next rate to try where `rate` ends the grid, at the grid's own step; none where it does not.

    To one digit, or as many as keep it outside the grid.
    """
    if len(grid) < 2 or grid[0] < rate < grid[-1]:
        return []
    lower = rate == grid[0]
    exact = rate / (grid[1] / grid[0]) if lower else rate * (grid[-1] / grid[-2])
    rounded = [float(f"{exact:.{digits}e}") for digits in range(17)]
    return [near for near in rounded if (near < rate if lower else near > rate)][:1]


@dataclass(frozen=True)
class Interaction:
    """The trend in log2 H at each rate, and whether it depends on the rate."""

    n_head: tuple[int, ...]  # that the trends are over
    trends: dict[float, Test]
    differences: dict[tuple[float, float], Test]  # (lower rate, higher rate): the trend at the higher minus the other's
    turns: tuple[float, float] | None  # neighbouring rates, or the nearest sure ones, between which the sign turns

    @property
    def different(self) -> bool:
        return any(test.sign for test in self.differences.values())


def interaction(losses: Mapping[float, Losses], level: float = LEVEL) -> Interaction | None:
    """Trends of all rates and the differences between them as one family (max-t), from the slope of each seed.

    losses as `compare_tuned`. Only head counts (with two seeds or more) and seeds that every rate with a loss has are
    used, so that rates are compared on the same runs; None where fewer than two head counts, seeds or rates are left.
    """
    rates = sorted(rate for rate, of in losses.items() if of)
    if len(rates) < 2:
        return None
    heads = [h for h in sorted(losses[rates[0]]) if all(len(losses[rate].get(h, ())) > 1 for rate in rates)]
    seeds = [set(of) for rate in rates for h, of in losses[rate].items() if h in heads]
    shared = sorted(set.intersection(*seeds)) if seeds else []
    if len(heads) < 2 or len(shared) < 2:
        return None
    cells = np.array([[[losses[rate][h][seed] for h in heads] for rate in rates] for seed in shared])
    asked = rate_family(rates)
    table = cells @ fit(heads, 1)[0]  # (S, rates)
    errors = variances(table, asked.weights, len(asked.pairs), blocks=False)
    found = [Test(**row) for row in tests(table, asked.weights, errors, asked, level, 1, shared)]
    trends = dict(zip(rates, found[len(asked.pairs) :], strict=True))
    sure = [rate for rate in rates if trends[rate].sign]
    turns = next(((a, b) for a, b in pairwise(sure) if trends[a].sign != trends[b].sign), None)
    return Interaction(tuple(heads), trends, dict(zip(asked.pairs, found, strict=False)), turns)


def rate_family(rates: Sequence[float]) -> Family:
    """Every two rates, then each rate on its own, as contrasts of the slopes (S, rates)."""
    pairs = tuple(combinations(rates, 2))
    return Family(tuple(rates), pairs, np.vstack([differences(rates, pairs), np.eye(len(rates))]))
