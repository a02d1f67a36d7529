"""What a reader is told: sentences no stronger than the test, tables that fit, notes for all that was left out."""

import json
import math
import re
from dataclasses import replace

import pytest

from analysis.report.loss import answer, loss_section
from analysis.report.page import whole
from analysis.report.section import Part
from analysis.report.terminal import report_text
from analysis.report.tuned import tuned_section
from analysis.runs import Study
from analysis.summary import summarize
from errors import InputError
from terminal import table
from tests.analysis.synthetic import run, sweep


def study(runs, tokens_per_byte=0.5, notes=()):
    return Study("x", ["runs/x"], 128, 4, 64, 1000, tokens_per_byte, {}, list(runs), list(notes))


def only_group(runs, reference=None):
    (group,) = summarize(study(runs), reference)["groups"]
    return group


def said(group):
    return " ".join(group["sentences"])


def test_a_trend_the_pairs_and_what_is_open_are_told_in_this_order_and_for_this_learning_rate():
    text = said(only_group(sweep({1: 0.2, 4: 0.1, 16: 0.0005, 64: 0})))
    assert text.startswith("At D = 128 and learning rate 1e-3, the final validation loss falls by 0.03")
    assert "for each doubling of H, over 5 seeds. " in text
    assert "H = 64 has the lowest, 2.20" in text
    assert "H = 16 cannot be excluded as the best" in text
    assert "Compared with H = 64, H = 1 is worse by 0.1988 and H = 4 by 0.0992 (p < 0.001)." in text
    assert "H = 1 is worse than H = 4 and 16; H = 4 is worse than H = 16." in text
    assert text.endswith("The same to within 0.01 nats per token: H = 16 and 64. Every pair is settled.")


def test_a_best_head_count_in_between_is_told():
    text = said(only_group(sweep({1: 0.2, 2: 0.05, 4: 0, 8: 0.05, 16: 0.2})))
    assert "no trend in H is sure" in text
    assert "It bends upwards (p < 0.001): a parabola in log2 H is lowest near H = 4." in text
    text = said(only_group(sweep({32: 0.2, 64: 0.05, 128: 0, 256: 0.05, 512: 0.2})))
    assert "a parabola in log2 H is lowest near H = 128." in text


def test_head_counts_that_are_the_same_are_told_and_the_margin_is_the_users():
    runs = sweep({1: 0.2, 4: 0, 8: 0.0005})
    (group,) = summarize(study(runs), margin=0.02)["groups"]
    assert "The same to within 0.02 nats per token: H = 4 and 8." in said(group)
    assert "Every pair is settled." in said(group)
    (group,) = summarize(study(runs), margin=0.0005)["groups"]
    assert "Not settled: H = 4 and 8; " in said(group)


def test_a_named_reference_can_be_beaten_and_narrows_the_family():
    text = said(only_group(sweep({4: 0, 1: 0.2}), reference=1))
    assert "H = 4 is better than H = 1 by 0.2004 nats per token (95 % interval 0.1" in text
    group = only_group(sweep({1: 0.2, 4: 0, 8: 0.1}), reference=8)
    assert [(row["n_head"], row["reference"]) for row in group["verdict"]["pairs"]] == [(1, 8), (4, 8)]
    assert "Compared with H = 8, H = 1 is worse by 0.0992 (" in said(group)
    assert "; H = 4 is better by 0.1" in said(group)


def test_means_that_are_told_beside_each_other_are_of_the_same_seeds():
    """H = 16 is worse in each of its seeds; H = 1 has one more, which was harder for every H."""
    losses = {1: {0: 2.2, 1: 2.0, 2: 2.1}, 16: {1: 2.03, 2: 2.131}}
    group = only_group([run(h, seed, loss) for h, of in losses.items() for seed, loss in of.items()])
    assert "H = 16 is worse than H = 1 by 0.0305" in said(group)
    assert "H = 1 has the lowest, 2.0500" in said(group)
    assert answer(group, losses).endswith("It is 2.0500 at H = 1 and 2.0805 at H = 16.")
    losses = {1: {0: 2.2, 1: 2.0}, 4: {0: 2.1, 1: 1.9}, 16: {0: 2.13, 1: 1.95}}
    group = only_group([run(h, seed, loss) for h, of in losses.items() for seed, loss in of.items()])
    assert answer(group, losses).endswith("It is 2.1000 at H = 1, 2.0000 at H = 4, the lowest, and 2.0400 at H = 16.")


def test_nothing_is_concluded_from_one_seed():
    group = only_group(sweep({4: 0, 1: 0.2}, seeds=[0]))
    assert "nothing can be concluded from one common seed" in said(group)
    (pair,) = group["verdict"]["pairs"]
    assert pair["estimate"] == pytest.approx(-0.2)
    assert [pair[k] for k in ("low", "p", "sure", "verdict")] == [None, None, False, "open"]


