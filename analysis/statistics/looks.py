"""Looking repeatedly while seeds are added, with the chance of any false claim held for all looks together.

Each look compares at a lower level than 5 %: the levels are fixed beforehand by the planned numbers of seeds, with a
spending function (K. K. G. Lan, D. L. DeMets, Biometrika 70, 1983) of Pocock's type, which spends the 5 % about evenly,
so that what is clear is settled early. The intervals of a look at its level are repeated confidence intervals
(C. Jennison, B. W. Turnbull, Journal of the Royal Statistical Society B 51, 1989): all of them, at all looks, hold at
once with 95 %, so every claim read off them may be kept and the experiment may stop at any look for any reason.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from analysis.statistics.estimate import LEVEL

GRID = 400


def planned_looks(first: int, most: int) -> tuple[int, ...]:
    """Numbers of seeds at which to look: from `first`, a half more each time, to `most`."""
    looks = [first]
    while looks[-1] < most:
        looks.append(min(most, math.ceil(1.5 * looks[-1])))
    return tuple(looks)


def spent(share: float) -> float:
    """What of the 5 % is spent when this share of the seeds is there: Pocock's type."""
    return LEVEL * math.log(1 + (math.e - 1) * share)


@lru_cache(maxsize=64)
def levels(looks: tuple[int, ...]) -> tuple[float, ...]:
    """The level of each planned look, for `compare(..., level=...)`; looks are numbers of seeds, ascending.

    They are the levels of two-sided tests of one normal mean, found look by look by integrating the density of the sums
    that have not crossed a boundary yet (P. Armitage, C. K. McPherson, B. C. Rowe, JRSS A 132, 1969).
    """
    sums, mass = np.zeros(1), np.ones(1)  # where the sum of the seeds is, and how likely
    found, before = [], 0
    for count in looks:
        spend = spent(count / looks[-1]) - spent(before / looks[-1])
        width = (count - before) ** 0.5
        bound = brentq(lambda b, *at: crossing(b, *at[1:]) - at[0], 0.5, 9.0, (spend, sums, mass, width, count**0.5))
        grid = np.linspace(-bound, bound, GRID) * count**0.5
        density = np.exp(-(((grid[:, None] - sums) / width) ** 2) / 2) @ mass / (width * (2 * np.pi) ** 0.5)
        sums, mass = grid, density * trapezoid(grid)
        found.append(float(2 * ndtr(-bound)))
        before = count
    return tuple(found)


def crossing(bound: float, sums: np.ndarray, mass: np.ndarray, width: float, root: float) -> float:
    """The chance of a sum beyond ±bound · root after a normal step of this width."""
    return float(mass @ (ndtr((sums - bound * root) / width) + ndtr((-sums - bound * root) / width)))


def trapezoid(grid: np.ndarray) -> np.ndarray:
    """Weights of the trapezoid rule."""
    step = np.full(len(grid), grid[1] - grid[0])
    step[[0, -1]] /= 2
    return step
