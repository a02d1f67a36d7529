"""Texts from trained networks: where one begins and ends, in tokens and in characters."""

import logging
from collections.abc import Callable, Sequence

from data.tokenizers import END_OF_TEXT, Tokenizer
from errors import InputError
from experiment.sampling import Sampling
from machine import free_bytes
from model.generate import generate
from model.gpt import GPT

log = logging.getLogger("headcount")

STREAM_BYTES = 6000
"""Of a random number generator of PyTorch's, one a sample."""


def continuations(
    model: GPT,
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    sampling: Sampling,
    progress: Callable[[int], object] = lambda n: None,
) -> list[list[list[int]]]:
    """New tokens of each run and sample after `tokens`, up to end-of-text where it came.

    Raises InputError where the texts, their key-value cache, logits and random streams have no room.
    """
    config, device, s = model.config, model.wte.weight.device, sampling
    numbers = 2 * config.n_layer * config.block_size * config.n_embd + 4 * model.vocab_size + 4 * s.max_new_tokens
    needed = s.num_samples * (4 * numbers * len(model.n_head) + STREAM_BYTES)
    if needed > (free := free_bytes(device)):
        raise InputError(
            f"num_samples {s.num_samples} with max_new_tokens {s.max_new_tokens} need about {needed >> 30:,} GiB "
            f"on {device}, which has {free / 2**30:.1f} GiB free; ask for fewer"
        )
    settings = {"seed": s.seed, "temperature": s.temperature or 1.0, "top_k": s.top_k, "top_p": s.top_p}
    drawn = generate(
        model,
        tokens,
        s.num_samples,
        s.max_new_tokens,
        stop=tokenizer.eot,
        greedy=s.certain,
        progress=progress,
        **settings,
    )
    return [[ended(tokenizer, sample) for sample in run] for run in drawn.tolist()]


def ended(tokenizer: Tokenizer, tokens: list[int]) -> list[int]:
    """The tokens up to end-of-text and with it, or all."""
    return tokens[: tokens.index(tokenizer.eot) + 1] if tokenizer.eot in tokens else tokens


def text_of(tokenizer: Tokenizer, tokens: Sequence[int], stop: str | None = None) -> str:
    """The text of a sample: up to end-of-text or `stop`, and never with half a character at its end."""
    tokens = [token for token in tokens if token != tokenizer.eot]
    text = tokenizer.decode(tokens).removesuffix("\ufffd")
    return text.partition(stop)[0] if stop else text


def prompt_tokens(tokenizer: Tokenizer, prompt: str | None, start: Sequence[int]) -> list[int]:
    """Token ids of a prompt; of none, `start`. Raises InputError where the tokenizer does not know a character."""
    if prompt and END_OF_TEXT in prompt:
        log.warning(f"the prompt's {END_OF_TEXT} is plain text here; a text without a prompt starts a document")
    return tokenizer.encode(prompt) if prompt else list(start)


def document_start(tokenizer: Tokenizer, documents: bool = True) -> list[int]:
    """What an unprompted text begins with: end-of-text where documents begin with it, else a line end, else token 0.

    documents: whether there were documents enough in training to learn how one begins.
    """
    if tokenizer.eot is not None and documents:
        return [tokenizer.eot]
    try:
        return tokenizer.encode("\n")
    except InputError:
        return [0]
