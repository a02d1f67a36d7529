"""The questions of a family as contrasts of head counts, and the largest |t| among them when nothing differs.

A contrast is a weight for each head count: the difference of a pair, the slope in log2 H, the curvature in log2 H. All
of them are read from the same few means, so the chance that any one looks large by luck is far below the sum of their
chances. The law of the largest |t| of the family takes account of that (single-step max-t: T. Hothorn, F. Bretz,
P. Westfall, Biometrical Journal 50, 2008, section 3). For all pairs alone it is the studentized range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations

import numpy as np
from scipy.optimize import brentq
from scipy.special import fdtrc

DIRECTIONS, POINTS = 2**16, 256


@dataclass(frozen=True)
class Family:
    """Contrasts of k head counts: first the pairs, then the trend, then (k > 2) the curvature.

    `weights` (c, k): a pair (a, b) is the loss at b minus the loss at a; the trend is the least-squares slope in
    log2 H, in nats for each doubling; the curvature is the coefficient of (log2 H)² of the least-squares parabola.
    """

    n_head: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    weights: np.ndarray

    @cached_property
    def max_t(self) -> "MaxT":
        return max_t(self.weights)


def family(n_head: Sequence[int], reference: int | None = None, shape_of: Sequence[int] | None = None) -> Family:
    """All pairs of head counts (two or more), or those with a reference that was named beforehand, and the shape.

    shape_of: the head counts, two or more, that trend and curvature are taken over, should others have too few runs.
    """
    heads = tuple(sorted(n_head))
    if reference is None:
        pairs = tuple(combinations(heads, 2))
    else:
        pairs = tuple((reference, h) for h in heads if h != reference)
    some = [h for h in heads if shape_of is None or h in shape_of]
    shape = np.zeros((min(2, len(some) - 1), len(heads)))
    for degree, row in enumerate(shape, 1):
        row[[heads.index(h) for h in some]] = fit(some, degree)[0]
    return Family(heads, pairs, np.vstack([differences(heads, pairs), shape]))


def differences(columns: Sequence[float], pairs: Sequence[tuple[float, float]]) -> np.ndarray:
    """Weights (pairs, columns) of column b minus column a for each pair (a, b)."""
    rows = np.zeros((len(pairs), len(columns)))
    for row, (a, b) in zip(rows, pairs, strict=True):
        row[columns.index(a)], row[columns.index(b)] = -1, 1
    return rows


def fit(n_head: Sequence[int], degree: int) -> np.ndarray:
    """The matrix (degree + 1, k) from values to their least-squares polynomial in log2 H, highest power first."""
    matrix = np.linalg.pinv(np.vander(np.log2(n_head), degree + 1))
    return np.where(np.abs(matrix) < 1e-12, 0.0, matrix)  # rounding error would ask for runs that carry no weight


class MaxT:
    """The largest |t| of contrasts (c, k) of means whose errors are normal, independent and share one variance.

    With r the rank of the contrasts, the standardised contrasts are a chi-distributed radius times the cosines of a
    direction that is uniform on the sphere in r dimensions. Given the direction, the squared radius over r and over the
    estimated variance is F with r and df degrees of freedom, which scipy has; only the direction is sampled, with
    random numbers that are always the same, and the largest cosines are kept as the means of equal shares of them. With
    one contrast this is the t-test, exactly.
    """

    def __init__(self, weights: np.ndarray):
        scaled = weights / np.linalg.norm(weights, axis=1, keepdims=True)
        _, size, basis = np.linalg.svd(scaled, full_matrices=False)
        self.rank = int((size > 1e-9 * size[0]).sum())
        direction = np.random.default_rng(0).normal(size=(DIRECTIONS, self.rank))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        largest = np.abs(direction @ (scaled @ basis[: self.rank].T).T).max(1)
        self.cosine = np.sort(largest).reshape(POINTS, -1).mean(1)

    def p(self, t: float, df: float) -> float:
        """The chance that any |t| of the family is as large."""
        if t == 0:
            return 1.0
        return float(fdtrc(self.rank, df, (t / self.cosine) ** 2 / self.rank).mean())

    def critical(self, level: float, df: float) -> float:
        """The |t| that is reached with a chance of `level`."""
        return critical(self, level, round(df, 6))


@lru_cache(maxsize=4096)
def critical(law: MaxT, level: float, df: float) -> float:
    high = 4.0
    while law.p(high, df) > level:
        high *= 2
    return brentq(lambda t: law.p(t, df) - level, 0.0, high, xtol=1e-7)


def max_t(weights: np.ndarray) -> MaxT:
    """The law of these contrasts, one object for equal contrasts."""
    return _max_t(weights.shape, weights.tobytes())


@lru_cache(maxsize=64)
def _max_t(shape: tuple[int, int], data: bytes) -> MaxT:
    return MaxT(np.frombuffer(data).reshape(shape))
