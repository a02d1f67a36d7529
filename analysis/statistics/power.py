"""How many seeds settle a question: the power of the very test that was made, with the same model of its error.

The width of an interval from n seeds is estimated, too: its moderated variance is taken to vary as chi² over its
degrees of freedom, which grow with n by the same rule (`variance.prior_df`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr

from analysis.statistics.contrasts import MaxT
from analysis.statistics.variance import logs_of_variances, prior_df

POWER = 0.8
"""The chance with which what is called enough is enough."""
MOST_SEEDS = 1000
"""Nobody is advised to go beyond."""
STEPS = 100


@dataclass(frozen=True)
class Future:
    """The family of an experiment, to be asked again with other numbers of seeds."""

    law: MaxT
    level: float
    n_heads: int
    excess: float  # Variances.excess

    def df(self, seeds: int) -> float:
        """Degrees of freedom of a moderated variance of a full table of so many seeds."""
        own = seeds - 1
        prior = prior_df(np.array(self.excess), logs_of_variances(np.array([own]), self.n_heads)[1])
        return min(float(prior) + own, own * (self.n_heads - 1))


def chance_settled(future: Future, difference: float, deviation: float, seeds: int, margin: float = 0.0) -> float:
    """The chance that a pair is found different, or the same to within the margin.

    difference: the true one; deviation: of the differences within a seed. seeds >= 2.
    """
    if deviation == 0:
        return float(difference != 0 or margin > 0)
    df = future.df(seeds)
    chances = (np.arange(STEPS) + 0.5) / STEPS
    error = (chdtri(df, chances) / df) ** 0.5  # estimated over true
    half = future.law.critical(future.level, df) * error  # this and what follows in true standard errors
    shift, inside = np.array([abs(difference), margin]) / deviation * seeds**0.5
    same = np.maximum(inside - future.law.critical(2 * future.level, df) * error, 0.0)
    away = np.maximum(half, same)  # the estimate lies within (-same, same), or beyond half, or is open
    settled = (ndtr(same - shift) - ndtr(-same - shift)) + ndtr(shift - away) + ndtr(-shift - away)
    return float(settled.mean())


def seeds_needed(future: Future, difference: float, deviation: float, margin: float) -> int | None:
    """The fewest seeds with which `chance_settled` is 80 %; None for over MOST_SEEDS."""
    return fewest(lambda n: chance_settled(future, difference, deviation, n, margin) >= POWER)


def fewest(enough: Callable[[int], bool]) -> int | None:
    """The fewest seeds, from 2, that are enough, where more are never worse; None for over MOST_SEEDS."""
    low, high = 1, MOST_SEEDS
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def smallest_detectable(future: Future, deviation: float, seeds: int) -> float:
    """The true difference that is found with a chance of 80 %, in the unit of the deviation."""
    if deviation == 0:
        return 0.0
    highest = 1.0
    while chance_settled(future, highest, 1.0, seeds) < POWER:
        highest *= 2
    return deviation * brentq(lambda d: chance_settled(future, d, 1.0, seeds) - POWER, 0.0, highest)
