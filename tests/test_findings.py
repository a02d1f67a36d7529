"""What the results page says, from made-up studies whose answer is known: every sentence, and what is left unsaid."""

import numpy as np
import pytest

from analysis.report.words import listed, number
from benchmarks.calibration import holm
from experiments import choice, findings, networks, published, repeated


def row(estimate, half, **more):
    sure = abs(estimate) > half
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half, "sure": sure} | more


def pair(one, other, estimate, verdict):
    half = {"same": 0.007, "open": abs(estimate) + 0.01}.get(verdict, 0.01)
    return row(estimate, half, n_head=one, reference=other, verdict=verdict, seeds_needed=9)


def study_of(trend, pairs, lowest, best, **more):
    verdict = {
        "pairs": pairs,
        "lowest": lowest,
        "lowest_loss": 2.0,
        "best": best,
        "margin": 0.01,
        "trend": trend,
        "curvature": None,
    }
    more = {"n_embd": 128, "settings": {"data.source": "text", "data.tokenizer": "char", "precision": "fp32"}} | more
    tuned = {"verdict": verdict, "best_learning_rate": {str(lowest): 3e-3}, "sign_turns_between": None}
    return {"groups": [1], "tuned": [tuned], "block_size": 128} | more


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ((0.02, 0.01), (0.03, 0.01), "the same sign"),
        ((0.02, 0.01), (0.03, 0.05), "the same sign, not sure"),
        ((0.02, 0.01), (-0.03, 0.05), "opposite signs, not sure"),
        ((0.02, 0.01), (-0.03, 0.01), "opposite signs"),
    ],
)
def test_a_study_made_twice_agrees_or_does_not(one, other, said):
    assert repeated.agreement(row(*one), row(*other)) == said


