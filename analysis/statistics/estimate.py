"""A mean over seeds and how sure it is, with nothing compared yet: the t interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.05
"""The chance of any false claim in a family; intervals cover with 1 - LEVEL."""


@dataclass(frozen=True)
class Estimate:
    """A mean of `count` values, in the unit of the values; what takes two values or more is None with fewer."""

    mean: float
    count: int
    standard_deviation: float | None
    standard_error: float | None

    def half_width(self) -> float | None:
        """Half the width of the 95 % t interval."""
        if self.standard_error is None:
            return None
        return float(stdtrit(self.count - 1, 1 - LEVEL / 2) * self.standard_error)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation (n - 1) and standard error of values (n,), n >= 1."""
    values = np.asarray(values, dtype=float)
    count = len(values)
    if count == 1:
        return Estimate(float(values[0]), 1, None, None)
    deviation = float(values.std(ddof=1))
    return Estimate(float(values.mean()), count, deviation, deviation / count**0.5)
