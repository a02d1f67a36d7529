"""How far a contrast scatters from seed to seed, from few seeds: its own variance, shrunk towards the pooled one.

The contrasts of each seed give a variance with S - 1 degrees of freedom that is right whatever the scatter of each head
count, and says next to nothing with two or three seeds. The residuals of the seed-by-H table, pooled, give one with
(S - 1)(k - 1) that is right where all head counts scatter alike. Between the two lies the moderated variance
(G. K. Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004, section 4):

    (d0 · pooled + d · own) / (d0 + d)    with d0 + d degrees of freedom

where the prior degrees of freedom d0 are large when the own variances of the pairs differ no more than chance makes
them, and small when they differ more. Smyth's estimate of d0 comes from thousands of genes. Five head counts say little
about d0, and an estimate from them is often infinite when head counts do scatter unequally; so two thirds of a standard
error are added to the variance of log variances from which d0 is taken. The share was chosen by the calibration in
docs/statistics.md: less makes too many false claims under unequal scatter, more costs power.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma

CAUTION = 2 / 3
"""Standard errors by which the variance of log variances is raised before d0 is taken from it."""
SMALLEST = 1e-6
"""Own variances below this share of the pooled one are taken as this, so that a tie has a logarithm."""


@dataclass(frozen=True)
class Variances:
    """Of contrasts (…, c) of tables (…, S, k), for weights of length 1: with equal scatter, the variance of one run."""

    count: np.ndarray  # (c,) seeds that have every head count of the contrast
    own: np.ndarray  # (…, c); nan with fewer than two seeds
    pooled: np.ndarray  # (…)
    pooled_df: int
    excess: np.ndarray  # (…) variance of the log variances of pairs beyond what chance makes
    prior_df: np.ndarray  # (…) d0

    @property
    def moderated(self) -> np.ndarray:
        """(…, c)"""
        own_df, prior = self.count - 1.0, self.prior_df[..., None]
        return (prior * self.pooled[..., None] + own_df * self.own) / (prior + own_df)

    @property
    def df(self) -> np.ndarray:
        """Degrees of freedom (…, c) of the moderated variances: never more than the whole table has."""
        return np.minimum(self.prior_df[..., None] + self.count - 1, self.pooled_df)


def contrast_means(tables: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (…, c) and variance (…, c) of each contrast over the seeds that have all it needs, and their number (c,).

    tables (…, S, k), nan for a run that is not there, the same cells in all; weights (c, k).
    """
    there = ~np.isnan(tables.reshape(-1, *tables.shape[-2:])[0])
    usable = ~((~there) @ (weights != 0).T.astype(float)).astype(bool)  # (S, c)
    values = np.where(usable, np.nan_to_num(tables) @ weights.T, 0.0)
    count = usable.sum(0)
    mean = values.sum(-2) / np.where(count, count, np.nan)
    squares = (np.where(usable, values - np.nan_to_num(mean)[..., None, :], 0.0) ** 2).sum(-2)
    return mean, squares / np.where(count > 1, count - 1, np.nan), count


def variances(
    tables: np.ndarray, weights: np.ndarray, pairs: int, blocks: bool = True, caution: float = CAUTION
) -> Variances:
    """Own, pooled and moderated variances.

    tables (…, S, k) with nan where a run is missing, the same cells in all; weights (c, k), the first `pairs` of which
    are differences of two columns. blocks: the columns of a seed share an effect, which is taken out. caution: 0 is
    Smyth's own estimate.
    """
    _, own, count = contrast_means(tables, weights)
    own = own / (weights**2).sum(-1)
    pooled, pooled_df = residual_variance(tables, blocks)
    tested = np.flatnonzero(count[:pairs] > 1)
    if not pooled_df or not len(tested):
        nothing = np.zeros(tables.shape[:-2])
        return Variances(count, own, pooled, pooled_df, nothing, nothing)
    own_df = count[tested] - 1
    floor = np.where(pooled > 0, SMALLEST * pooled, 1.0)[..., None]
    logs = np.log(np.maximum(own[..., tested], floor)) - digamma(own_df / 2) + np.log(own_df / 2)
    chance, error = logs_of_variances(own_df, tables.shape[-1])
    spread = logs.var(-1, ddof=1) if len(tested) > 1 else np.zeros(pooled.shape)
    excess = np.maximum(0.0, spread - chance)
    return Variances(count, own, pooled, pooled_df, excess, prior_df(excess, error, caution))


def residual_variance(tables: np.ndarray, blocks: bool) -> tuple[np.ndarray, int]:
    """Pooled variance (…) of tables (…, S, k) around column and (blocks) row effects, and its degrees of freedom.

    Least squares, so that a missing run (nan) is no trouble; a full table has (S - 1)(k - 1) degrees of freedom.
    """
    rows, columns = tables.shape[-2:]
    there = ~np.isnan(tables.reshape(-1, rows, columns)[0])
    row, column = np.nonzero(there)
    design = np.concatenate([np.eye(columns)[column], np.eye(rows)[row] if blocks else np.ones((len(row), 1))], 1)
    effects, size, _ = np.linalg.svd(design, full_matrices=False)
    effects = effects[:, size > 1e-9 * size[0]]
    freedom = len(row) - effects.shape[1]
    values = tables[..., there]
    residuals = values - (values @ effects) @ effects.T
    squares = (residuals**2).sum(-1)
    rounding = len(row) * (1e-14 * np.abs(values).max(-1, initial=0.0)) ** 2
    return np.where(squares > rounding, squares, 0.0) / max(freedom, 1), freedom


def logs_of_variances(own_df: np.ndarray, columns: int) -> tuple[float, float]:
    """The variance of log variances that chance alone makes, and the standard error of an estimate of it.

    The log of a chi² with d degrees of freedom has variance v = trigamma(d / 2), fourth cumulant polygamma(3, d / 2);
    the variance of n such values has itself the variance 2 v² / (n - 1) + polygamma(3, d / 2) / n. n is the number of
    columns: that many head counts scatter on their own, whatever the number of their pairs.
    """
    chance = float(polygamma(1, own_df / 2).mean())
    fourth = float(polygamma(3, own_df / 2).mean())
    return chance, (2 * chance**2 / (columns - 1) + fourth / columns) ** 0.5


def prior_df(excess: np.ndarray, error: float, caution: float = CAUTION) -> np.ndarray:
    """d0 from the variance of log variances beyond chance: trigamma(d0 / 2) = excess (Smyth 2004, section 6.2)."""
    return 2 * trigamma_inverse(np.maximum(excess + caution * error, 1e-7))  # 1e-7: as good as infinite


def trigamma_inverse(y: np.ndarray) -> np.ndarray:
    """x > 0 with trigamma(x) = y > 0, by Newton's method on 1 / trigamma, which is convex (Smyth 2004, appendix)."""
    x = 0.5 + 1 / np.asarray(y, dtype=float)
    for _ in range(20):
        value = polygamma(1, x)
        x = x + value * (1 - value / y) / polygamma(2, x)
    return x
