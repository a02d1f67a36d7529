"""The script that makes the results page: small studies in, a page of their numbers out."""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.report.overview import verdict_of
from analysis.report.words import number, signed
from experiment.folder import Experiment
from experiments import choice, findings, networks, published, repeated, results
from experiments.ngrams import ngram_loss
from experiments.page import NOTHING, keep, kept, machines, write_page
from experiments.results import ROOT, Study
from tests.torture.common import call
from training.record import commit

SMALL = {
    "model.n_layer": 1,
    "model.n_embd": 16,
    "model.block_size": 16,
    "sweep.n_head": "1,4",
    "sweep.seed": "0,1",
    "data.n_stories": 60,
    "data.val_fraction": 0.05,
    "data.vocab_size": 300,
    "train.max_iters": 4,
    "train.warmup_iters": 1,
    "train.compile": "false",
}


def in_this_process(program, *argv):
    status, _, err = call(program.name if isinstance(program, Path) else program, *argv)
    assert status == 0, err


def test_every_number_of_the_page_is_a_reports(tmp_path, monkeypatch, capsys):
    centre = Study(results.TALES | {"sweep.learning_rate": "1e-3,1e-2"}, reduced=SMALL, networks=True)
    short, learned = SMALL | {"train.max_iters": 2}, SMALL | {"sweep.learning_rate": "1e-3"}
    studies = {"centre": centre, "iterations-200": Study(centre.changes, reduced=short)}
    studies |= {"checked": Study(centre.changes, reduced=learned | {"sweep.seed": "2,3"})}
    studies |= {"elsewhere": Study(centre.changes, reduced=SMALL)}
    studies |= {"tales-learned": Study(centre.changes, reduced=learned | {"train.max_iters": 3}, networks=True)}
    monkeypatch.setattr(results, "STUDIES", studies)
    monkeypatch.setattr(results, "run", in_this_process)
    nothing = {"svg": b'<svg width="9pt" height="9pt" viewBox="0 0 9 9"></svg>', "png": b""}  # as drawing takes long
    monkeypatch.setattr("analysis.report.page.render", lambda picture, title: nothing)
    page = tmp_path / "docs" / "results.md"
    argv = ["results", "--reduced", "--out", str(tmp_path / "out"), "--page", str(page), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*argv, "--only", "iterations-200"])
    results.main()
    assert "## The map" in (text := page.read_text())
    assert NOTHING in text
    shutil.rmtree(tmp_path / "out")  # as on another machine: what is kept beside the page is enough
    monkeypatch.setattr(sys, "argv", [*argv, "--only", "centre", "checked", "elsewhere", "tales-learned"])
    results.main()
    rates, _ = results.learning_rates(tmp_path / "out" / "centre")
    assert {1e-3, 1e-2} < rates  # of two rates the best one ends the grid: it was widened
    text = page.read_text()
    assert "<!--" not in text
    assert NOTHING not in text
    held = kept(page, studies)
    assert list(held) == list(studies)
    monkeypatch.setattr(sys, "argv", [*argv, "--only"])
    results.main()  # the page alone
    assert page.read_text() == text
    assert str(tmp_path) not in json.dumps(held)  # no path of the machine is kept
    for name in ("centre", "tales-learned"):
        (study,) = json.loads((tmp_path / "out" / name / "report.json").read_text())["studies"]
        assert held[name]["study"]["answer"] == study["answer"]
        trend = verdict_of(study)["trend"]
        assert f"| {name} | {signed(trend['estimate'])} |" in text
        assert study["answer"][0] in text
    assert "With seeds 2 and 3 in " in text
    assert "Training again moves a final loss by an SD of 0.0000" in text  # on this same machine
    assert (commit() or "unknown") in text  # none outside a checkout
    assert (page.parent / "results" / "map.svg").exists()
    monkeypatch.setattr(sys, "argv", [*argv[:4], "--only", "centre", "--seeds", "0:3", "--device", "cpu"])
    results.train("centre", results.arguments())
    grown = Experiment.open(tmp_path / "out" / "centre").runs
    assert len(grown) == 3 * 2 * len({run.learning_rate for run in grown})  # at the rates of the widened grid, too
    assert all(run.finished for run in grown)
    capsys.readouterr()
    monkeypatch.setattr(results, "ROOT", tmp_path)  # whose docs/results.md is the published page
    monkeypatch.setattr(sys, "argv", ["results", "--page", str(tmp_path / "mine.md"), "--out", str(tmp_path / "out")])
    monkeypatch.setattr(results, "train", lambda name, options: None)
    monkeypatch.setattr(results, "STUDIES", {"centre": Study()})  # which looks into no network
    results.main()
    assert "centre: " in (said := capsys.readouterr().out)
    assert "published: the same sign" in said
    held = kept(page, ["centre"])["centre"]
    held["made"]["version"] = "whole"
    (tmp_path / "docs" / "results" / "centre.json").write_text(json.dumps(held))
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match="centre of the whole version"):
        results.main()


