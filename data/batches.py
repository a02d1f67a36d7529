"""Tokens to batches.

The one idea: a training batch is a function of (seed, iteration) alone. A counter-based generator (Philox4x64-10;
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) is keyed with the seed and set to the iteration,
so a run sees the same text whatever trains beside it, and goes on after an interruption with no state to restore.
"""

from collections.abc import Sequence

import numpy as np


def batch(tokens: np.ndarray, seeds: Sequence[int], iteration: int, batch_size: int, block_size: int) -> np.ndarray:
    """Windows of `tokens` at uniformly random places, int64 (S, B, T+1): inputs are [..., :-1] and targets [..., 1:].

    tokens (N,), any integer type, N > block_size; S = len(seeds), B = batch_size, T = block_size.
    Row s depends on (seeds[s], iteration) and on nothing else that is drawn.
    """
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), block_size + 1)  # (N - T, T+1), no copy
    return windows[offsets(seeds, iteration, batch_size, len(windows))].astype(np.int64)


def offsets(seeds: Sequence[int], iteration: int, batch_size: int, n: int) -> np.ndarray:
    """Uniform integers in [0, n), int64 (S, B). Raw Philox output, whose stream NumPy keeps the same for ever.

    The iteration is the highest of the counter's four words, and draws step the lowest: no two iterations overlap.
    Taking the remainder favours some offsets by less than n / 2**64.
    """
    raw = [np.random.Philox(key=seed % 2**64, counter=[0, 0, 0, iteration]).random_raw(batch_size) for seed in seeds]
    return (np.stack(raw) % np.uint64(n)).astype(np.int64)


def validation_windows(tokens: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut `tokens` (N,) into windows that predict every token but the first exactly once: x, y, both int64 (M, T).

    y[i, t] follows x[i, t]; M = ceil((N - 1) / T). The rest of the last window is padded with x = 0 and y = -1, a
    target to ignore. Given `Dataset.val_relations` in place of tokens, y holds the relation codes of the same targets.
    """
    n = len(tokens) - 1
    m = -(-n // block_size)
    x, y = np.zeros(m * block_size, dtype=np.int64), np.full(m * block_size, -1, dtype=np.int64)
    x[:n], y[:n] = tokens[:-1], tokens[1:]
    return x.reshape(m, block_size), y.reshape(m, block_size)
