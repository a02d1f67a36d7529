"""Statistics on the losses of paired runs: pure functions on numbers.

Runs that share a seed share their initial weights and their batches, so head counts are compared within a seed:
the differences of one seed are taken first, and only then averaged. This removes what the seeds have in common.

Which comparisons count as one family depends on who chose the reference head count:

- named beforehand: one comparison for every other head count, k - 1 in all;
- chosen by the data (the lowest mean loss): whatever came out lowest was helped by luck, so a test against it that
  takes no notice of the choice finds differences where there are none. All k (k - 1) / 2 pairs are then one family,
  and the comparisons with the winner, whichever it is, are members of it.

Holm's method holds the chance of any false difference in the family at or below 5 %, without assuming that head counts
scatter equally or independently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ncfdtr, stdtr, stdtrit

LEVEL = 0.05  # the chance of any false difference in a family; intervals cover with 1 - LEVEL
POWER = 0.8  # the chance with which a difference that is called detectable is found
MOST_SEEDS = 1000  # beyond this many nobody is advised to go
LARGEST = 1e9  # noncentrality beyond which scipy gives nan; the power is 1 there


@dataclass(frozen=True)
class Estimate:
    """A mean of `count` values, in the unit of the values; what takes two values or more is None with fewer."""

    mean: float
    count: int
    standard_deviation: float | None
    standard_error: float | None

    def half_width(self, comparisons: int = 1) -> float | None:
        """Half the width of the t interval that covers with 1 - 0.05 / comparisons.

        With comparisons = 1 the usual 95 % interval; with the size of a family, Bonferroni's simultaneous interval:
        all intervals of the family hold at once with 95 %. Quantile of t: scipy.special.stdtrit.
        """
        if self.standard_error is None:
            return None
        return float(stdtrit(self.count - 1, 1 - LEVEL / (2 * comparisons)) * self.standard_error)

    @property
    def p_value(self) -> float | None:
        """Two-sided p of the t-test that the true mean is 0. On paired differences: scipy.stats.ttest_rel."""
        if self.standard_error is None:
            return None
        if self.standard_error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stdtr(self.count - 1, -abs(self.mean) / self.standard_error))


@dataclass(frozen=True)
class Difference:
    """Loss at `n_head` minus loss at `reference`, within a seed: positive is worse than the reference."""

    n_head: int
    reference: int
    seeds: tuple[int, ...]  # the seeds that both have
    estimate: Estimate | None  # None: no common seed
    p_holm: float | None  # corrected for the whole family; None with fewer than two common seeds

    @property
    def different(self) -> bool:
        """Whether the family's test calls this a difference."""
        return self.p_holm is not None and self.p_holm <= LEVEL


@dataclass(frozen=True)
class Comparison:
    """Every head count against one reference."""

    reference: int
    chosen_by_data: bool
    family: int  # comparisons that the correction counts
    differences: tuple[Difference, ...]  # one for every head count but the reference, ascending

    @property
    def count(self) -> int | None:
        """Seeds of the tested pairs, the fewest where they differ; None where no pair can be tested."""
        return min((d.estimate.count for d in self.differences if d.p_holm is not None), default=None)

    @property
    def standard_deviation(self) -> float | None:
        """Of the differences within a seed, pooled over the tested pairs with the reference: sqrt of the mean variance.

        Variances are weighted by their degrees of freedom, count - 1. None where no pair can be tested.
        """
        tested = [d.estimate for d in self.differences if d.p_holm is not None]
        freedom = sum(e.count - 1 for e in tested)
        return (sum((e.count - 1) * e.standard_deviation**2 for e in tested) / freedom) ** 0.5 if tested else None

    def half_width(self, difference: Difference) -> float | None:
        """Half the width of the 95 % interval that is right to show.

        Reference named beforehand: the t interval of this pair. Chosen by the data: the simultaneous interval over all
        pairs, which covers whichever pair the choice brings up.
        """
        if difference.estimate is None:
            return None
        return difference.estimate.half_width(self.family if self.chosen_by_data else 1)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation (n - 1) and standard error of values (n,), n >= 1."""
    values = np.asarray(values, dtype=float)
    count = len(values)
    if count == 1:
        return Estimate(float(values[0]), 1, None, None)
    deviation = float(values.std(ddof=1))
    return Estimate(float(values.mean()), count, deviation, deviation / count**0.5)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order; reject where they are at most 0.05.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979), 65-70.
    """
    count, adjusted, largest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def power(difference: float, standard_deviation: float, count: int, comparisons: int = 1) -> float:
    """The chance that a two-sided paired t-test at level 0.05 / comparisons finds a true difference.

    Over `count` >= 2 seeds t is noncentral t with noncentrality difference / (standard_deviation / sqrt(count)); its
    square, which a two-sided test looks at, is noncentral F with 1 and count - 1 degrees of freedom
    (scipy.special.ncfdtr). With Bonferroni's level this is a lower bound of the power of Holm's method.
    """
    if standard_deviation == 0:
        return 1.0 if difference else LEVEL / comparisons
    critical = stdtrit(count - 1, 1 - LEVEL / (2 * comparisons))
    noncentrality = min(abs(difference) / standard_deviation * count**0.5, LARGEST)
    return float(1 - ncfdtr(1, count - 1, noncentrality**2, critical**2))


