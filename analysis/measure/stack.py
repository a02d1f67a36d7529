"""How much of a text goes through a stack of runs at once, so that memory stays flat and a CPU's cache is used."""

from model.gpt import GPT

LARGEST_TENSOR = {"cpu": 2**20, "cuda": 2**27}
"""Elements of the largest tensor: what stays in a CPU's cache, and what fills a GPU."""


def windows_at_once(model: GPT, length: int, features: int | None = None) -> int:
    """Windows of `length` tokens whose largest tensor holds no more than LARGEST_TENSOR.

    features: of a token of one run in that tensor; None: the wider of the logits and the MLP.
    """
    features = features or max(model.vocab_size, 4 * model.config.n_embd)
    largest = LARGEST_TENSOR.get(model.wte.weight.device.type, 2**24)
    return max(1, largest // (len(model.n_head) * length * features))
