"""Without these a user could be told of a difference that is not there, or of sameness, or miss what is.

References are scipy's tests, an explicit analysis of variance, and experiments drawn with a known truth. Counts of
false or found trials are held to the central 99.9 % of their binomial law.
"""

import numpy as np
import pytest
from scipy import stats
from scipy.special import polygamma

from analysis.statistics import compare, compare_together, estimate, lowest, mean_losses
from analysis.statistics.contrasts import family, max_t
from analysis.statistics.power import Future, chance_settled, seeds_needed, smallest_detectable
from analysis.statistics.variance import (
    contrast_means,
    logs_of_variances,
    prior_df,
    residual_variance,
    trigamma_inverse,
    variances,
)

HEADS = (1, 2, 4, 8, 16)
EFFECTS = np.array([0, 0.010, 0.018, 0.019, 0.028])


def losses_of(table, heads=HEADS):
    """(seeds, heads) array, nan for a run that is not there -> {n_head: {seed: loss}}"""
    return {h: {s: float(x) for s, x in enumerate(table[:, i]) if x == x} for i, h in enumerate(heads)}


def draw(effects, seeds, scale, trials=None, seed=1):
    """Losses ([trials,] seeds, heads): an effect of H, an effect of the seed that all share, and noise."""
    generator = np.random.default_rng(seed)
    shape = (seeds, len(effects)) if trials is None else (trials, seeds, len(effects))
    shared = generator.normal(0, 0.05, (*shape[:-1], 1))
    return 2.5 + np.asarray(effects) + shared + generator.normal(0, 1, shape) * scale


def bounds(probability, trials):
    return stats.binom.interval(0.999, trials, probability)


# The questions as contrasts


def test_the_trend_is_the_slope_in_log2_h_and_the_curvature_the_parabola_of_each_seed():
    table = draw(EFFECTS, 6, 0.01)
    verdict, x = compare(losses_of(table)), np.log2(HEADS)
    assert verdict.trend.estimate == pytest.approx(np.mean([stats.linregress(x, row).slope for row in table]))
    assert verdict.curvature.estimate == pytest.approx(np.mean([np.polyfit(x, row, 2)[0] for row in table]))
    assert verdict.trend.p_seeds == pytest.approx(
        stats.ttest_1samp([stats.linregress(x, row).slope for row in table], 0).pvalue
    )


@pytest.mark.parametrize("heads", [(1, 2), (1, 4, 16), (2, 4, 6, 8, 12, 24)])
@pytest.mark.parametrize("df", [2, 4.7, 30])
def test_the_largest_t_of_all_pairs_is_the_studentized_range(heads, df):
    asked = family(heads)
    law = max_t(asked.weights[: len(asked.pairs)])
    for level in (0.05, 0.01):
        theirs = stats.studentized_range.isf(level, len(heads), df) / 2**0.5
        assert law.critical(level, df) == pytest.approx(theirs, rel=2e-3)
    assert law.p(theirs, df) == pytest.approx(0.01, rel=1e-2)


def test_the_largest_t_of_a_single_question_is_the_t_test():
    law = family((4, 8)).max_t  # the pair and the trend are one question
    for t, df in ((0.3, 1), (2.2, 3.5), (9.0, 40)):
        assert law.p(t, df) == pytest.approx(2 * stats.t.sf(t, df))


def test_the_largest_t_of_pairs_and_shape_is_what_drawing_it_gives():
    asked, df = family(HEADS), 8
    generator = np.random.default_rng(3)
    scaled = asked.weights / np.linalg.norm(asked.weights, axis=1, keepdims=True)
    t = np.abs(generator.normal(size=(100_000, 5)) @ scaled.T).max(1)
    t /= (generator.chisquare(df, 100_000) / df) ** 0.5
    for level in (0.2, 0.05):
        low, high = bounds(level, 100_000)
        assert low <= (t > asked.max_t.critical(level, df)).sum() <= high


# Variances


