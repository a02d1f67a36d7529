"""What a table of losses, seeds by head counts, says about H: trend, shape, which pairs differ, which are the same.

Runs that share a seed share their initial weights and their batches, so everything is taken within a seed first and
averaged then. All questions are one family, in which the chance of any false claim is 5 %: the trend in log2 H, the
curvature, and the pairs, each with its simultaneous 95 % interval.

- An interval that leaves out 0 is a trend, a curvature, or a pair of which one is worse.
- A pair is the same to within the margin where two one-sided tests (D. J. Schuirmann, Journal of Pharmacokinetics and
  Biopharmaceutics 15, 1987) say so, each at the same level: the 90 % interval lies inside (-margin, margin). For a
  false claim the true difference has to be 0 or the margin, never both, so this needs no share of its own.
- A pair that is neither is not settled, and only this asks for more seeds.

The error of each interval is the moderated variance of `variance`, its width in errors that of `contrasts`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import stdtr

from analysis.statistics import power
from analysis.statistics.contrasts import Family, family, fit
from analysis.statistics.estimate import LEVEL
from analysis.statistics.variance import Variances, contrast_means, variances

MARGIN = 0.01
"""Nats per token: losses that differ by less are called the same, unless the user says otherwise."""
METHOD = "max-t over the family with moderated variances"
SOURCE = (
    "T. Hothorn, F. Bretz, P. Westfall, Biometrical Journal 50 (2008); "
    "G. K. Smyth, Statistical Applications in Genetics and Molecular Biology 3 (2004)"
)

Losses = Mapping[int, Mapping[int, float]]
"""{n_head: {seed: loss}}"""
Answer = Literal["worse", "better", "same", "open"]


@dataclass(frozen=True)
class Test:
    """One question: an estimate in nats per token and how sure it is; None where it cannot be had."""

    seeds: tuple[int, ...]  # that have every head count of the question
    estimate: float | None  # None without such a seed
    standard_error: float | None = None  # None and what follows with fewer than two of them
    df: float | None = None
    p_alone: float | None = None  # of this question as if it were the only one
    p: float | None = None  # corrected for the whole family
    low: float | None = None  # simultaneous interval
    high: float | None = None
    p_seeds: float | None = None  # plain t-test on the values of the seeds (scipy.stats.ttest_1samp), uncorrected

    @property
    def tested(self) -> bool:
        return self.low is not None

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves out 0, else 0."""
        return 0 if self.low is None else int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Pair(Test):
    """Loss at `n_head` minus loss at `reference`: positive is worse than the reference."""

    n_head: int = 0
    reference: int = 0
    margin: float = MARGIN
    p_same: float | None = None  # that the difference is the margin or more, corrected for the whole family
    within_margin: bool = False  # whether that is rejected; a difference can be both sure and this small

    @property
    def answer(self) -> Answer:
        if self.sign:
            return "worse" if self.sign > 0 else "better"
        return "same" if self.within_margin else "open"