def test_no_path_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.page.Experiment.open", lambda path: SimpleNamespace(environment={"starts": []}))
    study = {"name": "a", "settings": {"model.n_embd": 8}, "folders": ["/home/a"]}
    study |= {"runs": [{"folder": "/home/a", "name": "h01"}], "sections": {"curves": 1, "heads": 2}}
    study |= {"notes": [f"{tmp_path}/h01: left out, diverged"]}
    (tmp_path / "report.json").write_text(json.dumps({"format": 3, "studies": [study]}))
    keep(tmp_path / "page.md", "width-32", tmp_path, "reduced")
    held = kept(tmp_path / "page.md", ["width-64", "width-32"])
    assert list(held) == ["width-32"]
    assert held["width-32"]["study"]["notes"] == ["width-32/h01: left out, diverged"]
    assert held["width-32"]["study"]["sections"] == {"heads": 2}
    assert not any(part in json.dumps(held) for part in ("/home", str(tmp_path)))


def test_a_page_is_a_file_of_markdown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["results", "--page", "docs"])
    with pytest.raises(SystemExit):
        results.arguments()
    assert "--page docs: name a file that ends in .md" in capsys.readouterr().err


def test_studies_made_alike_are_named_together():
    def of(*devices, version="reduced", hours=0.5):
        return {"made": {"version": version, "devices": devices, "commits": ["abc"], "hours": hours}}

    said = machines({"centre": of("one"), "width-32": of("two"), "width-64": of("one")})
    assert said.splitlines() == [
        "- centre and width-64: the reduced version, 1.0 hours of training on one, commit abc",
        "- width-32: the reduced version, 0.5 hours of training on two, commit abc",
    ]


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


def test_a_grid_is_widened_so_often_and_no_more(monkeypatch):
    started = SimpleNamespace(environment={"starts": [{"added": ["a", "b"]}, {"added": ["c", "d", "e"]}]})
    monkeypatch.setattr(results.Experiment, "open", lambda path: started)
    runs = [
        SimpleNamespace(name=name, learning_rate=rate)
        for name, rate in zip("abcde", (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2), strict=True)
    ]
    monkeypatch.setattr(results, "collect", lambda paths: ([SimpleNamespace(runs=runs)], []))
    asked = {"tuned": [{"add_learning_rates": {1: [5e-4], 4: [3e-2]}}]}
    monkeypatch.setattr(results, "summarize", lambda study: asked)
    assert results.learning_rates(Path("any"))[1] == {5e-4}  # three were added above, none below


