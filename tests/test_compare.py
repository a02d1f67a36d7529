"""compare.py as a user runs it, from a run folder on disk to tables, figures, report.json and exit status."""

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compare import main
from errors import guard
from tests.analysis.synthetic import write_experiment, write_metrics

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "quick"
    write_experiment(path)
    return path


def compare(*arguments):
    return guard("compare.py", main, [str(a) for a in arguments])


def test_a_folder_gets_its_tables_figures_and_report(folder, capsys):
    assert compare(folder, "--quick") == 0
    told = capsys.readouterr().out
    told = " ".join(told.split())
    assert "H = 4 is better than H = 1 by 0.1990 nats per token (95 % interval 0.1965 … 0.2015, p < 0.001)" in told
    report = json.loads((folder / "report.json").read_text())
    assert report["studies"][0]["groups"][0]["verdict"]["lowest"] == 4
    assert {"figures/loss-by-heads.svg", "figures/loss-curves.svg", "figures/training.svg"} <= set(report["figures"])
    assert "loss" in report["studies"][0]["sections"]
    assert all((folder / figure).is_file() for figure in report["figures"])


def test_planted_effects_come_back_as_sentences(tmp_path, capsys, undrawn):
    """0.01 nats for each doubling of H at 1e-3; at 3e-3, the better rate of each H, the lowest loss is at H = 4."""
    noise = np.random.default_rng(3).normal(0, 0.001, (4, 5))

    def final(run):
        x = math.log2(run.n_head)
        effect = 0.5 + 0.01 * x if run.learning_rate == 1e-3 else 0.01 * (x - 2) ** 2
        return 2 + 0.1 * run.seed + effect + float(noise[run.seed, int(x)])

    path = tmp_path / "planted"
    write_experiment(path, heads=(1, 2, 4, 8, 16), seeds=(0, 1, 2, 3), rates=(1e-3, 3e-3), final=final)
    assert compare(path, "--quick", "--margin", "0.02") == 0
    capsys.readouterr()
    (study,) = json.loads((path / "report.json").read_text())["studies"]
    (answer,) = study["answer"]
    assert answer.startswith("At D = 128 and the learning rate that is best for each H (3e-3 for all), no trend in H")
    assert "It bends upwards (p < 0.001): a parabola in log2 H is lowest near H = 4." in answer
    assert "H = 4 has the lowest, 2.1" in answer
    assert "and every other H is worse" in answer
    assert "The same to within 0.02 nats per token: H = 1 and 16 and H = 2 and 8." in answer
    assert "The best learning rate of every H ends the grid" in answer
    slow = study["groups"][0]
    assert slow["sentences"][0].startswith("At D = 128 and learning rate 1e-3, the final validation loss rises by 0.0")
    trend, curvature = slow["verdict"]["trend"], study["tuned"][0]["verdict"]["curvature"]
    assert trend["low"] < 0.01 < trend["high"]
    assert curvature["low"] < 0.01 < curvature["high"]


def test_json_is_the_report_and_nothing_else_and_out_keeps_the_folder_clean(folder, tmp_path, capsys):
    before = sorted(folder.rglob("*"))
    assert compare(folder, "--quick", "--json", "--out", tmp_path / "new" / "place", "--reference", 1) == 0
    out = capsys.readouterr().out
    assert out == (tmp_path / "new" / "place" / "report.json").read_text()
    assert json.loads(out)["studies"][0]["groups"][0]["verdict"]["reference"] == 1
    assert sorted(folder.rglob("*")) == before


def test_experiments_that_cannot_be_pooled_get_figures_of_their_own(folder, tmp_path, capsys):
    write_experiment(tmp_path / "other", batch_size=7)
    assert compare(folder, tmp_path / "other", "--quick", "--out", tmp_path / "both") == 0
    assert "train.batch_size: 16 and 7" in " ".join(capsys.readouterr().out.split())
    names = {path.name for path in (tmp_path / "both" / "figures").glob("*.svg")}
    assert {"loss-curves.svg", "loss-curves-2.svg"} <= names
    page = (tmp_path / "both" / "report.html").read_text()
    assert "train.batch_size: 16 and 7" in page
    assert "How does it depend on the setting?" in page
    overview = json.loads((tmp_path / "both" / "report.json").read_text())["overview"]
    assert overview["setting"] == "batch size"
    assert [(of["label"], round(of["trend"]["estimate"], 3)) for of in overview["studies"]] == [
        ("7", -0.1),
        ("16", -0.1),
    ]


