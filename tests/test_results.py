"""The script that makes the results page: small studies in, a page of their numbers out."""

import json
import sys
from pathlib import Path

from experiments import results
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
    wide = Study(results.TALES | {"sweep.learning_rate": "1e-3,1e-2"}, reduced=SMALL)
    monkeypatch.setattr(
        results, "STUDIES", {"wide": wide, "short": Study(wide.changes, reduced=SMALL | {"train.max_iters": 2})}
    )
    monkeypatch.setattr(results, "run", in_this_process)
    page = tmp_path / "results.md"
    argv = ["--reduced", "--out", str(tmp_path / "out"), "--page", str(page), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["results", *argv])
    results.main()
    text, report = page.read_text(), json.loads((tmp_path / "out" / "map" / "report.json").read_text())
    for row in report["overview"]["studies"]:
        assert f"| {row['label']} | {row['trend']['estimate']:+.4f} |" in text
    for study in report["studies"]:
        assert study["answer"][0] in text
    assert (tmp_path / "map.svg").exists()
