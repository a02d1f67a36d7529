"""Without these a user could be told of a difference that is not there, or miss how sure one is.

The simulations draw losses as the comparison assumes them: an effect of the head count, a seed effect that all head
counts share, and noise. Counts of false or covered trials are held to the central 99.9 % of their binomial law.
"""

from itertools import chain, combinations

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import (
    compare,
    compare_together,
    estimate,
    holm,
    lowest,
    power,
    seeds_needed,
    smallest_detectable,
)

TRIALS = 1000


def losses_of(table, heads):
    """(seeds, heads) array -> {n_head: {seed: loss}}"""
    return {h: dict(enumerate(table[:, i].tolist())) for i, h in enumerate(heads)}


def simulate(effects, seeds, scale=0.01, trials=TRIALS, generator=None):
    """Final losses (trials, seeds, heads) in nats per token; `scale` is the noise, one for all or one a head count."""
    generator = generator or np.random.default_rng(20240607)
    seed_effect = generator.normal(0, 0.05, (trials, seeds, 1))
    return 2.5 + np.asarray(effects) + seed_effect + generator.normal(0, 1, (trials, seeds, len(effects))) * scale


def false_findings(tables, effects, heads, reference=None):
    """Trials in which a difference is called, or called on the wrong side, where there is none."""
    effect = dict(zip(heads, effects, strict=True))
    count = 0
    for table in tables:
        comparison = compare(losses_of(table, heads), reference)
        count += any(
            d.different and d.estimate.mean * (effect[d.n_head] - effect[d.reference]) <= 0
            for d in comparison.differences
        )
    return count


def bounds(probability, trials=TRIALS):
    return stats.binom.interval(0.999, trials, probability)


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("reference", [None, 4])
def test_equal_head_counts_are_called_different_in_at_most_five_percent_of_experiments(seeds, reference):
    heads = [1, 2, 4, 8, 16]
    found = false_findings(simulate([0] * 5, seeds), [0] * 5, heads, reference)
    assert found <= bounds(0.05)[1]


def test_the_rate_holds_when_some_head_counts_truly_differ():
    effects, heads = [0.5, 0.2, 0, 0, 0], [1, 2, 4, 8, 16]
    assert false_findings(simulate(effects, 5), effects, heads) <= bounds(0.05)[1]


def test_the_rate_holds_when_head_counts_scatter_unequally():
    noise = np.array([0.08, 0.002, 0.01, 0.01, 0.03])
    assert false_findings(simulate([0] * 5, 3, noise), [0] * 5, [1, 2, 4, 8, 16]) <= bounds(0.05)[1]


def test_two_head_counts_are_called_different_in_exactly_five_percent():
    """One comparison needs no correction: fewer than 5 % would mean that real differences are thrown away."""
    low, high = bounds(0.05)
    assert low <= false_findings(simulate([0, 0], 4), [0, 0], [4, 8]) <= high


def test_testing_against_the_winner_without_counting_the_choice_would_cry_wolf():
    """The reason for the larger family: the same data, corrected as if the winner had been named beforehand."""
    heads, naive = [1, 2, 4, 8, 16], 0
    tables = simulate([0] * 5, 8)
    for table in tables:
        losses = losses_of(table, heads)
        naive += any(d.different for d in compare(losses, lowest(losses)).differences)
    assert naive > bounds(0.05)[1]


@pytest.mark.parametrize("named", [True, False])
def test_the_rate_holds_for_all_relations_together(named):
    """The reference is the winner of the mean over relations: a choice that the data make must not cry wolf either."""
    heads, found = [1, 2, 4, 8], 0
    tables = simulate([0] * 4, 6, trials=4 * TRIALS).reshape(TRIALS, 4, 6, 4)  # (trials, relations, seeds, heads)
    for table in tables:
        outcomes = {f"relation {n}": losses_of(part, heads) for n, part in enumerate(table)}
        reference = 4 if named else lowest(losses_of(table.mean(0), heads))
        compared = compare_together(outcomes, reference, chosen_by_data=not named)
        assert {c.family for c in compared.values()} == {12 if named else 24}
        found += any(d.different for c in compared.values() for d in c.differences)
    assert found <= bounds(0.05)[1]


def test_together_is_holms_correction_of_scipys_tests_over_all_outcomes():
    tables = simulate([0.02, 0, 0.01], 5, trials=2)
    outcomes = {"local": losses_of(tables[0], [1, 4, 8]), "syntactic": losses_of(tables[1], [1, 4, 8])}
    p = [stats.ttest_rel(table[:, i], table[:, 1]).pvalue for table in tables for i in (0, 2)]
    got = [d.p_holm for c in compare_together(outcomes, 4, False).values() for d in c.differences]
    assert got == pytest.approx(holm(p), rel=1e-9)
    assert got != pytest.approx([d.p_holm for o in outcomes.values() for d in compare(o, 4).differences])


def test_intervals_against_a_named_reference_cover_the_true_effect_in_95_percent():
    covered = 0
    for table in simulate([0.031, 0, 0.004], 4):
        comparison = compare(losses_of(table, [1, 4, 8]), 4)
        first = comparison.differences[0]
        covered += abs(first.estimate.mean - 0.031) <= comparison.half_width(first)
    low, high = bounds(0.95)
    assert low <= covered <= high


