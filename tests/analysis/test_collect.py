"""Folders as train.py writes them: pooled only where they are comparable, and nothing left out in silence."""

import dataclasses
import math
import shutil

import pytest

from analysis.collect import collect
from errors import InputError
from experiment.config import TrainConfig
from tests.analysis.synthetic import write_experiment, write_metrics


def test_a_run_folder_becomes_curves(tmp_path):
    write_experiment(tmp_path / "x")
    (study,), notes = collect([tmp_path / "x"])
    assert (notes, study.notes) == ([], [])
    assert (study.n_embd, study.n_layer, study.tokens_per_byte, study.parameters) == (128, 4, 0.5, 1000)
    assert [(r.n_head, r.seed) for r in study.runs] == [(h, s) for h in (1, 4) for s in (0, 1, 2)]
    run = study.runs[0]
    assert (run.iters, run.val_loss) == ([0, 200], [6.2, 2.2])
    assert (run.train_iters, run.train_loss) == ([10, 200], [5.0, 5.0])
    assert run.relations == {"local": [6.0, 1.1]}
    assert run.left_out() is None


def test_experiments_of_the_same_settings_are_pooled(tmp_path):
    write_experiment(tmp_path / "x", seeds=(0, 1))
    write_experiment(tmp_path / "y", heads=(4, 8), seeds=(2,), checkpoint_interval=7, learning_rate=3e-4)
    (study,), notes = collect([tmp_path / "x", tmp_path / "y"])
    assert notes == []
    assert (study.name, len(study.runs)) == ("x + y", 6)
    assert {r.learning_rate for r in study.runs} == {1e-3, 3e-4}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 7}, "train.batch_size: 16 and 7"),
        ({"max_iters": 100}, "train.max_iters: 200 and 100"),
        ({"environment": {"data_hash": "b2"}}, "data_hash: a1 and b2"),
        ({"environment": {"data_hash": "0123456789" * 6}}, "data_hash: a1 and 01234567"),
        ({"environment": {"precision": "bf16"}}, "precision: fp32 and bf16"),
    ],
)
def test_experiments_that_differ_are_kept_apart_and_the_keys_are_named(tmp_path, change, named):
    write_experiment(tmp_path / "x")
    write_experiment(tmp_path / "y", **change)
    studies, (note,) = collect([tmp_path / "x", tmp_path / "y"])
    assert [s.name for s in studies] == ["x", "y"]
    assert named in note


def test_studies_of_one_name_are_told_apart_by_their_folders(tmp_path):
    """Two answers under one name are no answer."""
    for place, size in (("small", 8), ("large", 32)):
        write_experiment(tmp_path / place / "q", batch_size=size)
    studies, _ = collect([tmp_path / "small" / "q", tmp_path / "large" / "q"])
    assert [s.name for s in studies] == [f"q ({tmp_path / place / 'q'})" for place in ("small", "large")]
    (tmp_path / "large" / "q").rename(tmp_path / "b")
    studies, _ = collect([tmp_path / "small" / "q", tmp_path / "b"])
    assert [s.name for s in studies] == ["q (q)", "q (b)"]


def test_a_run_that_occurs_twice_counts_once(tmp_path):
    """A copied folder would double the seeds and halve the error bars."""
    write_experiment(tmp_path / "x")
    write_experiment(tmp_path / "copy")
    (study,), _ = collect([tmp_path / "x", tmp_path / "copy"])
    assert len(study.runs) == 6
    assert "the same run as" in study.notes[0]
    (same,), _ = collect([tmp_path / "x", tmp_path / "x" / ".." / "x"])
    assert (len(same.runs), same.notes) == (6, [])


def test_a_whole_run_replaces_the_same_run_unfinished(tmp_path):
    unfinished = write_experiment(tmp_path / "x").runs[0]
    (unfinished.path / "checkpoints" / "iter-000200").rename(unfinished.path / "checkpoints" / "iter-000100")
    write_experiment(tmp_path / "y")
    (study,), _ = collect([tmp_path / "x", tmp_path / "y"])
    assert len(study.runs) == 6
    assert all(run.left_out() is None for run in study.runs)


def test_unfinished_diverged_and_missing_runs_are_named(tmp_path):
    unfinished, diverged, missing, *_ = write_experiment(tmp_path / "x").runs
    (unfinished.path / "checkpoints" / "iter-000200").rename(unfinished.path / "checkpoints" / "iter-000100")
    write_metrics(diverged, [*diverged.metrics(), {"iter": 200, "val_loss": None, "diverged": 110}])
    shutil.rmtree(missing.path / "checkpoints" / "iter-000200")
    (missing.path / "metrics.jsonl").unlink()
    (study,), _ = collect([tmp_path / "x"])
    told = "\n".join(study.notes)
    assert f"unfinished, at iteration 100: {unfinished.name}" in told
    assert f"diverged at iteration 110: {diverged.name}" in told
    assert f"not trained: {missing.name}" in told
    assert math.isnan(study.runs[1].final_loss)
    assert len(study.groups()[1e-3, 0.1]) == 3


def test_settings_name_every_key_of_the_config_that_is_not_swept(tmp_path):
    """A new key that changes what is learned must keep experiments apart without anyone remembering to list it."""
    write_experiment(tmp_path / "x")
    (study,), _ = collect([tmp_path / "x"])
    train = {f"train.{field.name}" for field in dataclasses.fields(TrainConfig)}
    free = {"learning_rate", "weight_decay", "log_interval", "checkpoint_interval", "stack", "precision"}
    assert {k for k in study.settings if k.startswith("train.")} == train - {f"train.{name}" for name in free}


def test_a_folder_that_is_no_experiment_is_the_users_error(tmp_path):
    with pytest.raises(InputError, match="no experiment here"):
        collect([tmp_path])


def test_metrics_of_another_program_are_the_users_error(tmp_path):
    run = write_experiment(tmp_path / "x").runs[0]
    write_metrics(run, [{"step": 1, "val_loss": 2.0}])
    with pytest.raises(InputError, match="a line has no 'iter'"):
        collect([tmp_path / "x"])
