"""Seeds are added until the head counts are settled; what a look settles stays so, and a kill changes nothing."""

import logging
import math

import numpy as np
import pytest

from analysis.settle import settle
from errors import InputError
from experiment.config import Config, SweepConfig, TrainConfig
from experiment.folder import Experiment
from files import write_checked
from tests.analysis.synthetic import ENVIRONMENT, write_metrics


def made_up(path, loss, **sweep):
    """A config, and a `train` that writes runs whose losses are loss(run, noise); with the seeds of each call."""
    config = Config(name="x", sweep=SweepConfig(**{"n_head": [1, 2, 4]} | sweep), train=TrainConfig(max_iters=200))
    rounds = []

    def train(config: Config) -> Experiment:
        rounds.append(list(config.sweep.seed))
        experiment = Experiment.create(path, config)
        start = {"added": [run.name for run in experiment.runs], "stack_size": 100}
        write_checked(path / "environment.json", ENVIRONMENT | {"starts": [start]})
        for run in experiment.runs:
            (run.path / "checkpoints" / "iter-000200").mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([run.n_head, run.seed]).normal()
            line = {"iter": 200, "tokens": 10, "seconds": 90.0}
            if (effect := loss(run, noise)) is None:
                line["diverged"] = 3
            else:
                line["val_loss"] = 2 + 0.1 * run.seed + effect
            write_metrics(run, [line])
        return experiment

    return config, train, rounds


@pytest.fixture(autouse=True)
def _shown(caplog):
    caplog.set_level(logging.INFO, "headcount")


def test_clear_differences_are_settled_in_the_first_round(tmp_path, caplog):
    config, train, rounds = made_up(tmp_path / "x", lambda run, noise: 0.1 * run.n_head + 0.002 * noise, seed=[0, 1, 2])
    settle(config, train)
    assert rounds == [[0, 1, 2]]
    assert "H=4 is worse" in caplog.text
    assert "settled: 3 of 3 pairs" in caplog.text


def test_equal_head_counts_take_seeds_until_they_are_the_same_to_within_the_margin(tmp_path, caplog):
    config, train, rounds = made_up(tmp_path / "x", lambda run, noise: 0.006 * noise, seed=[7, 3])
    settle(config, train, most=30)
    assert rounds[0] == [7, 3]
    assert rounds[1][:3] == [7, 3, 0]  # the config's seeds, then the smallest others
    assert 1 < len(rounds) < 8
    assert "the same" in caplog.text
    assert "all is settled to within 0.01 nats per token" in caplog.messages[-1]
    assert "about 01:" in caplog.text  # 90 s for all runs of the last addition


def test_what_cannot_be_settled_stops_at_the_most_seeds_and_says_what_would_do(tmp_path, caplog):
    config, train, rounds = made_up(tmp_path / "x", lambda run, noise: 0.1 * noise)
    settle(config, train, most=5)
    assert [len(seeds) for seeds in rounds] == [2, 3, 5]
    assert "not settled with 5 seeds, the most that --max_seeds allows" in caplog.text
    assert "seeds would do" in caplog.messages[-1] or "too close" in caplog.messages[-1]


def test_a_pair_that_a_look_settled_stays_settled(tmp_path, caplog):
    def loss(run, noise):
        late = 5.0 * noise if run.seed >= 3 and run.n_head == 1 else 0.0
        return (0.5 if run.n_head == 1 else 0.0) + late + (0.002 if run.n_head == 1 else 0.02) * noise

    config, train, rounds = made_up(tmp_path / "x", loss, seed=[0, 1, 2])
    settle(config, train, most=7)
    assert len(rounds) > 1
    first, *later = (message for message in caplog.messages if message.startswith("\nround"))
    sure = next(line for line in first.splitlines() if line.startswith((" H=2 − H=1", "H=2 − H=1")))
    assert "better" in sure
    assert all(sure.split() in [line.split() for line in message.splitlines()] for message in later)