def test_rates_that_are_added_get_every_seed_that_a_folder_has(tmp_path, monkeypatch):
    """Also the seeds that settling added: at fewer ones a rate would not be open to choice."""
    (tmp_path / "centre").mkdir()
    (tmp_path / "centre" / "environment.json").touch()
    runs = [SimpleNamespace(seed=seed, learning_rate=1e-3) for seed in range(16)]
    monkeypatch.setattr(results.Experiment, "open", lambda path: SimpleNamespace(runs=runs))
    asked = iter([{2e-3}, set(), set()])
    monkeypatch.setattr(results, "learning_rates", lambda path: ({1e-3}, next(asked)))
    calls = []
    monkeypatch.setattr(results, "run", lambda program, *argv: calls.append([*map(str, argv)]))
    monkeypatch.setattr(sys, "argv", ["results", "--out", str(tmp_path)])
    results.train("centre", results.arguments())
    first, second, third = calls
    seeds = "--sweep.seed=" + ",".join(map(str, range(16)))
    assert seeds not in first
    assert {seeds, "--sweep.learning_rate=0.001,0.002"} <= set(second)
    assert seeds in third
    assert third[-4:] == ["--settle", "0.01", "--max_seeds", "16"]


def test_the_published_page_is_made_from_what_is_kept_beside_it(tmp_path):
    published, again = ROOT / "docs" / "results.md", tmp_path / "results.md"
    write_page(again, kept(published, results.STUDIES))
    assert again.read_text(encoding="utf-8") == published.read_text(encoding="utf-8")


def test_the_readme_says_what_the_page_says():
    """Its sentences with numbers of the map are the page's own."""
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/results.md"))
    lines = [line.removeprefix(">").strip() for line in readme.splitlines() if line.startswith(">")]
    told = "\n".join(lines).split("\n\n")
    assert len(told) == 2
    assert all(text.replace("\n", " ") in page for text in told)


def row(estimate, half, **more):
    sure = abs(estimate) > half
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half, "sure": sure} | more


def pair(one, other, estimate, verdict):
    half = {"same": 0.004, "open": abs(estimate) + 0.01}.get(verdict, 0.01)
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
    return {"groups": [1], "tuned": [{"verdict": verdict}], "block_size": 128} | more


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
        "1. At D = 128, of H = 1 and 16 (2 and 8 in none; 4 only in centre), take 1 (d_h = 128), which costs the least "
        "where it is wrong: on the centre's text, by the intervals, no other H is better than 1 by over 0.0090 "
        "(context-32) and than 16 by over 0.0600 (centre). Of 2 settings, 1 is surely better than 16 in 1, surely "
        "worse in none."
    ) in choice.practice({"centre": centre, "context-32": flat})
    assert "Of 3 settings, 1 is surely better than 16 in 1, surely worse in 1 (tales)." in said
    assert (
        "the loss surely falls in tales (−0.0200); surely rises in centre (+0.0100); "
        "does not differ between any two head counts by 0.01 in context-32; has no sure trend in width-256 "
        "(nats per token; sure where the 95 % interval leaves 0 out). In 1 of 1 settings it surely bends upwards in "
        "log2 H: more heads gain less and less there, or cost more and more. On the same text, beside the centre's "
        "interval (+0.0050 … +0.0150), a setting's lies below it in context-32."
    ) in said
    assert "measured: centre (1 of 3 pairs, 9), width-256 (1 of 1 pairs, 9)." in said
    rows = choice.by_setting(studies).splitlines()
    assert rows[0] == "| study | lowest H | its loss | H = 4 − H = 1 (95 % CI) | H = 16 − H = 1 (95 % CI) |"
    assert rows[2] == "| centre | 1 (surely) | 2.0000 | +0.0200 (+0.0100 … +0.0300) | +0.0500 (+0.0400 … +0.0600) |"
    assert rows[3] == "| context-32 | 16 (H = 1 not excluded) | 2.0000 | – | −0.0050 (−0.0090 … −0.0010) |"
    assert len(rows) == 5  # a D of 256 is another
    assert choice.trained_little(studies, {"bigram": 2.05, "trigram": 1.5}).startswith(
        "Counting alone reaches, on the centre's validation text, 2.0500 with bigrams and 1.5000 with trigrams. Within "
        "0.1 of bigrams, centre, context-32 and width-256: they"
    )
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
    alone = study_of(row(0.01, 0.005, seeds=[0, 1]), [pair(8, 2, 0.02, "worse")], 2, [2])
    assert "same sign" in (told := repeated.checked(studies | {"checked": alone}))
    assert "against H" not in told  # no two head counts that both have
    assert told.endswith("Not compared again: H = 1, 4 and 16.")
    table = published.bottleneck(studies)
    assert "| centre | 128 | 128 | 16 | 8 | 0.062 | H = 1: +0.0500 (+0.0400 … +0.0600) | H = 1: +0.05" in table
    assert "| width-256 | 256 | 128 | 16 | 16 | 0.125 | H = 16: the lowest | H = 1: −0.0200" in table
    assert (
        "the most heads cost more at D = 128; nothing, being the lowest, at D = 128 with T = 32 and D = 256. "
        "At the centre's T, it falls from D = 128 to D = 256, surely; no other two D differ."
    ) in table
    assert "cost less at D = 128 with T = 32; more at D = 128; nothing that is sure at D = 256. At" in table
    assert "the most heads cost" not in published.bottleneck({"context-32": flat, "width-256": wide})
    surely = findings.trends({"centre": study_of(row(-0.001, 0.01), pairs, 1, [1])})
    assert "has no sure trend in centre, where H = 4 and 16 are surely worse than 1 (nats" in surely
    table = published.one_head(studies)
    assert "Both ends are surely worse than a head count in between in no setting." in table
    assert "The fewest heads, against the H with the lowest loss: surely the lowest in centre; the same to" in table
    assert "| centre | 1 | H = 1: surely the lowest | H = 16: +0.0500 (+0.0400 … +0.0600), worse |" in table


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
    assert findings.on_the_way({}) == ""