@dataclass(frozen=True)
class Verdict:
    """The answers of one table."""

    n_head: tuple[int, ...]
    lowest: int  # the head count with the lowest mean
    margin: float
    level: float  # the chance of any false claim
    reference: int | None  # None: all pairs
    trend: Test | None  # nats for each doubling of H; None for a single head count
    curvature: Test | None  # coefficient of (log2 H)²; None with fewer than three head counts
    turn: float | None  # H at the lowest point of the parabola, where that lies between the head counts
    pairs: tuple[Pair, ...]
    errors: Variances | None
    family: Family | None

    @property
    def tests(self) -> list[Test]:
        return [test for test in (*self.pairs, self.trend, self.curvature) if test is not None]

    @property
    def tested(self) -> int:
        """Questions that the family holds."""
        return sum(test.tested for test in self.tests)

    @property
    def open(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.answer == "open"]

    @cached_property
    def best(self) -> tuple[int, ...]:
        """The head counts that are not sure to be worse than another: the best one is among them with 95 %."""
        beaten = {p.n_head if p.sign > 0 else p.reference for p in self.pairs if p.sign}
        return tuple(h for h in self.n_head if h not in beaten)

    def against(self, base: int) -> list[Pair]:
        """The pairs of a head count that the family has, read from it, ascending."""
        found = {b if a == base else a for a, b in self.family.pairs if base in (a, b)} if self.family else set()
        return [self.pair(h, base) for h in sorted(found)]

    def pair(self, n_head: int, reference: int) -> Pair:
        """The pair read from `reference`. Raises KeyError where it is not in the family."""
        for pair in self.pairs:
            if (pair.n_head, pair.reference) == (n_head, reference):
                return pair
            if (pair.reference, pair.n_head) == (n_head, reference):
                return turned(pair)
        raise KeyError(f"{n_head} against {reference}")

    def seeds_needed(self, pair: Pair) -> int | None:
        """Seeds in all that settle an open pair with a chance of 80 %, should its difference be as measured.

        None for over 1,000, and for a pair that is not tested.
        """
        if not pair.tested:
            return None
        deviation = pair.standard_error * len(pair.seeds) ** 0.5
        future = power.Future(self.family.max_t, self.level, len(self.n_head), float(self.errors.excess))
        count = power.seeds_needed(future, pair.estimate, deviation, self.margin)
        return count and max(count, len(pair.seeds) + 1)

    def detectable(self, seeds: int) -> float | None:
        """The difference of a pair that so many seeds find with a chance of 80 %, at the pooled scatter."""
        if not self.tested:
            return None
        future = power.Future(self.family.max_t, self.level, len(self.n_head), float(self.errors.excess))
        return power.smallest_detectable(future, float((2 * self.errors.pooled) ** 0.5), seeds)

    @property
    def deviation(self) -> float | None:
        """Pooled standard deviation of one run's loss, without what the seed has in common."""
        return float(self.errors.pooled**0.5) if self.tested else None


def turned(pair: Pair) -> Pair:
    """The same pair read from its other side."""
    low, high = (None, None) if pair.low is None else (-pair.high, -pair.low)
    estimate = None if pair.estimate is None else -pair.estimate
    changes = {"estimate": estimate, "low": low, "high": high, "n_head": pair.reference, "reference": pair.n_head}
    return Pair(**vars(pair) | changes)


def compare(
    losses: Losses, margin: float = MARGIN, reference: int | None = None, level: float = LEVEL, count: int = 1
) -> Verdict:
    """The verdict on {n_head: {seed: loss}}; runs may be missing.

    margin: nats per token within which losses are called the same. reference: a head count named before looking, which
    narrows the family to the pairs with it. level: the chance of any false claim, shared by `count` equal families
    (Bonferroni). Raises KeyError where no run has the reference's head count.
    """
    heads = tuple(sorted(losses))
    if reference is not None and reference not in heads:
        raise KeyError(reference)
    seeds = sorted({seed for of in losses.values() for seed in of})
    table = np.array([[losses[h].get(seed, np.nan) for h in heads] for seed in seeds], dtype=float)
    shared = (heads, lowest(losses), margin, level / count, reference)
    if len(heads) == 1:
        return Verdict(*shared, None, None, None, (), None, None)
    shape = repeated(losses)
    asked = family(heads, reference, shape)
    errors = variances(table, asked.weights, len(asked.pairs))
    rows = tests(table, asked.weights, errors, asked, level / count, count, seeds)
    pairs = tuple(
        equivalence(Pair(**row, reference=a, n_head=b, margin=margin), asked, level, count)
        for (a, b), row in zip(asked.pairs, rows, strict=False)
    )
    trend, curvature = [*(Test(**row) for row in rows[len(asked.pairs) :]), None][:2]
    lowest_at = turn(table[:, [heads.index(h) for h in shape]], shape) if curvature else None
    return Verdict(*shared, trend, curvature, lowest_at, pairs, errors, asked)


def compare_together(
    outcomes: Mapping[str, Losses], margin: float = MARGIN, reference: int | None = None
) -> dict[str, Verdict]:
    """`compare` for several outcomes of the same runs (the relations, say), all of whose claims are one family.

    Each outcome has an equal share of the 5 % (Bonferroni), whatever their dependence. Raises KeyError as `compare`.
    """
    return {name: compare(of, margin, reference, count=len(outcomes)) for name, of in outcomes.items()}


