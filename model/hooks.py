"""Looking inside a network and intervening: one mechanism for --describe, head measures, ablation and the viewer.

    with hooks(model, {"h.0.attn.pattern": print}):
        model(tokens)

A name is that of a submodule ("wte", "h.0.mlp", "ln_f"); those of attention are "h.{layer}.attn." and one of
model.attention.HOOK_POINTS (the idea and the names are TransformerLens').
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from model.attention import HOOK_POINTS
from model.gpt import GPT

EVERYWHERE = ("concat", "out")
"""Hook points that every attention implementation passes."""


@contextmanager
def hooks(model: GPT, functions: Mapping[str, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
    """While it lasts, each function sees the output of the submodule of its name and may return another in its place.

    Attention's points up to z are passed once for every group of runs of equal H, in order.

    Raises:
        ValueError: the model's attention is a fused one, which does not pass such a point.
    """
    for name in functions:
        point = name.rpartition(".")[2]
        if (
            ".attn." in name
            and point in HOOK_POINTS
            and point not in EVERYWHERE
            and model.kernels.attention is not None
        ):
            raise ValueError(f"{name} is passed by eager attention only: build the model with attention='eager'")
    handles = []
    try:
        for name, function in functions.items():
            module = model.get_submodule(name)
            handles.append(module.register_forward_hook(lambda _m, _i, output, function=function: function(output)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def hook_names(model: GPT, points: Sequence[str] = HOOK_POINTS) -> list[str]:
    """The names of these points of attention in every layer."""
    return [f"h.{layer}.attn.{point}" for layer in range(len(model.h)) for point in points]


def run_with_cache(model: GPT, tokens: Tensor, names: Sequence[str] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits (R, B, T, V), and the tensors at the named points (None: every point of attention). All runs have one H.

    The cache is of activations, as in TransformerLens; the key-value cache is model/fast/cache.py.
    """
    if len(set(model.n_head)) > 1:
        raise ValueError(f"the runs have several head counts, {sorted(set(model.n_head))}: a point keeps one group's")
    seen: dict[str, Tensor] = {}
    keep = {name: (lambda x, name=name: seen.update({name: x})) for name in names or hook_names(model)}
    with hooks(model, keep):
        logits = model(tokens)
    return logits, seen
