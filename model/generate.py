"""Text from R models at once: the same prompt and the same random numbers for every run.

Each sample has its own stream of random numbers, a function of (seed, sample) alone, and every run draws its token from
the same numbers (the Gumbel-max trick: argmax of logits plus Gumbel noise is a draw from softmax(logits); Gumbel 1954,
Maddison et al. 2014). Two runs whose predictions agree therefore write the same word, and what differs between the
texts is what differs between the models.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.gpt import GPT


@torch.no_grad()
def generate(
    model: GPT,
    prompt: Sequence[int],
    num_samples: int,
    max_new_tokens: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    stop: int | None = None,
    use_cache: bool = True,
    progress: Callable[[int], object] = lambda n: None,
) -> Tensor:
    """Continue `prompt` num_samples times with each of the R models.

    When a text outgrows block_size, its last block_size // 2 tokens become the new context (positions are learned, so
    keys cached for one position cannot serve another). A prompt longer than block_size counts by its last tokens.

    Args:
        prompt: at least one token.
        temperature: divides the logits; above 0.
        top_k: only the k likeliest tokens are drawn from.
        top_p: only the likeliest tokens that together reach probability p are drawn from (Holtzman et al. 2020).
        greedy: always the likeliest token; the other settings then do nothing.
        stop: a token after which a text is over; generation ends when every text is. Later places hold `stop`.
        use_cache: keep keys and values of earlier tokens; without it the result is the same and takes longer.
        progress: called with 1 after each token.

    Returns:
        New tokens (R, num_samples, at most max_new_tokens), int64, on the model's device.
    """
    if not prompt:
        raise ValueError("generate needs a prompt of at least one token")
    training = model.training
    model.eval()
    n_run, block_size, device = len(model.n_head), model.config.block_size, model.wte.weight.device
    streams = [torch.Generator().manual_seed(_stream_seed(seed, sample)) for sample in range(num_samples)]
    text = torch.tensor(list(prompt)[-block_size:], device=device).expand(n_run, num_samples, -1)
    start, first_new = 0, text.shape[-1]  # `start`: first token of the present context
    over = torch.zeros(n_run, num_samples, dtype=torch.bool, device=device)
    cache, fresh = None, text
    for _ in range(max_new_tokens):
        if text.shape[-1] - start > block_size:
            start = text.shape[-1] - max(1, block_size // 2)
            cache, fresh = None, text[:, :, start:]
        if use_cache and cache is None:
            cache = model.new_cache()
        hidden = model.hidden(fresh if use_cache else text[:, :, start:], cache)
        logits = model.logits(hidden[:, :, -1:])[:, :, 0].float()  # (R, num_samples, V)
        if greedy:
            token = logits.argmax(-1)
        else:
            token = draw(logits, _gumbel(streams, model.vocab_size, device), temperature, top_k, top_p)
        if stop is not None:
            token = torch.where(over, stop, token)
            over = over | (token == stop)
        fresh = token[:, :, None]
        text = torch.cat([text, fresh], dim=-1)
        progress(1)
        if stop is not None and bool(over.all()):
            break
    model.train(training)
    return text[:, :, first_new:]


def draw(logits: Tensor, gumbel: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Draw a token from softmax(logits / temperature), restricted by top_k and top_p: (…, V), noise (…, V) → (…)."""
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        kth = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p is not None and top_p < 1.0:
        descending, order = logits.sort(dim=-1, descending=True, stable=True)
        probability = descending.softmax(-1)
        beyond = probability.cumsum(-1) - probability >= top_p  # the tokens before already reach p
        logits = logits.masked_fill(beyond.gather(-1, order.argsort(-1)), -math.inf)
    return (logits + gumbel).argmax(-1)


def _stream_seed(seed: int, sample: int) -> int:
    return (seed * 0x9E3779B97F4A7C15 + sample * 0xBF58476D1CE4E5B9) % 2**63


def _gumbel(streams: Sequence[torch.Generator], vocab_size: int, device: torch.device) -> Tensor:
    """(num_samples, V) standard Gumbel noise, row i from stream i: minus the log of exponential draws."""
    rows = [torch.empty(vocab_size).exponential_(generator=stream) for stream in streams]
    return -torch.stack(rows).log().to(device)