def test_findings_say_what_the_reports_hold():
    pairs = [pair(4, 1, 0.02, "worse"), pair(16, 1, 0.05, "worse"), pair(16, 4, 0.005, "open")]
    centre = study_of(row(0.01, 0.005, seeds=[0, 1]), pairs, 1, [1])
    centre["settings"]["model.block_size"] = 128
    bent = row(0.01, 0.005)
    flat = study_of(row(0.001, 0.003), [pair(16, 1, -0.005, "same")], 16, [1, 16], block_size=32)
    wide = study_of(row(-0.02, 0.1), [pair(16, 1, -0.02, "open")], 16, [1, 16], n_embd=256)
    other = study_of(row(-0.02, 0.01), [pair(16, 1, -0.08, "better")], 16, [16])
    other["settings"] = {"data.source": "tales", "data.tokenizer": "bpe"}
    wide["tuned"][0]["verdict"]["curvature"] = bent
    verdict = centre["tuned"][0]["verdict"]
    assert findings.difference(verdict, 1, 16)["estimate"] == -0.05
    assert findings.difference(verdict, 1, 16)["verdict"] == "better"
    studies = {"centre": centre, "context-32": flat, "width-256": wide, "tales": other, "checked": centre}
    said = choice.practice(studies)
    assert (
        "1. At D = 128, of H = 1 and 16 (2 and 8 in none; 4 only in centre), take 1 (d_h = 128, learning rate 3e-3; at "
        "the centre surely better than 4 and 16), which costs the least where it is wrong: on the centre's text "
        "another H that was trained in a setting is better, by the upper ends of the intervals, by at most 0.0120 than "
        "1 (context-32) and 0.0600 than 16 (centre). Of 2 settings, 1 is surely better than 16 in 1, surely worse in "
        "none."
    ) in choice.practice({"centre": centre, "context-32": flat})
    assert "Of 3 settings, 1 is surely better than 16 in 1, surely worse in 1 (tales)." in said
    assert (
        "2. On average over the doublings of H, the loss surely falls in tales (−0.0200); surely rises in centre "
        "(+0.0100); does not differ between any two head counts by 0.01 in context-32; has no sure trend in width-256 "
        "(nats per token; sure where the 95 % interval leaves 0 out). In 1 of 1 settings it surely bends upwards in "
        "log2 H: more heads gain less and less there, or cost more and more. On the same text, beside the centre's "
        "interval (+0.0050 … +0.0150), the whole of another lies below it in context-32."
    ) in said
    assert "measured): centre (1 of 3 pairs, 9), width-256 (1 of 1 pairs, 9)." in said
    rows = choice.by_setting(studies).splitlines()
    assert rows[0] == "| study | lowest H | its loss | H = 4 − H = 1 (95 % CI) | H = 16 − H = 1 (95 % CI) |"
    assert rows[2] == "| centre | 1 (surely) | 2.0000 | +0.0200 (+0.0100 … +0.0300) | +0.0500 (+0.0400 … +0.0600) |"
    assert rows[3] == "| context-32 | 16 (H = 1 not excluded) | 2.0000 | – | −0.0050 (−0.0120 … +0.0020) |"
    assert len(rows) == 5  # a D of 256 is another
    assert choice.trained_little(studies, {"bigram": 2.05, "trigram": 1.5}).startswith(
        "Counting alone reaches, on the centre's validation text, 2.0500 with bigrams and 1.5000 with trigrams. The "
        "lowest loss ends within 0.1 of bigrams in centre, context-32 and width-256: these"
    )
    assert "bigrams in" not in choice.trained_little(studies, {"bigram": 1.85})
    assert choice.trained_little(studies, {"bigram": 2.5}).endswith("2.5000 with bigrams.")
    wide["settings"] = centre["settings"] | {"model.n_embd": 256}
    assert "changed, the lowest loss is that of H = 16 (d_h = 16) at D = 256 (H = 1 not excluded)." in choice.practice(
        studies
    )
    assert "that the setting matters is not shown" in findings.trends({"centre": centre, "width-256": wide})
    assert "the centre's" not in findings.trends({"centre": centre, "tales": other})  # other tokens, another unit
    again = repeated.checked(studies)
    assert "against +0.0100 (+0.0050 … +0.0150) at the centre: the same sign. H = 4 against H = 1: +0.0200" in again
    assert again.endswith("; H = 16 against H = 1: +0.0500 (+0.0400 … +0.0600), against +0.0500 (+0.0400 … +0.0600).")
    alone = study_of(row(0.01, 0.005, seeds=[0, 1]), [pair(8, 2, 0.02, "worse")], 2, [2], settings=centre["settings"])
    assert "same sign" in (told := repeated.checked(studies | {"checked": alone}))
    assert "against H" not in told  # no two head counts that both have
    assert told.endswith("Not compared again: H = 1, 4 and 16.")
    table = published.bottleneck(studies)
    assert "| centre | 128 | 128 | 16 | 8 | 0.062 | H = 1: +0.0500 (+0.0400 … +0.0600) | H = 1: +0.05" in table
    assert "| width-256 | 256 | 128 | 16 | 16 | 0.125 | H = 16: the lowest | H = 1: −0.0200" in table
    assert (
        "the most heads cost more at D = 128; nothing, being the lowest, at D = 128 with T = 32 and D = 256. "
        "At the centre's T, that difference surely falls from D = 128 to D = 256; other D's intervals overlap."
    ) in table
    assert "cost more at D = 128; nothing that is sure at D = 128 with T = 32 and D = 256. At" in table
    assert published.bottleneck({"context-32": flat, "width-256": wide}) == ""  # beside the centre, or not at all
    surely = findings.trends({"centre": study_of(row(-0.001, 0.01), pairs, 1, [1])})
    assert "has no sure trend in centre, where H = 4 and 16 are surely worse than 1 (nats" in surely
    table = published.one_head(studies)
    assert "Both are surely worse than a head count in between in no setting." in table
    assert "the lowest loss, the fewest heads are surely the lowest in 1, the same to within 0.01 in 1" in table
    assert "| centre | 1 | H = 1: surely the lowest | H = 16: +0.0500 (+0.0400 … +0.0600), worse |" in table


