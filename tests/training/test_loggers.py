"""Curves in other people's tools: the lines of metrics.jsonl, whatever happens on the way, and no harm to training."""

import pytest

import errors
import train
from experiment.folder import Experiment
from tests.conftest import config_yaml, small_config
from training import loggers
from training.loggers import Loggers
from training.run import train_experiment


def call(capsys, *argv) -> tuple[int, str, str]:
    capsys.readouterr()
    status = errors.guard("train.py", train.main, [str(a) for a in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_has_a_curve_a_run_hyperparameters_and_figures(capsys, config_file, tmp_path):
    path = tmp_path / "x"
    status, out, err = call(capsys, config_file, "--out_dir", path, "--log", "tensorboard")
    assert status == 0, err
    assert "warning" not in out
    for run in Experiment.open(path).runs:
        found = events(path / "tensorboard" / run.name)
        lines = run.metrics()
        curve = [(e.step, e.value) for e in found.Scalars("train_loss")]
        assert curve == [(m["iter"], pytest.approx(m["train_loss"])) for m in lines if "train_loss" in m]
        assert [e.step for e in found.Scalars("val_loss/semantic")] == [0, 6, 12]
        given = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        assert b"model.n_head" in given
        assert b"train.learning_rate" in given
    assert "loss-curves" in events(path / "tensorboard" / "figures").Tags()["images"]
    again = call(capsys, config_file, "--out_dir", path, "--log", "tensorboard")[1]
    assert "all 4 runs are finished; --log shows only what is trained with it" in again
    assert "--log" not in call(capsys, config_file, "--out_dir", path)[1]


def test_tensorboard_after_a_stop_has_each_step_once(tmp_path):
    path = tmp_path / "x"
    train_experiment(small_config(max_iters=12), path, "cpu", Loggers(["tensorboard"]))
    for run in Experiment.open(path).runs:  # as a kill leaves it: logged to step 12, the newest checkpoint is of step 8
        run.checkpoints()[0].rename(tmp_path / run.name)
    log = Loggers(["tensorboard"])
    train_experiment(small_config(max_iters=12), path, "cpu", log)
    log.finish()
    steps = [e.step for e in events(path / "tensorboard" / "h04-seed1").Scalars("train_loss")]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_wandb_offline_keeps_a_run_for_each_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "offline")
    log = Loggers(["wandb"])
    config = small_config(sweep={"n_head": [1, 4], "seed": [0]}, max_iters=2, warmup_iters=0)
    experiment = train_experiment(config, tmp_path / "x", "cpu", log)
    log.finish()
    assert not [r for r in caplog.records if r.name == "headcount" and r.levelname == "WARNING"]
    files = list((experiment.path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    held = b"".join(file.read_bytes() for file in files)
    assert all(name in held for name in (b"h01-seed0", b"h04-seed0", b"val_loss", b"model.n_head"))


class Broken:
    """A tool that fails in the middle."""

    def __init__(self, experiment):
        self.written = 0

    def begin(self, run):
        pass

    def write(self, run, line):
        self.written += 1
        if self.written == 3:
            raise ConnectionError("the tool is gone\nand says so at length")

    def finish(self, pictures):
        raise AssertionError("left out by then")


def test_a_tool_that_fails_warns_once_and_training_goes_on(capsys, config_file, tmp_path, monkeypatch):
    monkeypatch.setitem(loggers.TOOLS, "tensorboard", Broken)
    status, out, err = call(capsys, config_file, "--out_dir", tmp_path / "x", "--log", "tensorboard")
    assert status == 0, err
    assert out.count("warning") == 1
    assert "--log tensorboard failed (ConnectionError: the tool is gone); training goes on without it" in out
    assert all(run.finished for run in Experiment.open(tmp_path / "x").runs)


def test_a_missing_tool_and_an_unknown_one_are_named_before_training(capsys, tmp_path, monkeypatch):
    file = tmp_path / "c.yaml"
    file.write_text(config_yaml(small_config()))
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    status, _, err = call(capsys, file, "--out_dir", tmp_path / "x", "--log", "wandb")
    assert status == 2
    assert "--log wandb: not installed; .venv/bin/pip install -r requirements-extras.txt" in err
    status, _, err = call(capsys, file, "--out_dir", tmp_path / "x", "--log", "tensorbored")
    assert status == 2
    assert "--log tensorbored: unknown; use tensorboard or wandb" in err
    assert not (tmp_path / "x").exists()
