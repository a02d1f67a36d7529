"""The script that makes the results page: small studies in, a page of their numbers out."""

import json
import sys
from pathlib import Path

import pytest

from experiments import findings, results
from experiments.results import Study
from tests.torture.common import call

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


def test_every_number_of_the_page_is_a_reports(tmp_path, monkeypatch):
    centre = Study(results.TALES | {"sweep.learning_rate": "1e-3,1e-2"}, reduced=SMALL, networks=True)
    short, learned = SMALL | {"train.max_iters": 2}, SMALL | {"sweep.learning_rate": "1e-3"}
    studies = {"centre": centre, "short": Study(centre.changes, reduced=short)}
    studies |= {"tales-learned": Study(centre.changes, reduced=learned, networks=True)}
    monkeypatch.setattr(results, "STUDIES", studies)
    monkeypatch.setattr(results, "run", in_this_process)
    page = tmp_path / "results.md"
    argv = ["--reduced", "--out", str(tmp_path / "out"), "--page", str(page), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["results", *argv])
    results.main()
    rates, _ = results.learning_rates(tmp_path / "out" / "centre")
    assert {1e-3, 1e-2} < rates  # of two rates the best one ends the grid: it was widened
    text, report = page.read_text(), json.loads((tmp_path / "out" / "map" / "report.json").read_text())
    for row in report["overview"]["studies"]:
        assert f"| {row['label']} | {row['trend']['estimate']:+.4f} |" in text
    for study in report["studies"]:
        assert study["answer"][0] in text
    assert (tmp_path / "map.svg").exists()
    for name in ("practice", "relations", "one head", "bottleneck", "removable", "centre", "tales-learned", "machine"):
        part = text.split(f"<!-- {name} -->")[1].split(f"<!-- end of {name} -->")[0]
        assert any(c.isdigit() for c in part), name


def pair(one, other, estimate, verdict):
    return {
        "n_head": one,
        "reference": other,
        "estimate": estimate,
        "low": estimate - 0.01,
        "high": estimate + 0.01,
    } | {"verdict": verdict}


def test_findings_say_what_the_reports_hold():
    trend = {"estimate": 0.01, "low": 0.005, "high": 0.015, "sure": True}
    pairs = [pair(4, 1, 0.02, "worse"), pair(16, 1, 0.05, "worse"), pair(16, 4, 0.03, "open")]
    verdict = {"pairs": pairs, "lowest": 1, "best": [1, 4], "margin": 0.01, "trend": trend}
    study = {"groups": [1], "tuned": [{"verdict": verdict}], "n_embd": 128, "block_size": 128}
    assert findings.difference(verdict, 1, 16)["estimate"] == -0.05
    assert findings.difference(verdict, 1, 16)["verdict"] == "better"
    said = findings.practice({"centre": study, "short": study})
    assert "H = 4 cannot be excluded" in said
    assert "H = 16 against H = 1: +0.0500 (+0.0400 … +0.0600), worse" in said
    assert "rises for sure in centre and short" in said
    assert "centre: 1 of 3 pairs, short: 1 of 3 pairs" in said
    assert "| centre | 128 | 128 | 16 | 8 | 0.062 | +0.0500 |" in findings.bottleneck({"centre": study})
    curve = {"loss": 1.0, "ablated": [0, 1, 2, 3, 4], "cumulative": [1.0, 1.005, 1.009, 1.02, 1.5]}
    assert [findings.within(curve, most) for most in (0.001, 0.01, 0.1, 1)] == [0, 2, 3, 4]
    assert findings.likeness([[1, 0.5, 0.1], [0.5, 1, 0.3], [0.1, 0.3, 1]]) == pytest.approx(0.3)
    run = {"n_head": 4, "left_out": None, "iters": [0, 10, 20], "val_loss_by_relation": {"local": [5.0, 3.1, 2.9]}}
    runs = [run | {"learning_rate": 1e-3}, run | {"learning_rate": 1e-2, "val_loss_by_relation": {"local": [5, 2, 2]}}]
    groups = [
        {"learning_rate": rate, "heads": [{"final_loss": {"mean": mean}}]} for rate, mean in ((1e-3, 2), (1e-2, 3))
    ]
    assert findings.half_learned({"runs": runs, "groups": groups}, "local", 4, {"local": 1.0}) == "20"
