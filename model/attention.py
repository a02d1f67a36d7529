"""Causal multi-head attention, the module under study.

A width of D features is split into H heads of d_h = D / H, each head attends on its own slice, and the slices are laid
side by side again: (…, T, D) → (…, H, T, d_h) → (…, T, D), for instance 128 → 4 × 32 → 128. The matrices around it are
D × D whatever H is, and nothing non-linear stands between the concatenation and W_0 (the paper's W^O).

This is the textbook (Vaswani et al. 2017, section 3.2). What computes the same faster stands in model/fast/, with the
signature of `eager_attention`: qkv (R, B, T, 3 D) and the head count of each of the R runs → (R, B, T, D).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn

from model.layers import Dropout, Linear, Product, batched_product

HOOK_POINTS = ("q", "k", "v", "scores", "pattern", "z", "concat", "out")
"""Named tensors of CausalMHA, each an nn.Identity of that name (see model/hooks.py). q, k, v, z: (r, B, H, T, d_h);
scores, pattern: (r, B, H, T, T), each once for every group of r runs of equal H, and only with eager attention.
concat, out: (R, B, T, D), of all R runs."""

Attention = Callable[[Tensor, Sequence[int]], Tensor]  # (qkv, head count of each run) → concat


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """(…, T, D) → (…, H, T, d_h)."""
    return x.unflatten(-1, (n_head, x.shape[-1] // n_head)).transpose(-3, -2)


def merge_heads(z: Tensor) -> Tensor:
    """(…, H, T, d_h) → (…, T, D): the heads' outputs side by side, head 0 first."""
    return z.transpose(-3, -2).flatten(-2)


def groups(n_head: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Runs of equal H that stand together, as (H, rows)."""
    first = 0
    for heads, runs in groupby(n_head):
        rows = slice(first, first + len(list(runs)))
        yield heads, rows
        first = rows.stop


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Tensor,
    hook: Callable[[str, Tensor], Tensor] = lambda name, x: x,
    drop: Callable[[Tensor], Tensor] = lambda pattern: pattern,
) -> Tensor:
    """softmax(q kᵀ / sqrt(d_h) + mask) v: q (…, H, T, d_h), k and v (…, H, S, d_h), visible (T, S), True where a query
    may look at a key. S is T, or more with the keys of a cache."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (…, H, T, S)
    scores = hook("scores", scores.masked_fill(~visible, -math.inf))
    pattern = hook("pattern", scores.softmax(-1))
    return drop(pattern) @ v


def eager_attention(
    qkv: Tensor,
    n_head: Sequence[int],
    hook: Callable[[str, Tensor], Tensor] = lambda name, x: x,
    drop: Callable[[Tensor, slice], Tensor] = lambda pattern, rows: pattern,
) -> Tensor:
    """The textbook, one group of equal head counts after another: qkv (R, B, T, 3 D) → (R, B, T, D).

    `hook(name, x)` sees (and may replace) each named tensor; `drop(pattern, rows)` drops from the patterns of runs.
    """
    visible = torch.ones(qkv.shape[2], qkv.shape[2], dtype=torch.bool, device=qkv.device).tril()
    outputs = []
    for heads, rows in groups(n_head):
        parts = zip(("q", "k", "v"), qkv[rows].chunk(3, dim=-1), strict=True)  # (r, B, T, D) each
        q, k, v = (hook(name, split_heads(x, heads)) for name, x in parts)  # (r, B, H, T, d_h)
        z = softmax_attention(q, k, v, visible, hook, partial(drop, rows=rows))
        outputs.append(merge_heads(hook("z", z)))  # (r, B, T, D)
    return torch.cat(outputs)


class CausalMHA(nn.Module):
    """Multi-head attention of R runs, run r with n_head[r] heads: (R, B, T, D) → (R, B, T, D).

    Args:
        attention: what attends; None: the textbook, which alone passes every one of HOOK_POINTS and drops patterns.
        layer: the block's number, which sets its dropout masks apart from those of others.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: Sequence[int],
        bias: bool = False,
        dropout: float = 0.0,
        attention: Attention | None = None,
        product: Product = batched_product,
        layer: int = 0,
    ):
        super().__init__()
        self.n_head = tuple(n_head)
        self.c_attn = Linear(len(n_head), n_embd, 3 * n_embd, bias, product)  # W_Q, W_K, W_V side by side
        self.c_proj = Linear(len(n_head), n_embd, n_embd, bias, product)  # W_0
        self.attn_dropout = Dropout(dropout, 3 * layer + 1)  # 0 is the embeddings'; three a block, the MLP's the last
        self.resid_dropout = Dropout(dropout, 3 * layer + 2)
        for name in HOOK_POINTS:
            self.add_module(name, nn.Identity())
        self.attend = attention or partial(eager_attention, hook=self.hook, drop=self.attn_dropout)

    def hook(self, name: str, x: Tensor) -> Tensor:
        return self.get_submodule(name)(x)

    def forward(self, x: Tensor, attend: Attention | None = None) -> Tensor:
        """`attend` stands in for the attention of this call: that of a key-value cache."""
        qkv = self.c_attn(x)  # (R, B, T, 3 D)
        concat = self.concat((attend or self.attend)(qkv, self.n_head))  # (R, B, T, D)
        return self.resid_dropout(self.out(self.c_proj(concat)))