def test_the_same_command_again_makes_the_same_looks(tmp_path, caplog):
    config, train, _ = made_up(tmp_path / "x", lambda run, noise: 0.006 * noise)
    settle(config, train, most=30)
    said = list(caplog.messages)
    caplog.clear()
    seen = []

    def trained(config: Config) -> Experiment:  # the folder holds the seeds of all looks by now
        seen.append(len(config.sweep.seed))
        return Experiment.open(tmp_path / "x")

    settle(config, trained, most=30)
    assert [m for m in caplog.messages if "next:" not in m] == [m for m in said if "next:" not in m]
    assert len(seen) > 1


def test_with_several_rates_each_head_count_is_compared_at_its_best(tmp_path, caplog):
    def loss(run, noise):  # at either rate alone H looks important; at its own, each is as good
        return 0.2 * ((run.n_head == 1) == (run.learning_rate == 1e-2)) + 0.001 * noise

    rates = {"n_head": [1, 4], "learning_rate": [1e-3, 1e-2], "seed": [0, 1, 2, 3]}
    config, train, _ = made_up(tmp_path / "x", loss, **rates)
    settle(config, train)
    assert "the same" in caplog.text
    assert "worse" not in caplog.text


@pytest.mark.parametrize(("heads", "pairs"), [([1, 16], "0 of 0"), ([1, 4, 16], "1 of 1")])
def test_a_head_count_whose_runs_diverged_is_not_called_settled(tmp_path, caplog, heads, pairs):
    def loss(run, noise):
        return None if run.n_head == 16 else 0.1 * run.n_head + 0.001 * noise

    config, train, _ = made_up(tmp_path / "x", loss, n_head=heads, seed=[0, 1, 2])
    settle(config, train)
    assert f"settled: {pairs} pairs" in caplog.text
    assert "not compared, as runs of theirs diverged: H = 16" in caplog.messages
    assert "all is settled" not in caplog.text


def test_a_head_count_with_one_seed_that_ended_waits_for_more(tmp_path, caplog):
    def loss(run, noise):
        return None if run.n_head == 16 and run.seed == 0 else 0.1 * run.n_head + 0.001 * noise

    config, train, rounds = made_up(tmp_path / "x", loss, n_head=[1, 4, 16], learning_rate=[1e-3, 1e-2])
    settle(config, train, most=5)
    assert len(rounds) > 1
    assert "settled: 1 of 3 pairs; not settled: H = 16 and H = 1, H = 16 and H = 4" in caplog.messages
    assert "H=16 is worse" in caplog.text
    assert "not compared" not in caplog.text


def test_rates_that_each_lost_a_seed_and_a_weight_decay_that_lost_all_are_named(tmp_path, caplog):
    def loss(run, noise):
        late = run.learning_rate == 1e-2
        lost = run.weight_decay == 1 or (run.n_head == 16 and run.seed == int(late))
        return None if lost else 0.1 * run.n_head + 0.001 * noise

    sweep = {"n_head": [1, 4, 16], "learning_rate": [1e-3, 1e-2], "weight_decay": [0.1, 1.0], "seed": [0, 1, 2]}
    config, train, rounds = made_up(tmp_path / "x", loss, **sweep)
    settle(config, train)
    told = "H = 16 at weight decay 0.1; H = 1, 4 and 16 at weight decay 1"
    assert f"not compared, as runs of theirs diverged: {told}" in caplog.messages
    assert len(rounds) == 1


def test_where_every_run_diverged_it_is_said(tmp_path):
    config, train, _ = made_up(tmp_path / "x", lambda run, noise: None)
    with pytest.raises(InputError, match="every one diverged"):
        settle(config, train)


@pytest.mark.parametrize(
    ("sweep", "margin", "most", "named"),
    [
        ({"n_head": [4]}, 0.01, 16, "there is one"),
        ({"seed": [0, 1, 2]}, 0.01, 2, "--max_seeds 2"),
        ({}, 0.0, 16, "--settle 0"),
        ({}, math.nan, 16, "--settle nan"),
        ({}, math.inf, 16, "--settle inf"),
        ({}, 0.01, 0, "--max_seeds 0"),
    ],
)
def test_what_cannot_be_settled_at_all_is_refused_before_training(tmp_path, sweep, margin, most, named):
    config, train, rounds = made_up(tmp_path / "x", lambda run, noise: 0.0, **sweep)
    with pytest.raises(InputError, match=named):
        settle(config, train, margin, most)
    assert not rounds