def test_the_fair_comparison_is_the_answer_where_rates_were_swept():
    """At 1e-3 alone the loss falls with H, at 1e-2 it rises; each at its best, it does neither."""
    effects = {1: 0.02, 4: 0.01, 16: 0.0}
    low = sweep(effects)
    high = sweep({h: 0.02 - effect for h, effect in effects.items()}, learning_rate=1e-2)
    summary = summarize(study(low + high))
    (answer,) = summary["answer"]
    (tuned,) = summary["tuned"]
    assert answer.startswith("At D = 128 and the learning rate that is best for each H (1e-3 for H = ")
    assert tuned["best_learning_rate"][1] == 1e-2
    assert tuned["best_learning_rate"][16] == 1e-3
    assert "The sign turns between 1e-3 and 1e-2" in answer
    assert "The best learning rate of every H ends the grid" in answer
    assert "--sweep.learning_rate 1e-4,1e-3,1e-2,1e-1." in answer
    assert ["falls" in said(group) for group in summary["groups"]] == [True, False]
    section = tuned_section(tuned, study(low + high).groups(), "x")
    assert section.text[0] == answer
    for picture in section.pictures:
        picture.draw().draw_without_rendering()
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ({"finished": False}, "as runs are missing or unfinished there: 1e-2 for H = 1 and 4; train those, too."),
        ({"diverged": 30}, "as runs diverged there: 1e-2 for H = 1 and 4."),
    ],
)
def test_a_rate_without_a_run_that_can_be_used_belongs_to_the_grid(lost, told):
    runs = sweep({1: 0.4, 4: 0.2}) + sweep({1: 0.2, 4: 0}, learning_rate=3e-3)
    made = study(runs + sweep({1: 0, 4: 0}, learning_rate=1e-2, **lost))
    summary = summarize(made)
    (answer,), (tuned,) = summary["answer"], summary["tuned"]
    assert tuned["learning_rates"] == [1e-3, 3e-3, 1e-2]
    assert tuned["left_out"] == {1: [1e-2], 4: [1e-2]}
    assert tuned["add_learning_rates"] == {}
    assert told in answer
    assert "That the trend depends on the learning rate is not sure" in answer
    assert "3 settings of learning rate and weight decay were swept" in summary["notes"][0]
    assert "within each one that has runs to compare, each" in summary["notes"][0]
    section = tuned_section(tuned, made.groups(), "x")
    assert section.tables[0].rows[0] == ["1", "2.6000", "2.4000", "–", "3e-3"]
    for picture in section.pictures:
        picture.draw().draw_without_rendering()


def lost_at(rate, seeds, effects=None, **changes):
    """Runs of H = 1, 4 and 16, of which H = 16 loses these seeds."""
    runs = sweep(effects or {1: 0.2, 4: 0, 16: 0.1}, range(3), learning_rate=rate)
    return [replace(one, **changes) if one.n_head == 16 and one.seed in seeds else one for one in runs]


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [
        (lost_at(1e-3, [0], diverged=30), lost_at(3e-3, [1], diverged=30), "no learning rate has all of its seeds"),
        (lost_at(1e-3, [1, 2], finished=False), lost_at(3e-3, [1, 2], finished=False), "all of its seeds, two or more"),
        (lost_at(1e-3, [0, 1, 2], diverged=30), lost_at(3e-3, [0, 1, 2], diverged=30), "every run diverged"),
        (lost_at(1e-3, [0, 1, 2], diverged=30), lost_at(3e-3, [0, 1, 2], finished=False), "none of its runs can be"),
    ],
)
def test_a_head_count_that_cannot_choose_a_rate_does_not_vanish_from_the_answer(low, high, why):
    (answer,) = summarize(study(low + high))["answer"]
    assert "Nothing is said of H = 16: " in answer
    assert why in answer.split("Nothing is said")[1]
    assert "at 3e-3 for each doubling of H." in answer
    assert "Nothing is said" not in summarize(study(lost_at(1e-3, []) + lost_at(3e-3, [2], diverged=30)))["answer"][0]


def test_trends_by_rate_name_their_head_counts_where_they_are_not_those_of_the_verdict():
    runs = lost_at(1e-3, [])
    (answer,) = summarize(study(runs + lost_at(3e-3, [1, 2], diverged=30)))["answer"]
    assert "H = 4 has the lowest, 2.1" in answer
    assert "at 3e-3 for each doubling of H (over H = 1 and 4)." in answer
    (answer,) = summarize(study(runs + lost_at(3e-3, [], {1: 0.0, 4: 0.1, 16: 0.2})))["answer"]
    assert "The sign turns between 1e-3 and 3e-3: for each doubling of H the loss changes by" in answer
    assert "(over" not in answer


def test_one_head_count_has_nothing_to_be_compared_with():
    assert "nothing to compare" in said(only_group(sweep({4: 0})))


def test_a_reference_that_was_not_run_is_an_error_that_names_those_that_were():
    with pytest.raises(InputError, match=r"--reference 3: .* it has 1, 4"):
        summarize(study(sweep({4: 0, 1: 0.2})), 3)


def test_a_reference_whose_runs_were_left_out_is_said():
    runs = sweep({4: 0, 1: 0.2}) + sweep({8: 0}, finished=False)
    assert "every run with H = 8, the reference, was left out" in said(only_group(runs, reference=8))


