"""How much memory a run's training takes, and how it is known that there was not enough."""

import torch

from experiment.config import Config


def bytes_of_a_run(config: Config, vocab_size: int, n_head: int) -> int:
    """Peak bytes of training one run with n_head heads, by arithmetic: a little more than what was measured.

    Weight, gradient and AdamW's two moments take 16 bytes a parameter, a copy in bf16 two more. A forward pass keeps
    for the backward pass, in numbers a token: of each layer 20 D (norms, q, k, v, the heads' output, both sides of the
    GELU); where patterns are held H T, with dropout two more and three masks of D; and the logits three times. While a
    pattern is made or dropped from, a few more lie beside it.
    """
    model, tokens = config.model, config.train.batch_size * config.model.block_size
    width = model.n_embd
    parameters = model.n_layer * (12 * width + 13) * width + (vocab_size + model.block_size + 2) * width
    dropping = model.dropout > 0
    a_layer, beside = (20 + 3 * dropping) * width, 0
    if model.attention != "sdpa" or dropping:
        pattern = n_head * model.block_size
        a_layer, beside = a_layer + (3 if dropping else 1) * pattern, (6 if dropping else 2) * pattern
    a_token = model.n_layer * a_layer + beside + 12 * width + 3 * vocab_size
    return 18 * parameters + 4 * tokens * a_token


def out_of_memory(error: Exception) -> bool:
    """Whether the device or the CPU's allocator had no room, which PyTorch says in several ways."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
