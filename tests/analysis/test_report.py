"""What a reader is told: sentences no stronger than the test, tables that fit, notes for all that was left out."""

import json
import math
import re

import pytest

from analysis.report.loss import loss_section
from analysis.report.page import whole
from analysis.report.section import Part
from analysis.report.terminal import report_text
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


def test_a_clear_and_an_unclear_difference_are_told_in_one_sentence():
    group = only_group(sweep({4: 0, 1: 0.2, 8: 0.0005}))
    assert group["sentence"].startswith("At D = 128, H = 4 has the lowest final validation loss, 2.2000 nats per token")
    assert "H = 1 is worse by 0.2004 ± 0.0" in group["sentence"]
    assert "(p < 0.001)" in group["sentence"]
    assert "H = 8 cannot be told apart from it with these 5 seeds; about " in group["sentence"]
    assert group["sentence"].endswith(" seeds would settle it.")


def test_a_named_reference_can_be_beaten():
    group = only_group(sweep({4: 0, 1: 0.2}), reference=1)
    assert (group["reference"], group["chosen_by_data"]) == (1, False)
    assert "H = 4 is better by 0.2004 ± 0.0" in group["sentence"]
    assert "lowest" not in group["sentence"]


def test_nothing_is_concluded_from_one_seed():
    group = only_group(sweep({4: 0, 1: 0.2}, seeds=[0]))
    assert "nothing can be concluded from one common seed" in group["sentence"]
    (difference,) = group["differences"]
    assert difference["mean"] == pytest.approx(0.2)
    assert [difference[k] for k in ("interval", "p", "p_holm", "different")] == [None, None, None, False]


def test_one_head_count_has_nothing_to_be_compared_with():
    assert "nothing to compare" in only_group(sweep({4: 0}))["sentence"]


def test_a_reference_that_was_not_run_is_an_error_that_names_those_that_were():
    with pytest.raises(InputError, match=r"--reference 3: .* it has 1, 4"):
        summarize(study(sweep({4: 0, 1: 0.2})), 3)


def test_a_reference_whose_runs_were_left_out_is_said():
    runs = sweep({4: 0, 1: 0.2}) + sweep({8: 0}, finished=False)
    assert "every run with H = 8, the reference, was left out" in only_group(runs, reference=8)["sentence"]


def test_bits_per_byte_and_perplexity_of_a_known_loss():
    """A uniform guess among 8 tokens of 2 bytes is 3 bits a token: 1.5 bits a byte and perplexity 8."""
    (row,) = only_group([run(4, 0, math.log(8))])["heads"]
    assert row["final_bits_per_byte"]["mean"] == pytest.approx(1.5)
    assert row["final_perplexity"]["mean"] == pytest.approx(8)
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
    assert [g["reference"] for g in summary["groups"]] == [1, 4]
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
    for heading in ("d_h", "95 % CI", "bits/byte", "perplexity", "p (Holm)", "differs"):
        assert heading in text


def test_a_folded_table_repeats_its_first_column():
    assert table(["H", "abc", "def"], [["1", "x", "y"]], 8) == "H  abc\n1    x\n\nH  def\n1    y"


def test_a_line_end_parts_no_number_from_its_unit_and_text_stays_text():
    text = "At H = 4 <b>: 0.1 ± 0.02, 95 % CI"
    assert whole(text).striptags() == text
    assert "&lt;b&gt;" in whole(text)
    assert re.findall('<span class="whole">(.*?)</span>', whole(text)) == ["H = 4", "± 0.02", "95 %"]


@pytest.mark.parametrize(
    ("effects", "reference", "told"),
    [
        ({1: 0.2, 4: 0}, None, "one pair is tested, so nothing is corrected"),
        ({1: 0.2, 4: 0, 8: 0.1}, None, "for all 3 pairs of head counts"),
        ({1: 0.2, 4: 0, 8: 0.1}, 4, "for the 2 other head counts"),
    ],
)
def test_the_correction_that_is_named_is_the_one_that_was_made(effects, reference, told):
    runs = sweep(effects)
    section = loss_section(study(runs), runs, "x", reference)
    assert told in section.text[2]


def test_a_small_scatter_is_not_shown_as_none():
    runs = [run(h, s, 2 + 1e-5 * (h == 1) * s) for h in (1, 4) for s in range(3)]
    text = loss_section(study(runs), runs, "x", None).text[1]
    assert "a standard deviation of 1e-05 nats per token" in text


def test_a_head_count_whose_runs_are_all_left_out_does_not_vanish_from_the_answer():
    runs = sweep({1: 0.2, 4: 0})
    sentence = only_group([*runs, run(16, 0, 2.0, diverged=30), run(16, 1, 2.0, diverged=40)])["sentence"]
    assert sentence.endswith("Nothing is said of H = 16: every run diverged.")
    sentence = only_group([*runs, run(16, 0, 2.0, diverged=30), run(16, 1, 2.0, finished=False)])["sentence"]
    assert sentence.endswith("Nothing is said of H = 16: none of its runs can be used.")
    assert "Nothing is said" not in only_group([*runs, run(4, 9, 2.0, diverged=30)])["sentence"]
    other_rate = run(16, 0, 2.0, diverged=30, learning_rate=1.0)
    assert "Nothing is said" not in only_group([*runs, other_rate])["sentence"]
