"""An experiment takes more seeds, head counts and rates; what is trained keeps its bytes; refusals leave no trace."""

import shutil
import subprocess
from pathlib import Path

import pytest

from errors import InputError, WorkError
from experiment.folder import Experiment
from files import sha256
from tests.conftest import small_config
from training import record
from training import run as run_module
from training.loop import Stack
from training.run import train_experiment

QUICK = {"max_iters": 4, "checkpoint_interval": 2, "eval_interval": 4, "warmup_iters": 2}


def train(path: Path, model=None, sweep=None, data=None, **changes) -> Experiment:
    return train_experiment(small_config(model, sweep, data, **QUICK | changes), path, "cpu")


def files(path: Path) -> dict[str, str]:
    """Checksums of everything below a folder."""
    return {str(file.relative_to(path)): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}


def of_runs(path: Path, *names: str) -> dict[str, str]:
    return {name: digest for name, digest in files(path).items() if name.startswith(names)}


def weights(path: Path) -> dict[str, str]:
    return {name: digest for name, digest in files(path).items() if name.endswith("model.safetensors")}


FIRST = {"n_head": [1, 4], "seed": [0, 1]}
MORE = {"n_head": [1, 2, 4], "seed": [0, 1, 2]}


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> tuple[Path, dict]:
    """Two head counts and seeds, then three of both; and the checksums of the first four runs before that."""
    path = tmp_path_factory.mktemp("grown") / "x"
    train(path, sweep=FIRST)
    before = of_runs(path, "h0")
    train(path, sweep=MORE)
    return path, before


def test_more_seeds_and_head_counts_train_only_what_is_missing(grown):
    path, before = grown
    experiment = Experiment.open(path)
    assert len(experiment.runs) == 9
    assert all(run.finished for run in experiment.runs)
    after = files(path)
    assert {name: after[name] for name in before} == before
    first, second = experiment.environment["starts"]
    assert first["added"] == ["h01-seed0", "h01-seed1", "h04-seed0", "h04-seed1"]
    assert second["added"] == ["h01-seed2", "h02-seed0", "h02-seed1", "h02-seed2", "h04-seed2"]


def test_a_killed_extension_goes_on_to_the_same_bits(grown, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(self, iteration):
        if iteration == 3:
            raise Killed
        step(self, iteration)

    path, _ = grown
    train(tmp_path / "x", sweep=FIRST)
    step = Stack.step
    with monkeypatch.context() as patched:
        patched.setattr(Stack, "step", killed)
        with pytest.raises(Killed):
            train(tmp_path / "x", sweep=MORE)
    assert not all(run.finished for run in Experiment.open(tmp_path / "x").runs)
    train(tmp_path / "x", sweep=MORE)
    assert weights(tmp_path / "x") == weights(path)


def test_values_taken_away_leave_their_runs_alone_and_are_named(grown, caplog):
    path, _ = grown
    before = of_runs(path, "h0")
    train(path, sweep={"n_head": [2], "seed": [0]})
    assert caplog.messages[-1] == f"{path}: all 1 runs are finished"
    assert "not asked for, and left as they are: h01-seed0, h01-seed1" in caplog.messages[-2]
    assert of_runs(path, "h0") == before
    assert len(Experiment.open(path).runs) == 9


def test_a_rate_is_added_to_runs_that_were_trained_at_one(tmp_path):
    train(tmp_path / "x", sweep={"n_head": [2], "seed": [0]})
    before = of_runs(tmp_path / "x", "h02-seed0/")
    experiment = train(tmp_path / "x", sweep={"n_head": [2], "seed": [0], "learning_rate": [3e-3, 1e-2]})
    assert [(run.name, run.learning_rate) for run in experiment.runs] == [
        ("h02-seed0", 3e-3),  # as it is
        ("h02-seed0-lr0.01", 1e-2),
    ]
    assert of_runs(tmp_path / "x", "h02-seed0/") == before
    assert all(run.finished for run in Experiment.open(tmp_path / "x").runs)


def test_anything_else_that_shapes_a_run_stays_an_error_and_changes_nothing(grown):
    path, _ = grown
    before = files(path)
    for changes, named in (
        ({"max_iters": 5}, r"train\.max_iters: 4 → 5"),
        ({"model": {"n_layer": 2}, "sweep": {"seed": [7]}}, r"model\.n_layer: 1 → 2"),
        ({"learning_rate": 1e-2}, r"train\.learning_rate: 0\.003 → 0\.01[^;]*; --sweep.learning_rate adds"),
        ({"min_lr": 1e-5}, r"train\.min_lr: null → 1e-05"),
    ):
        with pytest.raises(InputError, match=named):
            train(path, **{"sweep": MORE} | changes)
    assert files(path) == before


def test_checkpoints_without_a_config_are_not_taken_for_a_new_folder(grown, tmp_path):
    shutil.copytree(grown[0], tmp_path / "x")
    (tmp_path / "x" / "config.yaml").unlink()
    before = files(tmp_path / "x")
    with pytest.raises(InputError, match=r"checkpoints and no config\.yaml"):
        train(tmp_path / "x", sweep={"n_head": [2], "seed": [0]})
    assert files(tmp_path / "x") == before


def test_a_refused_corpus_leaves_the_config_as_it_was(tmp_path):
    for name, text in (("a", "to be or not to be, that is the question. "), ("b", "all the world's a stage. ")):
        (tmp_path / f"{name}.txt").write_text(text * 60)
    corpus = {"source": "text", "path": str(tmp_path / "a.txt"), "tokenizer": "char"}
    train(tmp_path / "x", data=corpus)
    before = files(tmp_path / "x")
    with pytest.raises(InputError, match="the corpus has changed"):
        train(tmp_path / "x", data=corpus | {"path": str(tmp_path / "b.txt")})
    assert files(tmp_path / "x") == before


def test_a_config_refused_for_memory_leaves_no_folder(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "free_bytes", lambda device: 1)
        with pytest.raises(WorkError, match=r"lower train\.batch_size"):
            train(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    train(tmp_path / "x", batch_size=2)


def test_a_folder_without_a_checkpoint_takes_a_new_config(tmp_path, monkeypatch):
    def stopped(self, iteration):
        raise InputError("stopped before the first checkpoint")

    with monkeypatch.context() as patched:
        patched.setattr(Stack, "step", stopped)
        with pytest.raises(InputError, match="stopped"):
            train(tmp_path / "x", sweep={"n_head": [8], "seed": [5]}, data={"vocab_size": 280})
    experiment = train(tmp_path / "x")
    assert all(run.finished for run in experiment.runs)
    assert not (tmp_path / "x" / "h08-seed5").exists()
    assert len(experiment.environment["starts"]) == 1
    assert Experiment.open(tmp_path / "x").config == small_config(**QUICK)


def test_a_commit_is_marked_where_what_shapes_runs_was_changed(tmp_path, monkeypatch):
    """A page of results that was written into the checkout changes nothing of the runs after it."""
    monkeypatch.setattr(record, "__file__", str(tmp_path / "training" / "record.py"))
    assert record.commit() is None
    for name in ("train.py", "docs/results.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    author = ["-c", "user.name=x", "-c", "user.email=x"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clean = record.commit()
    (tmp_path / "docs" / "results.md").write_text("after")
    assert record.commit() == clean
    (tmp_path / "train.py").write_text("after")
    assert record.commit() == f"{clean}+"
