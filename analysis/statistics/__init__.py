"""Every test of the project: pure functions on numbers, which know nothing of files, runs or networks.

`compare` answers the questions on one table of losses, `compare_together` on several outcomes at once, `compare_tuned`
and `interaction` on a grid of learning rates, `levels` says at which level to compare when looking repeatedly. Read
`verdict` first; `contrasts` and `variance` are the mathematics. docs/statistics.md has the calibration.
"""

from analysis.statistics.estimate import LEVEL, Estimate, estimate
from analysis.statistics.looks import levels, planned_looks
from analysis.statistics.power import MOST_SEEDS
from analysis.statistics.tuned import Interaction, Tuned, compare_tuned, interaction
from analysis.statistics.verdict import (
    MARGIN,
    METHOD,
    SOURCE,
    Losses,
    Pair,
    Test,
    Verdict,
    compare,
    compare_together,
    lowest,
    mean_losses,
)

__all__ = [
    "LEVEL",
    "MARGIN",
    "METHOD",
    "MOST_SEEDS",
    "SOURCE",
    "Estimate",
    "Interaction",
    "Losses",
    "Pair",
    "Test",
    "Tuned",
    "Verdict",
    "compare",
    "compare_together",
    "compare_tuned",
    "estimate",
    "interaction",
    "levels",
    "lowest",
    "mean_losses",
    "planned_looks",
]