def test_a_study_of_one_seed_claims_nothing():
    pairs = [pair(4, 1, -0.02, "better"), pair(16, 1, 0.05, "worse"), pair(16, 4, 0.07, "worse")]
    none = {"low": None, "high": None, "sure": False, "verdict": "open", "seeds_needed": None}
    centre = study_of(row(0.01, 0.005, seeds=[0, 1]), pairs, 4, [4])
    alone = study_of(row(0.02, 0) | none, [of | none for of in pairs], 1, [1, 4, 16])
    said = choice.practice({"centre": centre, "layers-1": alone})
    assert "take 4" in said
    assert "Of 1 settings, 4 is surely better than 1 in 1" in said
    assert "layers-1" not in said
    assert "layers-1" in findings.answers({"layers-1": alone})  # but the map has it
    for one in ({"centre": alone}, {"centre": alone, "checked": centre}, {"centre": alone, "elsewhere": centre}):
        parts = [choice.practice(one), choice.by_setting(one), findings.by_length(one), published.one_head(one)]
        parts += [published.bottleneck(one), repeated.checked(one), repeated.elsewhere(one), findings.corrected(one)]
        assert parts == [""] * len(parts)
    lone = study_of(row(0.01, 0.005), [pairs[0], pairs[1] | none, pairs[2] | none], 4, [4])  # H = 16 has one seed
    assert choice.to_take({"centre": lone}, findings.verdicts_of({"centre": lone})) == ""
    assert choice.unsettled(lone["tuned"][0]["verdict"]) == ""


def test_an_end_that_the_trend_points_to_and_that_is_not_the_best_is_named():
    pairs = [pair(4, 1, -0.05, "better"), pair(16, 1, -0.02, "better"), pair(16, 4, 0.03, "worse")]
    falls = study_of(row(-0.01, 0.005), pairs, 4, [4])
    rises = study_of(row(0.01, 0.005), [*pairs[:1], pair(16, 1, 0.02, "worse"), pair(16, 4, 0.07, "worse")], 4, [4])
    said = findings.bends(findings.verdicts_of({"python": falls, "width-32": rises}))
    assert said == (
        " Though it falls in python, the most heads are surely not the best there. Though it rises in width-32, the "
        "fewest heads are surely not the best there."
    )
    falls["tuned"][0]["verdict"]["best"] = [4, 16]
    falls["tuned"][0]["verdict"]["pairs"][2] = pair(16, 4, 0.003, "open")
    assert findings.bends(findings.verdicts_of({"python": falls})) == ""
    falls["tuned"][0]["sign_turns_between"] = [2e-3, 6e-3]
    assert findings.trends({"centre": falls, "checked": falls}).endswith(
        "At one learning rate for every H its sign surely turns with it in centre (between 2e-3 and 6e-3)."
    )


def test_a_head_count_is_set_against_every_other():
    pairs = [pair(4, 1, -0.05, "better"), pair(4, 2, 0.002, "same"), pair(8, 4, 0.003, "open")]
    pairs += [pair(16, 4, -0.03, "better"), pair(32, 4, 0.003, "open"), pair(8, 1, -0.05, "better")]
    told = choice.against_others({"pairs": pairs, "margin": 0.01}, 4)
    assert (
        told == "surely better than 1, surely worse than 16, not settled against 8 and 32, the same to within 0.01 as 2"
    )


def test_trends_that_stay_sure_among_all_are_holms():
    generator = np.random.default_rng(1)
    for _ in range(50):
        p = generator.uniform(0, 0.06, 5) ** 1.5
        trends = [row(0.01, 0.005, p=value) for value in p]
        studies = {f"s{i}": study_of(trend, [pair(4, 1, 0.02, "worse")], 1, [1]) for i, trend in enumerate(trends)}
        (stay,) = holm(p[None])
        kept = listed([name for name, of in zip(studies, stay, strict=True) if of]) or "none"
        assert findings.corrected(studies) == (
            f"Were the 5 trends corrected as one family (Holm), {kept} would stay sure."
        )
    assert findings.corrected({}) == ""


