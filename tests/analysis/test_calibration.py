"""Real A/A data: networks that differ in nothing but the seed must not be told apart more often than the level says."""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import compare
from tests.conftest import small_config
from training.run import train_experiment

TRIALS, SEEDS = 500, 16


@pytest.fixture(scope="module")
def losses(tmp_path_factory) -> np.ndarray:
    """Final validation losses of SEEDS runs of one head count, trained as one stack."""
    config = small_config(
        sweep={"n_head": [4], "seed": list(range(SEEDS))},
        model={"n_embd": 16, "block_size": 16},
        max_iters=30,
        eval_interval=30,
        checkpoint_interval=30,
    )
    experiment = train_experiment(config, tmp_path_factory.mktemp("calibration") / "aa", "cpu")
    return np.array([run.metrics()[-1]["val_loss"] for run in experiment.runs])


def split(losses, groups, effect=0.0):
    """Random splits of the seeds into so many equal groups; the first is worse by `effect`."""
    generator = np.random.default_rng(11)
    for _ in range(TRIALS):
        parts = generator.permutation(losses).reshape(groups, -1).copy()
        parts[0] += effect
        yield compare({2**h: dict(enumerate(part.tolist())) for h, part in enumerate(parts)})


@pytest.mark.parametrize("groups", [2, 4])
def test_seeds_split_at_random_are_called_different_in_at_most_five_percent_of_trials(losses, groups):
    assert losses.std() > 0
    found = sum(any(test.sign for test in verdict.tests) for verdict in split(losses, groups))
    assert found <= stats.binom.interval(0.999, TRIALS, 0.05)[1]


def test_a_known_effect_is_covered_by_the_interval_in_95_percent_of_trials(losses):
    effect, covered = 10 * losses.std(), 0
    for verdict in split(losses, 2, effect):
        (pair,) = verdict.pairs
        assert verdict.lowest == 2
        covered += pair.low <= -effect <= pair.high
    assert covered >= stats.binom.interval(0.999, TRIALS, 0.95)[0]