def smallest_detectable(standard_deviation: float, count: int, comparisons: int = 1) -> float:
    """The true difference, in the unit of the standard deviation, that `power` finds with a chance of 80 %."""
    if standard_deviation == 0:
        return 0.0
    highest = 1.0
    while power(highest, 1.0, count, comparisons) < POWER:
        highest *= 2
    return standard_deviation * brentq(lambda d: power(d, 1.0, count, comparisons) - POWER, 0.0, highest)


def seeds_needed(difference: float, standard_deviation: float, comparisons: int = 1) -> int | None:
    """The fewest seeds with which `power` finds the difference with a chance of 80 %; None for over MOST_SEEDS."""
    low, high = 1, MOST_SEEDS  # power grows with seeds: `low` are too few, `high` are enough
    if power(difference, standard_deviation, high, comparisons) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(difference, standard_deviation, middle, comparisons) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def lowest(losses: Mapping[int, Mapping[int, float]]) -> int:
    """The head count with the lowest mean loss over the seeds that all have (over its own, where none is common).

    losses: {n_head: {seed: loss}}; the smaller head count where two are equal.
    """
    common = set.intersection(*(set(of_seed) for of_seed in losses.values()))
    mean = {h: np.mean([loss for s, loss in of.items() if s in common or not common]) for h, of in losses.items()}
    return min(sorted(mean), key=mean.get)


def compare(losses: Mapping[int, Mapping[int, float]], reference: int | None = None) -> Comparison:
    """Compare head counts with a reference, paired by seed, and correct for the number of comparisons.

    losses: {n_head: {seed: final loss in nats per token}}. reference: a head count named beforehand, or None for the
    lowest mean. Raises KeyError where no run has the reference's head count.
    """
    chosen = lowest(losses) if reference is None else reference
    return compare_together({"": losses}, chosen, reference is None)[""]


def compare_together(
    outcomes: Mapping[str, Mapping[int, Mapping[int, float]]], reference: int, chosen_by_data: bool
) -> dict[str, Comparison]:
    """`compare` for several outcomes of the same runs, all of whose tests are one family.

    outcomes: {name: losses as `compare` takes them}. reference: of all outcomes; chosen_by_data: by the losses, whether
    these or others, so that every pair of head counts of every outcome is counted. Holm's method takes the tests to be
    as dependent as they like. Raises KeyError where an outcome lacks the reference's head count.
    """
    seeds, estimates = {}, {}
    for name, losses in outcomes.items():
        if chosen_by_data:  # a pair is read from the reference's side where it is in it
            pairs = [(b, a) if a == reference else (a, b) for a, b in combinations(sorted(losses), 2)]
        else:
            pairs = [(h, reference) for h in sorted(losses) if h != reference]
        for a, b in pairs:
            common = tuple(sorted(losses[a].keys() & losses[b].keys()))
            within = [losses[a][s] - losses[b][s] for s in common]
            seeds[name, a, b] = common
            estimates[name, a, b] = estimate(within) if within else None
    p = {pair: e.p_value for pair, e in estimates.items() if e is not None and e.count > 1}
    p_holm = dict(zip(p, holm(list(p.values())), strict=True))
    return {
        name: Comparison(
            reference,
            chosen_by_data,
            len(p),
            tuple(
                Difference(h, reference, seeds[key], estimates[key], p_holm.get(key))
                for h in sorted(losses)
                if h != reference
                for key in [(name, h, reference)]
            ),
        )
        for name, losses in outcomes.items()
    }