def test_intervals_against_the_winner_cover_all_true_effects_at_once():
    effects, heads = [0.012, 0.004, 0, 0, 0], [1, 2, 4, 8, 16]
    effect, covered = dict(zip(heads, effects, strict=True)), 0
    for table in simulate(effects, 4):
        comparison = compare(losses_of(table, heads))
        covered += all(
            abs(d.estimate.mean - (effect[d.n_head] - effect[d.reference])) <= comparison.half_width(d)
            for d in comparison.differences
        )
    assert covered >= bounds(0.95)[0]


def test_a_clear_effect_is_found():
    tables = simulate([0.05, 0, 0.05], 5, trials=200)
    found = sum(all(d.different for d in compare(losses_of(t, [1, 4, 16])).differences) for t in tables)
    assert found > 180


def test_a_difference_is_scipys_paired_t_test():
    table = simulate([0.02, 0, 0.01], 6, trials=1)[0]
    for difference in compare(losses_of(table, [1, 4, 8]), 4).differences:
        theirs = stats.ttest_rel(table[:, [1, 4, 8].index(difference.n_head)], table[:, 1])
        interval = theirs.confidence_interval(0.95)
        mean, half = difference.estimate.mean, difference.estimate.half_width()
        assert difference.estimate.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
        assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_an_estimate_is_scipys_t_interval_and_one_value_has_none():
    values = [2.31, 2.35, 2.28]
    ours, theirs = estimate(values), stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (ours.mean - ours.half_width(), ours.mean + ours.half_width()) == pytest.approx(tuple(theirs), rel=1e-9)
    assert ours.standard_deviation == pytest.approx(stats.tstd(values))
    one = estimate([2.31])
    assert (one.mean, one.standard_deviation, one.half_width(), one.p_value) == (2.31, None, None, None)


def test_holm_is_the_closed_test_of_bonferronis():
    """Independent reference: the adjusted p of a hypothesis is the largest Bonferroni p of any set that holds it."""
    generator = np.random.default_rng(3)
    for _ in range(50):
        p = generator.random(5) ** 3
        subsets = list(chain.from_iterable(combinations(range(5), n) for n in range(1, 6)))
        closed = [max(min(1, len(s) * min(p[list(s)])) for s in subsets if i in s) for i in range(5)]
        assert holm(p.tolist()) == pytest.approx(closed)
    assert holm([]) == []


def test_only_seeds_that_both_have_are_paired_and_the_winner_is_chosen_on_common_seeds():
    losses = {1: {0: 2.0, 1: 3.0, 2: 1.0}, 4: {0: 1.9, 1: 2.9}, 8: {1: 3.1}}
    comparison = compare(losses)
    assert comparison.reference == 4  # over all of its seeds H = 1 would be lower, by an easy seed alone
    first, last = comparison.differences
    assert first.seeds == (0, 1)
    assert first.estimate.mean == pytest.approx(0.1)
    assert (last.seeds, last.p_holm, last.different) == ((1,), None, False)
    assert comparison.family == 1  # one pair of the three can be tested


def test_identical_losses_are_no_difference():
    same = {0: 2.0, 1: 2.1}
    (difference,) = compare({1: same, 2: dict(same)}).differences
    assert difference.p_holm == 1
    assert not difference.different


def test_no_common_seed_leaves_the_difference_open():
    (difference,) = compare({1: {0: 2.0}, 2: {1: 2.1}}).differences
    assert (difference.estimate, difference.p_holm, difference.different) == (None, None, False)


def test_power_is_that_of_scipys_noncentral_t():
    for count, comparisons, size in ((2, 1, 3.0), (3, 10, 2.0), (5, 4, 1.0), (12, 1, 0.8)):
        critical = stats.t.isf(0.05 / (2 * comparisons), count - 1)
        shift = size * count**0.5
        theirs = stats.nct.sf(critical, count - 1, shift) + stats.nct.cdf(-critical, count - 1, shift)
        assert power(size * 0.02, 0.02, count, comparisons) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("count", "comparisons"), [(3, 1), (5, 1), (8, 10)])
def test_the_smallest_detectable_difference_is_found_in_four_of_five_experiments(count, comparisons):
    size = smallest_detectable(0.01, count, comparisons)
    tables = np.random.default_rng(5).normal(size, 0.01, (4000, count))
    p = stats.ttest_1samp(tables, 0, axis=1).pvalue
    low, high = stats.binom.interval(0.999, 4000, 0.8)
    assert low <= (p <= 0.05 / comparisons).sum() <= high


def test_the_seeds_that_settle_it_are_the_fewest_with_enough_power():
    for size, comparisons in ((0.02, 1), (0.01, 10), (0.003, 4)):
        count = seeds_needed(size, 0.01, comparisons)
        assert power(size, 0.01, count, comparisons) >= 0.8 > power(size, 0.01, count - 1, comparisons)
    assert seeds_needed(1e-6, 0.01) is None


def test_a_difference_far_beyond_the_scatter_needs_two_seeds_and_not_a_thousand():
    """scipy's noncentral F is nan there."""
    assert power(0.1, 1e-17, 2, 10) == 1
    assert seeds_needed(0.1, 1e-17, 10) == 2