def test_gains_are_claimed_where_the_interval_leaves_0_out():
    def study(**trends):
        verdicts = {name: {"trend": trend} for name, trend in trends.items()}
        loss = {name: {"16": {"0": 1.25, "1": 1.22}, "4": {"0": 1.5, "1": 1.22}} for name in trends}
        section = {"verdicts": verdicts, "loss": loss, "floor": dict.fromkeys(trends, 1.2)}
        heads = [{"seeds": [0, 1], "final_loss": {"mean": 2.0}}]
        return {"sections": {"relations": section}, "groups": [{"learning_rate": 1e-3, "heads": heads}]}

    said = networks.gains(study(local=row(0.001, 0.002), long_range=row(-0.07, 0.1)))
    assert "not settled (tales-learned, at learning rate 1e-3 for every H, nats" in said
    assert "largest is long-range, −0.0700 (−0.1700 … +0.0300), with 1 of 2 and 2 of 2 runs near its floor at H" in said
    said = networks.gains(study(local=row(0.001, 0.002), long_range=row(-0.07, 0.01)))
    assert "the loss falls for long-range words, −0.0700 (−0.0800 … −0.0600), with 1 of 2 and 2 of 2 runs near" in said
    assert said.endswith("near its floor at H = 4 and 16; not sure for local ones.")
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


@pytest.mark.parametrize("order", [2, 3])
def test_counting_models_are_counted_one_by_one(order):
    generator = np.random.default_rng(0)
    train, val = generator.integers(5, size=400), generator.integers(5, size=50)
    seen = Counter(tuple(train[i : i + order]) for i in range(len(train) - order + 1))
    losses = []
    for i in range(len(val) - order + 1):
        *context, token = val[i : i + order]
        counts = [seen[(*context, other)] + 0.1 for other in range(5)]
        losses.append(-np.log(counts[token] / sum(counts)))
    assert ngram_loss(train, val, 5, order) == pytest.approx(np.mean(losses))
