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
        progress: called with 1 after each token.

    Returns:
        New tokens (R, num_samples, at most max_new_tokens), int64, on the model's device.
    """
    if not prompt:
        raise ValueError("generate needs a prompt of at least one token")
    training = model.training
    model.eval()
    n_run, block_size, device = len(model.n_head), model.config.block_size, model.wte.weight.device
    prompt = torch.tensor(list(prompt)[-block_size:], device=device)
    text = prompt.new_empty(n_run, num_samples, len(prompt) + max_new_tokens)
    text[:, :, : len(prompt)] = prompt
    start, end = 0, len(prompt)  # of the present context
    over = torch.zeros(n_run, num_samples, dtype=torch.bool, device=device)
    gumbel = Gumbel(seed, num_samples, model.vocab_size, device)
    step = NextToken(model)
    for _ in range(max_new_tokens):
        if end - start > block_size:
            start = end - max(1, block_size // 2)
        logits = step(text[:, :, start:end], start)
        token = logits.argmax(-1) if greedy else draw(logits.float(), gumbel(), temperature, top_k, top_p)
        if stop is not None:
            token = torch.where(over, stop, token)
            over = over | (token == stop)
        text[:, :, end] = token
        end += 1
        progress(1)
        if stop is not None and bool(over.all()):
            break
    model.train(training)
    return text[:, :, len(prompt) : end]


class NextToken:
    """Logits of the next token, from a key-value cache of the context; on a GPU one graph of all kernels a token."""

    def __init__(self, model: GPT):
        self.model, self.cache = model, model.new_cache()
        self.start = -1  # where in the text the context begins whose tokens the cache holds
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, context: Tensor, start: int) -> Tensor:
        """The context (R, B, T) that begins at `start` → logits after it, (R, B, V).

        Within one start, each call's context has one token more than the call before.
        """
        if start != self.start:
            self.start = start
            for layer in self.cache:
                layer.clear()
            return self.compute(context)
        token = context[:, :, -1:]
        if token.device.type != "cuda":
            return self.compute(token)
        if self.graph is None:
            self.capture(token)
        self.token.copy_(token)
        self.graph.replay()
        return self.next_logits

    def compute(self, tokens: Tensor) -> Tensor:
        return self.model.logits(self.model.hidden(tokens, self.cache)[:, :, -1:])[:, :, 0]

    def capture(self, token: Tensor) -> None:
        """Record `compute`, after running it once off the default stream, as a graph needs it; then take that back."""
        self.token, stream = token.clone(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.compute(self.token)
        torch.cuda.current_stream().wait_stream(stream)
        for layer in self.cache:
            layer.position -= 1  # what was held there is held again
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.next_logits = self.compute(self.token)


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


class Gumbel:
    """Standard Gumbel noise (num_samples, V) a call: minus the log of exponential draws, each sample's from its stream.

    Drawn for as many calls at once as fit into DRAWS numbers, on the CPU, so that every device gets the same.
    """

    DRAWS = 2**14

    def __init__(self, seed: int, num_samples: int, vocab_size: int, device: torch.device):
        seeds = [(seed * 0x9E3779B97F4A7C15 + i * 0xBF58476D1CE4E5B9) % 2**63 for i in range(num_samples)]
        self.streams = [torch.Generator().manual_seed(each) for each in seeds]
        self.shape, self.device = (max(1, self.DRAWS // vocab_size), vocab_size), device
        self.left: list[Tensor] = []

    def __call__(self) -> Tensor:
        if not self.left:
            rows = [torch.empty(self.shape).exponential_(generator=stream) for stream in self.streams]
            self.left = list((-torch.stack(rows, 1).log()).to(self.device).flip(0))
        return self.left.pop()
