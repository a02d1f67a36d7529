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
from analysis.report.words import signed
from experiment.folder import Experiment
from experiments import results
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


def test_every_number_of_the_page_is_a_reports(tmp_path, monkeypatch, capsys, undrawn):
    centre = Study(results.TALES | {"sweep.learning_rate": "1e-3,1e-2"}, reduced=SMALL, networks=True)
    short, learned = SMALL | {"train.max_iters": 2}, SMALL | {"sweep.learning_rate": "1e-3"}
    studies = {"centre": centre, "iterations-200": Study(centre.changes, reduced=short)}
    studies |= {"checked": Study(centre.changes, reduced=learned | {"sweep.seed": "2,3"})}
    studies |= {"elsewhere": Study(centre.changes, reduced=SMALL)}
    studies |= {"tales-learned": Study(centre.changes, reduced=learned | {"train.max_iters": 3}, networks=True)}
    monkeypatch.setattr(results, "STUDIES", studies)
    monkeypatch.setattr(results, "run", in_this_process)
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
    runs = {"runs": [{"seed": 0}, {"seed": 0}, {"seed": 1}]}

    def of(*devices, version="reduced", hours=0.5):
        return {"made": {"version": version, "devices": devices, "commits": ["abc"], "hours": hours}, "study": runs}

    said = machines({"centre": of("one"), "width-32": of("two"), "width-64": of("one")})
    assert said.splitlines() == [
        "- centre and width-64: the reduced version, 2 seeds, 1.0 hours of training on one, commit abc",
        "- width-32: the reduced version, 2 seeds, 0.5 hours of training on two, commit abc",
    ]


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
