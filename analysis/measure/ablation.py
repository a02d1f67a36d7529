"""What a head is worth: the validation loss without it, alone and together with the heads that matter least.

Silencing a head sets its z to zero at the attention module's named point. Michel et al., Are sixteen heads really
better than one?, NeurIPS 2019. Everything before the silenced layer is computed once.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from model.gpt import GPT
from model.hooks import hooks

VERSION = 1
MOST_STEPS = 16
"""Steps from no head silenced to all."""
LOGITS = 2**21
"""Logits held at once: 8 MiB of fp32."""


@torch.no_grad()
def ablate(model: GPT, x: Tensor, y: Tensor, progress: Callable[[int], object] = lambda n: None) -> dict:
    """Loss of a model of one run over windows x, y (N, T), y = -1 to ignore, with heads silenced; nats per token.

    progress: called with 1 after each loss, 1 + the number of heads + at most MOST_STEPS times.

    Returns:
        loss: with every head. alone [L][H]: how much the loss rises when that head alone is silenced.
        order: [layer, head] from the least important up. silenced: numbers of heads; cumulative: the loss with so many
        of the least important silenced. tokens: that the losses are over.
    """
    layers, heads = len(model.h), model.n_head[0]
    active = torch.ones(layers, heads, dtype=torch.bool, device=x.device)

    def ablated(layer: int, concat: Tensor) -> Tensor:
        """(1, B, T, D) with the slices of heads that are not active set to 0."""
        return concat.unflatten(-1, (heads, -1)).masked_fill(~active[layer][:, None], 0.0).flatten(-2)

    model.eval()
    tokens = int((y >= 0).sum())
    size = max(1, LOGITS // (x.shape[1] * model.vocab_size))
    parts = y.split(size)

    def loss(streams: Sequence[Tensor], layer: int) -> float:
        """From the residual stream before `layer`, one tensor (1, B, T, D) a part."""
        total = 0.0
        for stream, targets in zip(streams, parts, strict=True):
            for block in model.h[layer:]:
                stream = block(stream)
            total += float(model.losses(model.ln_f(stream), targets[None]).sum())
        progress(1)
        return total / tokens

    with hooks(model, {f"h.{layer}.attn.concat": partial(ablated, layer) for layer in range(layers)}):
        start = [model.embed(part[None]) for part in x.split(size)]
        whole = loss(start, 0)
        alone, streams = torch.zeros(layers, heads, dtype=torch.float64), start
        for layer, block in enumerate(model.h):
            for head in range(heads):
                active[layer, head] = False
                alone[layer, head] = loss(streams, layer) - whole
                active[layer, head] = True
            streams = [block(stream) for stream in streams]
        order = [divmod(int(i), heads) for i in alone.flatten().argsort(stable=True)]
        steps = min(MOST_STEPS, len(order))
        counts = sorted({round(len(order) * step / steps) for step in range(steps + 1)})
        cumulative = [whole]
        for before, count in pairwise(counts):
            for layer, head in order[before:count]:
                active[layer, head] = False
            cumulative.append(loss(start, 0))
    return {
        "loss": whole,
        "alone": alone.tolist(),
        "order": [list(place) for place in order],
        "silenced": counts,
        "cumulative": cumulative,
        "tokens": tokens,
    }
