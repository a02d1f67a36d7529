"""Lost if these fail: runs that share a seed see different text, or a validation loss that skips or repeats tokens."""

import numpy as np
import pytest

from data.batches import batch, validation_windows

TOKENS = np.arange(1000, dtype=np.uint16)


def test_windows_are_runs_of_the_corpus():
    windows = batch(TOKENS, [0, 1], iteration=3, batch_size=64, block_size=16)
    assert windows.shape == (2, 64, 17)
    assert windows.dtype == np.int64
    assert (np.diff(windows, axis=-1) == 1).all()


def test_a_batch_depends_on_its_seed_and_iteration_alone():
    def draw(seeds, iteration, tokens=TOKENS):
        return batch(tokens, seeds, iteration, batch_size=8, block_size=16)

    assert (draw([5, 7, 5], 2)[[0, 2]] == draw([5], 2)).all()
    assert (draw([7, 5], 2)[1] == draw([5], 2)[0]).all()
    starts = [tuple(draw([seed], iteration)[0, :, 0]) for seed in range(20) for iteration in range(20)]
    assert len(set(starts)) == 400


def test_batches_stay_the_same_in_every_version():
    windows = batch(TOKENS, [0, 2**40], iteration=10, batch_size=3, block_size=8)
    assert windows[:, :, 0].tolist() == [[696, 24, 273], [161, 424, 63]]


def test_offsets_are_uniform_and_reach_both_ends():
    tokens = np.arange(20, dtype=np.uint8)
    starts = batch(tokens, range(100), iteration=0, batch_size=1000, block_size=9)[..., 0].ravel()
    counts = np.bincount(starts, minlength=11)
    assert len(counts) == 11  # offsets 0 … 10: the last window ends with the last token
    expected = 100_000 / 11
    assert ((counts - expected) ** 2 / expected).sum() < 29.6  # chi-squared, 10 degrees of freedom, p = 0.001


@pytest.mark.parametrize("n", [2, 8, 9, 10, 16, 17, 18, 100])
def test_validation_predicts_every_token_but_the_first_once(n):
    tokens = np.arange(1, n + 1, dtype=np.uint16)
    x, y = validation_windows(tokens, 8)
    assert x.shape == y.shape == (-(-(n - 1) // 8), 8)
    assert x.dtype == y.dtype == np.int64
    assert y[y >= 0].tolist() == tokens[1:].tolist()
    assert (y[y >= 0] == x[y >= 0] + 1).all()
    assert (y < 0).sum() == y.size - (n - 1)
    assert (x[y < 0] == 0).all()


def test_relation_codes_fall_on_their_targets():
    tokens = np.arange(100, dtype=np.uint8)
    codes = (tokens % 5).astype(np.uint8)
    _, y = validation_windows(tokens, 16)
    _, relations = validation_windows(codes, 16)
    assert (relations[y >= 0] == y[y >= 0] % 5).all()
    assert (relations[y < 0] == -1).all()