def tests(
    table: np.ndarray, weights: np.ndarray, errors: Variances, asked: Family, level: float, count: int, seeds: list[int]
) -> list[dict]:
    """The fields of a Test for each contrast. table (S, k)."""
    mean, own, _ = contrast_means(table, weights)
    length = np.linalg.norm(weights, axis=1)
    rows = []
    for i, weight in enumerate(weights):
        of = tuple(seed for seed, row in zip(seeds, table, strict=True) if not np.isnan(row[weight != 0]).any())
        row = {"seeds": of, "estimate": float(mean[i]) if of else None}
        if len(of) > 1 and errors.pooled_df:
            size = float(np.nanmax(np.abs(table)))
            error = float(length[i] * (errors.moderated[i] / len(of)) ** 0.5)
            df = float(errors.df[i])
            t = ratio(row["estimate"], error, length[i] * size)
            half = asked.max_t.critical(level, df) * error
            row |= {
                "standard_error": error,
                "df": df,
                "p_alone": float(2 * stdtr(df, -t)),
                "p": min(1.0, count * asked.max_t.p(t, df)) if np.isfinite(t) else 0.0,
                "low": row["estimate"] - half,
                "high": row["estimate"] + half,
                "p_seeds": float(2 * stdtr(len(of) - 1, -ratio(row["estimate"], (own[i] / len(of)) ** 0.5, size))),
            }
            if t == 0:  # rounding error is no difference
                row |= {"low": min(row["low"], 0.0), "high": max(row["high"], 0.0)}
        rows.append(row)
    return rows


def equivalence(pair: Pair, asked: Family, level: float, count: int) -> Pair:
    """The pair with its test of sameness. The family's law is symmetric: a one-sided p is half of a two-sided one."""
    if not pair.tested:
        return pair
    room = pair.margin - abs(pair.estimate)
    if pair.standard_error == 0:
        p = float(room <= 0)
    else:
        two_sided = asked.max_t.p(abs(room) / pair.standard_error, pair.df)
        p = min(1.0, count * (two_sided / 2 if room > 0 else 1.0))
    return replace(pair, p_same=p, within_margin=p <= level)


def ratio(estimate: float, error: float, size: float) -> float:
    """|t|: 0 where the estimate is rounding error of losses of this size, inf where there is no scatter."""
    if abs(estimate) <= 1e-13 * size:
        return 0.0
    return abs(estimate) / error if error > 0 else np.inf


def repeated(losses: Losses) -> list[int]:
    """The head counts with two seeds or more, ascending; all of them where fewer than two have as many."""
    found = sorted(h for h, of in losses.items() if len(of) > 1)
    return found if len(found) > 1 else sorted(losses)


def turn(table: np.ndarray, heads: Sequence[int]) -> float | None:
    """H at the minimum of the least-squares parabola in log2 H through the means of the seeds that all heads have.

    None where there is no such seed, the parabola opens downwards, or its minimum is not between the head counts.
    """
    complete = table[~np.isnan(table).any(1)]
    if not len(complete):
        return None
    square, slope, _ = fit(heads, 2) @ complete.mean(0)
    at = -slope / (2 * square) if square > 0 else np.inf
    low, high = np.log2([heads[0], heads[-1]])
    return float(2**at) if low < at < high else None


def mean_losses(losses: Losses) -> dict[int, float]:
    """The mean of each head count with two seeds or more (`repeated`), over the seeds that all of these have.

    Over its own, where none is common.
    """
    some = {h: losses[h] for h in repeated(losses)}
    common = set.intersection(*map(set, some.values()))
    return {h: float(np.mean([loss for s, loss in of.items() if s in common or not common])) for h, of in some.items()}


def lowest(losses: Losses) -> int:
    """The head count with the lowest of these means; the smaller head count where two are equal."""
    means = mean_losses(losses)
    return min(means, key=means.get)