def test_the_same_seeds_elsewhere_are_compared_run_by_run():
    def of(lowest, best, verdict, losses):
        study = study_of(row(0.01, 0.005), [pair(4, 1, 0.02, verdict)], lowest, best)
        study["tuned"][0] |= {"best_learning_rate": {"1": 1e-3, "4": 1e-3}}
        study["tuned"][0]["verdict"]["standard_deviation"] = 0.012
        study["tuned"][0]["verdict"]["trend"]["seeds"] = [*range(len(losses))]
        run = {"n_head": 4, "learning_rate": 1e-3, "left_out": None}
        runs = [run | {"seed": seed, "val_loss": [4, loss]} for seed, loss in enumerate(losses)]
        return study | {"runs": [*runs, run | {"seed": 0, "learning_rate": 1e-2, "val_loss": [4, 9 * losses[0]]}]}

    studies = {"centre": of(1, [1], "worse", [2.0, 2.1, 2.2]), "elsewhere": of(4, [1, 4], "open", [2.01, 2.08])}
    assert repeated.elsewhere(studies) == (
        "There, with 2 of its 3 seeds, +0.0100 (+0.0050 … +0.0150) nats per token for each doubling of H, against "
        "+0.0100 (+0.0050 … +0.0150) at the centre: the same sign. The lowest loss is that of H = 4 there (H = 1 not "
        "excluded), and of H = 1 at the centre (surely). Of the 1 pairs of head counts, sure both times: none. "
        "Training again moves a final loss by an SD of 0.0112, beside a residual SD of 0.0120."
    )
    assert repeated.rounding(*studies.values()) == number((np.std([0.01, -0.02, -0.01, 0.02], ddof=0) ** 2 / 2) ** 0.5)
    sure = repeated.elsewhere({"centre": of(1, [1], "worse", [2.0]), "elsewhere": of(4, [4], "better", [2.0])})
    assert "sure both times: 1, with opposite signs: H = 4 against H = 1, +0.0200" in sure
    assert repeated.elsewhere({"centre": studies["centre"]}) == ""
    whole = studies["elsewhere"] | {"settings": {"data.val_tokens": None}}  # measured on another text: no repetition
    assert repeated.elsewhere(studies | {"elsewhere": whole}) == ""
    assert repeated.checked(studies | {"checked": whole}) == ""
    one_rate = studies["centre"] | {"groups": [studies["centre"]["tuned"][0]], "tuned": []}
    assert repeated.rounding(one_rate, studies["elsewhere"]) == ""
    held = {name: {"study": study} for name, study in studies.items()}
    assert repeated.again(held, {"elsewhere": held["elsewhere"]}).startswith("elsewhere: +0.0100")
    assert repeated.again({"centre": held["centre"]}, {}) == "None of these studies is published."
    assert "centre" in findings.verdicts_of(studies)
    assert "elsewhere" not in findings.verdicts_of(studies)


def test_a_sign_that_turns_with_the_length_of_training_is_said():
    def after(iters, trend, **more):
        return study_of(trend, [pair(16, 1, 0.02, "open")], 1, [1], settings={"train.max_iters": iters} | more)

    studies = {"centre": after(2000, row(-0.01, 0.005)), "iterations-800": after(800, row(0.02, 0.01))}
    said = findings.by_length(studies)
    assert "+0.0200 (+0.0100 … +0.0300) after 800 iterations, H = 1 the lowest (surely); −0.0100" in said
    assert "The sign turns between 800 and 2,000 iterations." in said
    twice = findings.by_length(studies | {"iterations-200": after(200, row(-0.01, 0.005))})
    assert twice.endswith("The sign turns between 200 and 800 iterations and again between 800 and 2,000 iterations.")
    assert "turns" not in findings.by_length(studies | {"centre": after(2000, row(-0.01, 0.02))})
    assert findings.by_length({"centre": studies["centre"]}) == ""
    other = after(800, row(0.02, 0.01), precision="fp32")  # more than the length differs
    assert findings.by_length(studies | {"iterations-800": other}) == ""


def test_losses_on_the_way_are_means_at_each_heads_own_rate():
    def run(n_head, rate, losses, left_out=None):
        run = {"n_head": n_head, "learning_rate": rate, "left_out": left_out, "iters": [0, 500, 1000]}
        return run | {"val_loss": losses}

    runs = [run(1, 1e-3, [4, 2.2, 2]), run(1, 1e-3, [4, 2.4, 2.1]), run(1, 3e-3, [4, 9, 9])]
    runs += [run(4, 3e-3, [4, 2.5, 1.9]), run(4, 1e-3, [4, 9, 9]), run(4, 3e-3, [None, 9, 9], "diverged")]
    study = {"runs": runs, "tuned": [{"best_learning_rate": {"1": 1e-3, "4": 3e-3}}]}
    assert findings.on_the_way(study).splitlines()[-2:] == ["| 500 | 2.3000 | 2.5000 |", "| 1,000 | 2.0500 | 1.9000 |"]
    assert findings.on_the_way(study).startswith("| iteration | H = 1 (1e-3) | H = 4 (3e-3) |")
    assert findings.on_the_way({}) == ""


