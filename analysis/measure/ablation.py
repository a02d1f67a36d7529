"""How important a head is: the validation loss without it, alone and together with the heads that matter least.

A head is ablated by setting its slice of the concatenated outputs to zero, before W_0 (zero ablation: Michel et al.,
Are sixteen heads really better than one?, NeurIPS 2019). All runs of a stack lose a head in the same pass, each its
own, and what comes before the ablated layer is computed once.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from analysis.measure.stack import windows_at_once
from model.gpt import GPT
from model.hooks import hooks

VERSION = 2
MOST_STEPS = 16
"""Steps from no head ablated to all."""


@torch.no_grad()
def ablate(model: GPT, x: Tensor, y: Tensor, progress: Callable[[int], object] = lambda n: None) -> list[dict]:
    """Loss of each of R runs of equal H over windows x, y (N, T), y = -1 to ignore, with heads ablated; nats a token.

    progress: called with 1 after each loss, `passes` times.

    Returns:
        For each run, loss: with every head. alone [L][H]: how much the loss rises when that head alone is ablated.
        order: [layer, head] from the least important up. ablated: numbers of heads; cumulative: the loss with so many
        of the least important ablated. tokens: that the losses are over.
    """
    n_run, layers, heads = len(model.n_head), len(model.h), model.n_head[0]
    ablated = torch.zeros(layers, n_run, 1, 1, heads, 1, dtype=torch.bool, device=x.device)
    size = windows_at_once(model, x.shape[1])
    parts = [part.expand(n_run, -1, -1) for part in y.split(size)]
    tokens = int((y >= 0).sum())

    def without(layer: int, concat: Tensor) -> Tensor:
        return concat.unflatten(-1, (heads, -1)).masked_fill(ablated[layer], 0.0).flatten(-2)  # (R, B, T, D)

    def loss(streams: Sequence[Tensor], layer: int) -> Tensor:
        """(R,), from the residual streams before `layer`, one tensor (R, B, T, D) a part."""
        total = torch.zeros(n_run, dtype=torch.float64)
        for stream, targets in zip(streams, parts, strict=True):
            for block in model.h[layer:]:
                stream = block(stream)
            total += model.losses(model.ln_f(stream), targets).sum(-1).cpu().double().sum(-1)
        progress(1)
        return total / tokens

    with hooks(model, {f"h.{layer}.attn.concat": partial(without, layer) for layer in range(layers)}):
        start = [model.embed(part.expand(n_run, -1, -1)) for part in x.split(size)]
        whole = loss(start, 0)
        alone, streams = torch.zeros(n_run, layers, heads, dtype=torch.float64), start
        for layer, block in enumerate(model.h):
            for head in range(heads):
                ablated[layer, ..., head, :] = True
                alone[:, layer, head] = loss(streams, layer) - whole
                ablated[layer, ..., head, :] = False
            streams = [block(stream) for stream in streams]
        orders = alone.flatten(1).argsort(stable=True)  # (R, L H)
        counts = steps(layers * heads)
        cumulative = [whole]
        for before, count in pairwise(counts):
            for run, order in enumerate(orders[:, before:count]):
                ablated[order // heads, run, 0, 0, order % heads] = True
            cumulative.append(loss(start, 0))
    return [
        {
            "loss": float(whole[run]),
            "alone": alone[run].tolist(),
            "order": [list(divmod(i, heads)) for i in orders[run].tolist()],
            "ablated": counts,
            "cumulative": [float(losses[run]) for losses in cumulative],
            "tokens": tokens,
        }
        for run in range(n_run)
    ]


def steps(heads: int) -> list[int]:
    """Numbers of heads ablated together, of `heads` in all: from none to all, evenly, at most MOST_STEPS steps."""
    count = min(MOST_STEPS, heads)
    return [round(heads * step / count) for step in range(count + 1)]


def passes(layers: int, heads: int) -> int:
    """Losses that `ablate` takes of a network with so many layers and heads a layer."""
    return layers * heads + len(steps(layers * heads))
