"""What a head is worth: the validation loss without it, alone and together with the heads that matter least.

Silencing a head sets its z to zero at the attention module's named point. Michel et al., Are sixteen heads really
better than one?, NeurIPS 2019. Everything before the silenced layer is computed once.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from model.gpt import GPT

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
    hooks = [
        block.attn.z.register_forward_hook(
            lambda module, inputs, z, layer=layer: z.masked_fill(~active[layer][:, None, None], 0.0)
        )
        for layer, block in enumerate(model.h)
    ]
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
            total += model_loss(model, stream, targets)
        progress(1)
        return total / tokens

    try:
        position = torch.arange(x.shape[1], device=x.device)
        start = [model.wte(part[None]) + model.wpe.weight[:, None, position] for part in x.split(size)]
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
    finally:
        for hook in hooks:
            hook.remove()
    return {
        "loss": whole,
        "alone": alone.tolist(),
        "order": [list(place) for place in order],
        "silenced": counts,
        "cumulative": cumulative,
        "tokens": tokens,
    }


def model_loss(model: GPT, stream: Tensor, targets: Tensor) -> float:
    """Sum of the losses of the last block's output (1, B, T, D) against targets (B, T), nats."""
    logits = model.logits(model.ln_f(stream)).flatten(0, -2).float()
    losses = torch.nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=-1, reduction="none")
    return float(losses.double().sum())