def test_gains_are_claimed_where_the_interval_leaves_0_out():
    def study(**trends):
        verdicts = {name: {"trend": trend} for name, trend in trends.items()}
        loss = {name: {"16": {"0": 1.25, "1": 1.22}, "4": {"0": 1.5, "1": 1.22}} for name in trends}
        section = {"verdicts": verdicts, "loss": loss, "floor": dict.fromkeys(trends, 1.2)}
        heads = [{"seeds": [0, 1], "final_loss": {"mean": 2.0}}]
        return {"sections": {"relations": section}, "groups": [{"learning_rate": 1e-3, "heads": heads}]}

    said = networks.gains(study(local=row(0.001, 0.002), long_range=row(-0.07, 0.1)))
    assert "not settled in tales-learned (the four relations, at learning rate 1e-3 for every H, nats" in said
    at = "mean losses 1.360 and 1.235, with 1 of 2 and 2 of 2 runs near its floor, at H = 4 and 16"
    assert f"largest is long-range, −0.0700 (−0.1700 … +0.0300): {at}." in said
    said = networks.gains(study(local=row(0.001, 0.002), long_range=row(-0.07, 0.01)))
    assert f"the loss falls for long-range words, −0.0700 (−0.0800 … −0.0600): {at}; not sure for local ones." in said
    said = networks.gains(study(local=row(0.004, 0.002), long_range=row(-0.07, 0.01)))
    assert "rises for local words, +0.0040" in said
    assert "not sure" not in said
    assert networks.gains(study(local=None)) == ""


def test_what_is_inside_the_networks():
    curve = {"loss": 1.0, "ablated": [0, 2, 4, 6], "cumulative": [1.0, 1.005, 1.02, 1.5]}
    assert [networks.within(curve, most) for most in (0.001, 0.01, 0.1, 1)] == [0, 2, 4, 6]
    layers = {"order": [[1, 0], [0, 1], [1, 1], [0, 0], [0, 2], [0, 3]], "alone": [[0, 0, 0, 0], [0, 0]]}
    assert networks.by_layer([curve | layers], 0.1) == [0.5, 1]  # four heads go: two of four, and two of two
    section = {"loss": {"local": {"16": {"0": 1.25, "1": 1.6}, "8": {"0": 1.5, "1": 1.6}}}, "floor": {"local": 1.2}}
    assert networks.near_floor(section, "local") == ["0 of 2", "1 of 2"]
    run = {"n_head": 4, "left_out": None, "iters": [0, 10, 20], "val_loss_by_relation": {"local": [5.0, 1.9, 1.3]}}
    runs = [run | {"learning_rate": 1e-3}, run | {"learning_rate": 1e-2, "val_loss_by_relation": {"local": [5, 1, 1]}}]
    groups = [
        {"learning_rate": rate, "heads": [{"seeds": [0], "final_loss": {"mean": mean}}]}
        for rate, mean in ((1e-3, 2), (1e-2, 3))
    ]
    study = {"runs": runs, "groups": groups}
    assert networks.reached(study, "local", 4, {"local": 1.25}) == "20"
    assert networks.reached(study, "local", 4, {"local": 1.0}) == "–"
    assert networks.reached(study, "local", 4, None) == "–"
    assert networks.at_rate(study) == ", at learning rate 1e-3 for every H"
    runs.append(runs[0] | {"val_loss_by_relation": {"local": [5.0, 1.1, 1.1]}})
    runs.append(runs[0] | {"val_loss_by_relation": {"local": [5.0, 4.0, 3.0]}})  # which never comes there
    assert networks.reached(study, "local", 4, {"local": 1.25}) == "10–20"