def test_bits_per_byte_and_perplexity_of_a_known_loss():
    """A uniform guess among 8 tokens of 2 bytes is 3 bits a token: 1.5 bits a byte and perplexity 8."""
    (row,) = only_group([run(4, 0, math.log(8))])["heads"]
    assert row["final_bits_per_byte"]["mean"] == pytest.approx(1.5)
    assert row["final_perplexity"] == pytest.approx(8)
    assert row["head_size"] == 32


def test_the_best_loss_is_told_with_its_iteration_where_the_end_overfits():
    (row,) = only_group([run(4, s, 2.5, val_loss=[6.0, 2.0 + s / 10, 2.5]) for s in (0, 1)])["heads"]
    assert (row["best_loss"]["mean"], row["best_iters"]) == (pytest.approx(2.05), [100, 100])


@pytest.mark.parametrize(
    "changes",
    [{"finished": False}, {"diverged": 120}, {"val_loss": [6.2, 3.0, math.nan]}, {"val_loss": [], "iters": []}],
)
def test_runs_that_cannot_be_used_stay_out_of_the_numbers(changes):
    runs = sweep({4: 0, 1: 0.2})
    group = only_group([*runs, run(1, 9, 0.01, **{"relations": {}} | changes)])
    assert [row.pop("left_out") for row in group["heads"]] == [1, 0]
    without = only_group(runs)
    assert [row.pop("left_out") for row in without["heads"]] == [0, 0]
    assert group == without


def test_learning_rates_are_not_mixed():
    runs = sweep({4: 0, 1: 0.2}) + sweep({4: 1, 1: 0.9}, learning_rate=3e-4)
    summary = summarize(study(runs))
    assert [g["learning_rate"] for g in summary["groups"]] == [3e-4, 1e-3]
    assert [g["verdict"]["lowest"] for g in summary["groups"]] == [1, 4]
    assert "compared within each one" in " ".join(summary["notes"])


def test_the_summary_is_json_even_after_a_loss_that_was_not_finite():
    summary = summarize(study([*sweep({4: 0, 1: 0.2}), run(8, 0, math.inf, diverged=150)]))
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("width", [100, 72, 40])
def test_the_terminal_text_fits_the_window_and_loses_no_column(width):
    runs = sweep({4: 0, 1: 0.2, 16: 0.01})
    sections = [loss_section(study(runs), runs, "x", None)]
    text = report_text([Part("x", "x: D = 128", ["H = 4 is best. " * 9], [], sections)], ["a note " * 20], width)
    assert max(map(len, text.splitlines())) <= width
    assert not re.search(r"(H|=|95)$", text, re.MULTILINE)
    for heading in ("d_h", "95 % CI", "bits/byte", "perplexity", "verdict", "seeds to settle it"):
        assert heading in text


def test_a_folded_table_repeats_its_first_column():
    assert table(["H", "abc", "def"], [["1", "x", "y"]], 8) == "H  abc\n1    x\n\nH  def\n1    y"


def test_a_line_end_parts_no_number_from_its_unit_and_text_stays_text():
    text = "At H = 4 <b>: 0.1 ± 0.02, 95 % CI"
    assert whole(text).striptags() == text
    assert "&lt;b&gt;" in whole(text)
    assert re.findall('<span class="whole">(.*?)</span>', whole(text)) == ["H = 4", "± 0.02", "95 %"]


@pytest.mark.parametrize(
    ("reference", "told"),
    [(None, "all pairs are one family of 5 questions"), (4, "the pairs with H = 4 are one family")],
)
def test_the_family_that_is_named_is_the_one_that_was_tested(reference, told):
    runs = sweep({1: 0.2, 4: 0, 8: 0.1})
    section = loss_section(study(runs), runs, "x", reference)
    assert told in section.text[2]
    assert "All of this is for learning rate 1e-3" in section.text[3]


def test_a_small_scatter_is_not_shown_as_none():
    runs = [run(h, s, 2 + 1e-5 * (h == 1) * s) for h in (1, 4) for s in range(3)]
    text = loss_section(study(runs), runs, "x", None).text[1]
    assert "a standard deviation of 7.1e-06 nats per token" in text


def test_a_head_count_whose_runs_are_all_left_out_does_not_vanish_from_the_answer():
    runs = sweep({1: 0.2, 4: 0})
    sentence = said(only_group([*runs, run(16, 0, 2.0, diverged=30), run(16, 1, 2.0, diverged=40)]))
    assert sentence.endswith("Nothing is said of H = 16: every run diverged.")
    sentence = said(only_group([*runs, run(16, 0, 2.0, diverged=30), run(16, 1, 2.0, finished=False)]))
    assert sentence.endswith("Nothing is said of H = 16: none of its runs can be used.")
    assert "Nothing is said" not in said(only_group([*runs, run(4, 9, 2.0, diverged=30)]))
    other_rate = run(16, 0, 2.0, diverged=30, learning_rate=1.0)
    assert "Nothing is said" not in said(only_group([*runs, other_rate]))
