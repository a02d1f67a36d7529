"""Without these an experiment that grows until it is settled would find a difference sooner or later, true or not."""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import levels, planned_looks
from benchmarks.calibration import HEADS, family, wrong


def test_one_look_has_the_whole_level_and_many_equal_ones_pococks():
    assert levels((8,)) == (pytest.approx(0.05, rel=1e-4),)
    five = levels((1, 2, 3, 4, 5))
    assert five == pytest.approx([0.0158] * 5, rel=0.1)  # Pocock (1977), table 1: 0.0158 for five looks


def test_the_levels_spend_five_percent_of_a_normal_mean():
    looks = planned_looks(3, 16)
    sums = np.random.default_rng(0).normal(size=(40_000, looks[-1])).cumsum(1)
    crossed = np.zeros(len(sums), bool)
    for look, level in zip(looks, levels(looks), strict=True):
        crossed |= np.abs(sums[:, look - 1]) / look**0.5 > stats.norm.isf(level / 2)
    low, high = stats.binom.interval(0.999, len(sums), 0.05)
    assert low <= crossed.sum() <= high


def test_looks_are_planned_from_the_first_number_of_seeds_to_the_most():
    assert planned_looks(4, 16) == (4, 6, 9, 14, 16)
    assert planned_looks(4, 4) == (4,)


@pytest.mark.parametrize("effects", [[0, 0, 0, 0, 0], [0, 0.01, 0, 0.01, 0]])
def test_an_experiment_that_stops_when_settled_makes_any_false_claim_in_at_most_five_percent(effects):
    effects, asked, looks = np.array(effects), family(HEADS), planned_looks(3, 16)
    tables = effects + np.random.default_rng(4).normal(0, 0.007, (2000, looks[-1], 5))
    false = np.zeros(2000, bool)
    for look, level in zip(looks, levels(looks), strict=True):
        false |= wrong(tables[:, :look], effects, asked, level)[0].any(1)
    assert false.sum() <= stats.binom.interval(0.999, 2000, 0.05)[1]