def test_the_pooled_variance_is_that_of_the_analysis_of_variance_with_missing_runs_too():
    table = draw(EFFECTS, 4, 0.01)
    residuals = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    value, df = residual_variance(table, blocks=True)
    assert (value, df) == (pytest.approx((residuals**2).sum() / 12), 12)
    table[1, 2] = table[3, 0] = np.nan
    row, column = np.nonzero(~np.isnan(table))
    design = np.column_stack([row[:, None] == np.arange(4), column[:, None] == np.arange(1, 5)]).astype(float)
    left = np.linalg.lstsq(design, table[row, column], rcond=None)[1]
    value, df = residual_variance(table, blocks=True)
    assert (value, df) == (pytest.approx(left[0] / (18 - 8)), 10)


def test_the_prior_degrees_of_freedom_come_back_from_many_variances():
    """Smyth's model: true variances scatter as s0² d0 / chi²(d0)."""
    generator = np.random.default_rng(5)
    columns, seeds, d0 = 200, 5, 6.0
    deviation = (d0 / generator.chisquare(d0, columns // 2)) ** 0.5
    table = np.repeat(deviation, 2) * generator.normal(size=(seeds, columns))
    weights = np.kron(np.eye(columns // 2), [[-1.0, 1.0]])
    found = variances(table, weights, len(weights), caution=0.0)
    assert float(found.prior_df) == pytest.approx(d0, rel=0.5)
    equal = variances(generator.normal(size=(seeds, columns)), weights, len(weights), caution=0.0)
    assert float(equal.prior_df) > 30


@pytest.mark.parametrize("df", [1, 2, 7])
def test_the_variance_of_logs_and_its_error_are_what_drawing_gives(df):
    values = np.log(np.random.default_rng(2).chisquare(df, (200_000, 5))).var(1, ddof=1)
    chance, error = logs_of_variances(np.array([df]), 5)
    assert (chance, error) == (pytest.approx(values.mean(), rel=0.02), pytest.approx(values.std(), rel=0.03))


def test_caution_lowers_the_prior_degrees_of_freedom():
    (_, few), (_, many) = (logs_of_variances(np.array([2]), columns) for columns in (5, 9))
    assert polygamma(1, float(prior_df(np.array(0.3), few)) / 2) == pytest.approx(0.3 + 2 / 3 * few)
    assert polygamma(1, trigamma_inverse(np.array([1e-3, 0.7, 20.0]))) == pytest.approx([1e-3, 0.7, 20.0])
    assert prior_df(np.array(1.0), few) < prior_df(np.array(0.0), few) < prior_df(np.array(0.0), many)


def test_a_moderated_variance_lies_between_its_own_and_the_pooled_one():
    table = draw(EFFECTS, 4, np.array([1, 1, 1, 1, 6]) * 0.01)
    asked = family(HEADS)
    found = variances(table, asked.weights, len(asked.pairs))
    low, high = np.minimum(found.own, found.pooled), np.maximum(found.own, found.pooled)
    assert ((low <= found.moderated) & (found.moderated <= high)).all()
    assert ((found.df > 3) & (found.df <= 12)).all()


def test_two_head_counts_are_compared_by_the_paired_t_test():
    """One comparison needs no correction, and there is nothing that variances could be shrunk to."""
    table = draw([0.02, 0], 6, 0.01)
    (pair,) = (verdict := compare(losses_of(table, (4, 8)))).pairs
    theirs = stats.ttest_rel(table[:, 1], table[:, 0])
    interval = theirs.confidence_interval(0.95)
    assert (pair.p, pair.low, pair.high) == pytest.approx((theirs.pvalue, interval.low, interval.high))
    assert verdict.trend.p == pytest.approx(theirs.pvalue)
    assert verdict.curvature is None
    below = stats.ttest_1samp(table[:, 1] - table[:, 0], -0.03, alternative="greater").pvalue
    above = stats.ttest_1samp(table[:, 1] - table[:, 0], 0.03, alternative="less").pvalue
    (pair,) = compare(losses_of(table, (4, 8)), margin=0.03).pairs
    assert pair.p_same == pytest.approx(max(below, above))


# Claims


def claims(table, **options):
    """Signs of pairs, trend and curvature, and the pairs that are called the same."""
    verdict = compare(losses_of(table), **options)
    signs = {(p.reference, p.n_head): p.sign for p in verdict.pairs}
    same = {(p.reference, p.n_head) for p in verdict.pairs if p.answer == "same"}
    return signs, verdict.trend.sign, verdict.curvature.sign, same


@pytest.mark.parametrize(("seeds", "scale"), [(2, 0.01), (4, 0.01), (4, np.array([1, 1, 1, 1, 6]) * 0.01)])
def test_equal_head_counts_are_called_anything_in_at_most_five_percent_of_experiments(seeds, scale):
    found = 0
    for table in draw([0] * 5, seeds, scale, trials=400):
        signs, trend, curvature, _ = claims(table)
        found += bool(trend or curvature or any(signs.values()))
    assert found <= bounds(0.05, 400)[1]


def test_head_counts_that_differ_by_the_margin_are_called_the_same_in_at_most_five_percent_of_experiments():
    effects, false = [0, 0.01, 0, 0.01, 0], 0
    for table in draw(effects, 5, 0.005, trials=400):
        signs, _, _, same = claims(table)
        apart = {pair for pair in signs if HEADS.index(pair[0]) % 2 != HEADS.index(pair[1]) % 2}
        false += bool(same & apart or any(signs[pair] for pair in signs.keys() - apart))
    assert false <= bounds(0.05, 400)[1]


def test_a_small_trend_is_found_in_two_of_three_experiments_with_three_seeds_and_most_of_the_pairs():
    trend = sum(claims(table)[1] for table in draw(EFFECTS, 3, 0.007, trials=300))
    pairs = sum(sum(map(abs, claims(table)[0].values())) for table in draw(EFFECTS, 3, 0.003, trials=300))
    assert trend > 0.65 * 300
    assert pairs > 0.55 * 3000


def test_a_pair_ends_as_worse_better_same_or_open():
    table = np.array([2.0, 2.1, 2.0005, 2.012]) + 0.001 * np.random.default_rng(0).normal(size=(6, 4))
    table[:, 3] += np.linspace(-0.02, 0.02, 6)
    verdict = compare(losses_of(table, (1, 2, 4, 8)))
    answers = {(p.reference, p.n_head): p.answer for p in verdict.pairs}
    assert answers[1, 2] == "worse"
    assert answers[2, 4] == "better"
    assert answers[1, 4] == "same"
    assert answers[1, 8] == "open"
    assert [(p.reference, p.n_head) for p in verdict.open] == [(1, 8), (4, 8)]
    assert verdict.best == (1, 4, 8)
    assert verdict.pair(1, 2).answer == "better"
    assert verdict.pair(1, 2).estimate == -verdict.pair(2, 1).estimate
    assert {p.answer for p in compare(losses_of(table, (1, 2, 4, 8)), margin=1e-4).pairs if p.n_head == 4} >= {"open"}


def test_the_best_head_count_is_left_out_of_its_set_in_at_most_five_percent_of_experiments():
    missed = 0
    for table in draw([0.02, 0.004, 0, 0.001, 0.02], 4, 0.006, trials=300):
        missed += 4 not in compare(losses_of(table)).best
    assert missed <= bounds(0.05, 300)[1]


def test_a_best_head_count_in_between_is_found_where_it_is():
    verdict = compare(losses_of(draw(0.01 * (np.log2(HEADS) - 1.5) ** 2, 4, 0.001)))
    assert verdict.curvature.sign == 1
    assert verdict.curvature.low < 0.01 < verdict.curvature.high
    assert verdict.turn == pytest.approx(2**1.5, rel=0.05)
    assert compare(losses_of(draw(np.log2(HEADS) * 0.01, 4, 1e-5))).turn is None


@pytest.mark.parametrize("off", [0.3, -0.3])
def test_a_head_count_with_one_seed_moves_the_lowest_point_no_more_than_the_curvature(off):
    table = draw(0.01 * (np.log2(HEADS) - 1) ** 2, 5, 0.0005)
    table[1:, 4] = np.nan
    table[0, 4] += off
    verdict, without = compare(losses_of(table)), compare(losses_of(table[:, :4], HEADS[:4]))
    assert verdict.curvature.seeds == (0, 1, 2, 3, 4)
    assert verdict.turn == without.turn == pytest.approx(2, rel=0.05)


def test_a_named_reference_is_dunnetts_comparison_with_less_to_correct_for():
    table = draw(EFFECTS, 4, 0.01)
    named, all_ = compare(losses_of(table), reference=4), compare(losses_of(table))
    assert [(p.reference, p.n_head) for p in named.pairs] == [(4, 1), (4, 2), (4, 8), (4, 16)]
    assert named.pairs[0].high - named.pairs[0].low < all_.pair(1, 4).high - all_.pair(1, 4).low
    with pytest.raises(KeyError):
        compare(losses_of(table), reference=3)


def test_several_outcomes_share_the_five_percent():
    tables = draw(EFFECTS, 4, 0.01, trials=2)
    together = compare_together({"local": losses_of(tables[0]), "syntactic": losses_of(tables[1])})
    alone = compare(losses_of(tables[0]))
    assert together["local"].trend.p == pytest.approx(min(1, 2 * alone.trend.p))
    assert together["local"].trend.low < alone.trend.low
    assert together["local"].trend.low == pytest.approx(compare(losses_of(tables[0]), level=0.025).trend.low)


# What is not there


def test_missing_runs_leave_their_pairs_to_the_seeds_that_both_have():
    table = draw([0.1, 0, 0.1, 0.2, 0.3], 5, 0.01)
    table[3:, 1] = np.nan  # H = 2 has three seeds
    table[1:, 4] = np.nan  # H = 16 has one
    verdict = compare(losses_of(table))
    assert verdict.pair(1, 2).seeds == (0, 1, 2)
    assert verdict.pair(1, 2).estimate == pytest.approx((table[:3, 0] - table[:3, 1]).mean())
    assert verdict.pair(4, 1).seeds == (0, 1, 2, 3, 4)
    assert not verdict.pair(16, 1).tested
    assert verdict.pair(16, 1).answer == "open"
    assert verdict.seeds_needed(verdict.pair(16, 1)) is None
    assert verdict.trend.seeds == (0, 1, 2)  # of H = 1, 2, 4 and 8
    assert verdict.trend.estimate == pytest.approx(stats.linregress([0, 1, 2, 3], table[:3, :4].mean(0)).slope)
    assert verdict.lowest == 2


def test_nothing_is_tested_with_one_seed_or_one_head_count():
    verdict = compare(losses_of(draw(EFFECTS, 1, 0.01)))
    assert (verdict.tested, verdict.deviation, verdict.detectable(1)) == (0, None, None)
    assert verdict.trend.estimate is not None
    assert len(verdict.open) == 10
    alone = compare({4: {0: 2.0, 1: 2.1}})
    assert (alone.pairs, alone.trend, alone.best) == ((), None, (4,))


def test_no_common_seed_leaves_a_pair_open():
    (pair,) = compare({1: {0: 2.0, 2: 2.2}, 2: {1: 2.1, 3: 2.3}}).pairs
    assert (pair.seeds, pair.estimate, pair.answer) == ((), None, "open")


def test_identical_losses_are_the_same_and_a_difference_without_scatter_is_one():
    same = {0: 2.0, 1: 2.1, 2: 2.7}
    verdict = compare({1: same, 2: dict(same), 4: {s: x + 0.5 for s, x in same.items()}})
    assert (verdict.pair(2, 1).answer, verdict.pair(2, 1).p) == ("same", 1)
    assert (verdict.pair(4, 1).answer, verdict.pair(4, 1).p) == ("worse", 0)


def test_the_winner_is_chosen_on_common_seeds():
    assert lowest({1: {0: 2.0, 1: 3.0, 2: 1.0}, 4: {0: 1.9, 1: 2.9}, 8: {1: 3.1}}) == 4


def test_a_head_count_with_one_seed_does_not_choose_the_winner_by_that_seed():
    noise = np.random.default_rng(1).normal(0, 0.001, 8)
    table = np.array([2.0, 1.9824, 2.5]) + 0.1 * np.arange(8)[:, None]
    table[:, 1] += noise
    table[0, 1], table[1:, 2] = 2.0005, np.nan
    verdict = compare(losses_of(table, (1, 2, 4)))
    assert verdict.lowest == 2
    assert verdict.lowest in verdict.best
    assert mean_losses(losses_of(table, (1, 2, 4))) == pytest.approx({1: table[:, 0].mean(), 2: table[:, 1].mean()})


def test_an_estimate_is_scipys_t_interval_and_one_value_has_none():
    values = [2.31, 2.35, 2.28]
    ours, theirs = estimate(values), stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (ours.mean - ours.half_width(), ours.mean + ours.half_width()) == pytest.approx(tuple(theirs), rel=1e-9)
    assert ours.standard_deviation == pytest.approx(stats.tstd(values))
    one = estimate([2.31])
    assert (one.mean, one.standard_deviation, one.half_width()) == (2.31, None, None)


# Power


def test_the_power_of_a_single_pair_is_that_of_scipys_noncentral_t():
    law = family((1, 2)).max_t
    for seeds, size in ((3, 2.0), (6, 1.2), (12, 0.8)):
        critical = stats.t.isf(0.025, seeds - 1)
        theirs = stats.nct.sf(critical, seeds - 1, size * seeds**0.5)
        assert chance_settled(Future(law, 0.05, 2, 0.0), size, 1.0, seeds) == pytest.approx(theirs, abs=3e-3)


@pytest.mark.parametrize(("difference", "margin"), [(0.0, 0.01), (0.012, 0.01), (0.006, 0.01), (0.02, 0.0)])
def test_the_chance_of_settling_a_pair_is_the_share_of_experiments_that_settle_it(difference, margin):
    """With head counts that scatter alike; the forecast takes the degrees of freedom to be those of equal variances."""
    seeds, deviation, asked = 8, 0.007, family(HEADS)
    tables = draw([0, difference, 0, 0, 0], seeds, deviation, trials=4000)
    mean, _, count = contrast_means(tables, asked.weights)
    found = variances(tables, asked.weights, len(asked.pairs))
    error = (2 * found.moderated[:, 0] / count[0]) ** 0.5
    future = Future(asked.max_t, 0.05, 5, 0.0)
    c, narrow = (asked.max_t.critical(level, future.df(seeds)) for level in (0.05, 0.1))
    settled = (np.abs(mean[:, 0]) > c * error) | (np.abs(mean[:, 0]) + narrow * error < margin)
    expected = chance_settled(future, difference, deviation * 2**0.5, seeds, margin)
    assert settled.mean() == pytest.approx(expected, abs=0.04)


def test_the_seeds_that_settle_it_are_the_fewest_with_enough_power():
    future = Future(family(HEADS).max_t, 0.05, 5, 0.0)
    for size, margin in ((0.02, 0.0), (0.002, 0.01), (0.012, 0.01)):
        count = seeds_needed(future, size, 0.01, margin)
        chances = [chance_settled(future, size, 0.01, n, margin) for n in (count - 1, count)]
        assert chances[0] < 0.8 <= chances[1]
    assert seeds_needed(future, 1e-6, 0.01, 0.0) is None
    assert seeds_needed(future, 0.1, 1e-17, 0.0) == 2
    size = smallest_detectable(future, 0.01, 4)
    assert chance_settled(future, size, 0.01, 4) == pytest.approx(0.8)


def test_a_verdict_asks_for_more_seeds_than_it_has_and_only_for_what_is_open():
    verdict = compare(losses_of(draw(EFFECTS, 3, 0.007)))
    assert verdict.open
    assert all(verdict.seeds_needed(pair) > 3 for pair in verdict.open)
    assert verdict.detectable(3) > verdict.detectable(6) > 0