def test_a_quick_report_replaces_an_earlier_one_whole_and_tables_become_csv(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(folder, "--quick", "--csv", "--out", out) == 0
    assert "tables in tables/" in capsys.readouterr().out
    with open(out / "tables" / "losses.csv") as file:
        head, *rows = csv.reader(file)
    assert head[:3] == ["H", "d_h", "runs"]
    assert [row[0] for row in rows] == ["1", "4"]
    assert len(rows[0]) == len(head)
    assert all("−" not in cell for path in out.glob("tables/*.csv") for cell in path.read_text())
    report = json.loads((out / "report.json").read_text())
    for name in ("figures/heads-of-before.svg", "figures/mine.svg", "tables/old.csv"):
        (out / name).write_text("")
    report["figures"] += ["figures/heads-of-before.svg", "figures/../../outside.svg"]
    report["tables"] += ["tables/old.csv"]
    (out / "report.json").write_text(json.dumps(report))
    (tmp_path / "outside.svg").write_text("")
    assert compare(folder, "--quick", "--out", out) == 0
    said = capsys.readouterr().out
    left = {path.name for path in (out / "figures").iterdir()}
    assert left == {Path(name).name for name in json.loads((out / "report.json").read_text())["figures"]} | {"mine.svg"}
    assert f"{(len(left) - 1) // 2} figures" in said  # a figure in several formats is one
    assert not list(out.glob("tables/*"))
    assert (tmp_path / "outside.svg").exists()


def test_where_every_run_diverged_nothing_useless_is_advised(tmp_path, capsys):
    for number, run in enumerate(write_experiment(tmp_path / "x").runs):
        last = {"iter": 200, "val_loss": None} | ({"diverged": 110} if number else {})  # the first only at the end
        write_metrics(run, [*run.metrics()[:-1], last])
    assert compare(tmp_path / "x") == 0
    out = capsys.readouterr().out
    assert "Every run diverged" in out
    assert "goes on" not in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["no/such/folder"], "no/such/folder"),
        ([], "RUNS"),
        (["x", "--reference", "four"], "--reference"),
        (["x", "--margin", "0"], "--margin"),
        (["x", "--out", __file__], "--out"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(arguments, named, capsys):
    assert compare(*arguments) == 2
    error = capsys.readouterr().err
    assert named in error
    assert len(error.splitlines()) == 1


def test_a_reference_that_was_not_run_is_status_2(folder, capsys):
    assert compare(folder, "--reference", 3) == 2
    assert "it has 1, 4" in capsys.readouterr().err


def test_what_is_missing_is_said_in_the_reports_head_and_not_guessed(tmp_path, capsys):
    """Unfinished, diverged and unstarted runs, a corpus that is not here: words, no traceback and no gap."""
    unfinished, diverged, unstarted, *_ = write_experiment(tmp_path / "x", heads=(1, 4, 8)).runs
    (unfinished.path / "checkpoints" / "iter-000200").rename(unfinished.path / "checkpoints" / "iter-000100")
    write_metrics(diverged, [*diverged.metrics(), {"iter": 200, "val_loss": None, "diverged": 110}])
    shutil.rmtree(unstarted.path)
    assert compare(tmp_path / "x", "--quick") == 0
    page = (tmp_path / "x" / "report.html").read_text()
    head = page[: page.index("</header>")]
    assert f"unfinished, at iteration 100: {unfinished.name}" in head
    assert f"diverged at iteration 110: {diverged.name}" in head
    assert f"not trained: {unstarted.name}" in head


def test_an_experiment_without_a_finished_run_still_gets_its_page(tmp_path, capsys):
    for run in write_experiment(tmp_path / "x").runs:
        (run.path / "checkpoints" / "iter-000200").rename(run.path / "checkpoints" / "iter-000100")
    assert compare(tmp_path / "x") == 0
    assert "No run is finished" in (tmp_path / "x" / "report.html").read_text()
    assert "No run is finished" in capsys.readouterr().out


def test_help_loads_no_library():
    """--help must answer at once; matplotlib, scipy and torch take seconds."""
    code = "import sys, compare\ntry: compare.main(['--help'])\nfinally: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--reference H" in done.stdout
    assert not any(f"'{name}'" in done.stdout for name in ("numpy", "scipy", "matplotlib", "torch", "yaml"))
