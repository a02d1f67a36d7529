"""Shared by the tests: a cache folder of their own, one thread (the models are tiny), and one small trained sweep."""

import dataclasses
import logging
import os
import tempfile
from pathlib import Path

import pytest
import torch

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the one of the process that started them
    os.environ["HEADCOUNT_CACHE"] = tempfile.mkdtemp(prefix="headcount-test-cache-")
torch.set_num_threads(1)

from analysis.measure import cost, measurements, relations  # noqa: E402
from analysis.report import figures  # noqa: E402
from data.config import DataConfig  # noqa: E402
from experiment.config import Config, SweepConfig, TrainConfig  # noqa: E402
from experiment.folder import Experiment  # noqa: E402
from model.config import ModelConfig  # noqa: E402
from training.run import train_experiment  # noqa: E402


def small_config(model=None, sweep=None, data=None, **train) -> Config:
    """A sweep that trains in a second or two; arguments change single values."""
    return Config(
        name="small",
        model=ModelConfig(**{"n_layer": 1, "n_embd": 32, "block_size": 32} | (model or {})),
        sweep=SweepConfig(**{"n_head": [1, 4], "seed": [0, 1]} | (sweep or {})),
        data=DataConfig(**{"vocab_size": 300, "n_stories": 80, "val_fraction": 0.05} | (data or {})),
        train=TrainConfig(
            **{
                "max_iters": 12,
                "batch_size": 4,
                "warmup_iters": 3,
                "learning_rate": 3e-3,
                "eval_interval": 6,
                "log_interval": 2,
                "checkpoint_interval": 4,
                "precision": "fp32",  # references are; "auto" is what this machine is faster in
            }
            | train
        ),
    )


@pytest.fixture(autouse=True)
def messages(caplog) -> None:
    """What is said is collected (caplog.messages), and no program's handler outlives its test."""
    caplog.set_level(logging.INFO, "headcount")
    yield
    logging.getLogger("headcount").handlers.clear()


def make_reports_cheap(patch: pytest.MonkeyPatch) -> None:
    """Figures of a report are drawn for the screen, costs measured once: tests look at what is there, not how fine."""
    patch.delitem(figures.FORMATS, "pdf")
    patch.setitem(figures.STYLE, "savefig.dpi", 50)
    patch.setattr(cost, "ROUNDS", 1)
    patch.setattr(cost, "SECONDS", 0)
    patch.setattr(relations, "PAIRS", 8)
    patch.setattr(measurements, "SCORED", 4)


@pytest.fixture(autouse=True)
def cheap_reports(monkeypatch) -> None:
    make_reports_cheap(monkeypatch)


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Figures are empty pictures, where a test is of something else: drawing is most of a report's time."""
    nothing = {"svg": b'<svg width="9pt" height="9pt" viewBox="0 0 9 9"></svg>', "png": b""}
    monkeypatch.setattr("analysis.report.page.render", lambda picture, title: nothing)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Experiment:
    """A small sweep over tales, trained to the end: H in 1, 4 and seeds 0, 1. Not to be changed."""
    return train_experiment(small_config(), tmp_path_factory.mktemp("trained") / "small", "cpu")


def config_yaml(config: Config) -> str:
    import yaml

    return yaml.safe_dump(dataclasses.asdict(config))


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """The small config as a YAML file."""
    path = tmp_path / "small.yaml"
    path.write_text(config_yaml(small_config()))
    return path
