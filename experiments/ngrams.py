"""What a model that only counts reaches on the same text: it says how far the training of a study came."""

import numpy as np

SMOOTHING = 0.1
"""Added to every count, so that nothing has probability 0."""


def ngram_loss(train: np.ndarray, val: np.ndarray, vocab_size: int, order: int) -> float:
    """Mean loss of val, nats a token, by counts in train of each token after the order - 1 before it (add-k smoothing).

    Holds vocab_size ** order counts: for characters, and small orders.
    """
    seen, asked = (np.lib.stride_tricks.sliding_window_view(split.astype(np.int64), order) for split in (train, val))
    place = vocab_size ** np.arange(order)[::-1]  # a window as one number, its last token the lowest digit
    counts = np.bincount(seen @ place, minlength=vocab_size**order) + SMOOTHING
    shares = counts / counts.reshape(-1, vocab_size).sum(1).repeat(vocab_size)
    return float(-np.log(shares[asked @ place]).mean())
