"""Causal multi-head attention, the module under study.

A width of D features is split into H heads of d_h = D / H, each head attends on its own slice, and the slices are laid
side by side again: (…, T, D) → (…, T, H, d_h) → (…, H, T, d_h) → (…, T, H, d_h) → (…, T, D). The matrices around it are
D × D whatever H is; nothing non-linear stands between the concatenation and W_0.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.fast.cpu import attend_stack
from model.layers import Dropout, Linear

HOOK_POINTS = ("q", "k", "v", "scores", "pattern", "z", "out")
"""Named points of CausalMHA. q, k, v, z: (r, B, H, T, d_h); scores, pattern: (r, B, H, T, T), only with the explicit
core; out: (R, B, T, D). In a stack with several head counts a point is passed once for each group of r runs of equal H.
With GPT.use_cpu_kernel there is only out.
"""


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """(…, T, D) → (…, H, T, d_h)."""
    return x.unflatten(-1, (n_head, x.shape[-1] // n_head)).transpose(-3, -2)


def merge_heads(z: Tensor) -> Tensor:
    """(…, H, T, d_h) → (…, T, D): the heads' outputs side by side, head 0 first."""
    return z.transpose(-3, -2).flatten(-2)


def causal_mask(n_query: int, n_key: int, device: torch.device) -> Tensor:
    """(n_query, n_key), True where a query may look; the queries are the last of the n_key tokens."""
    return torch.ones(n_query, n_key, dtype=torch.bool, device=device).tril(n_key - n_query)


def explicit_core(
    q: Tensor, k: Tensor, v: Tensor, point: Callable[[str, Tensor], Tensor], drop: Callable[[Tensor], Tensor]
) -> Tensor:
    """softmax(q kᵀ / sqrt(d_h) + causal mask) v, as in Vaswani et al. 2017, section 3.2.1; (…, H, T, d_h) each."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (…, H, T, T)
    mask = causal_mask(q.shape[-2], k.shape[-2], q.device)
    scores = point("scores", scores.masked_fill(~mask, -math.inf))
    pattern = point("pattern", scores.softmax(-1))
    return drop(pattern) @ v


def sdpa_core(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same through PyTorch's fused kernel, which never holds the T × T scores; (…, H, T, d_h) each."""
    n_query, n_key = q.shape[-2], k.shape[-2]
    mask = None if n_query in (1, n_key) else causal_mask(n_query, n_key, q.device)
    flat = (x.flatten(0, -4) if x.dim() > 4 else x for x in (q, k, v))  # its fast kernels take 4 axes
    z = F.scaled_dot_product_attention(*flat, attn_mask=mask, is_causal=n_query == n_key)
    return z.view(q.shape)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    n_head: int,
    core: str = "sdpa",
    point: Callable[[str, Tensor], Tensor] = lambda name, x: x,
    drop: Callable[[Tensor], Tensor] = lambda pattern: pattern,
) -> Tensor:
    """Causal attention of n_head heads: q, k, v (…, T, D) → (…, T, D).

    q may be shorter than k and v: its tokens are then the last ones. `core` is "sdpa" or "explicit"; `point(name, x)`
    sees (and may replace) each named tensor; `drop` is applied to the attention pattern, by the explicit core alone.
    """
    q, k, v = (point(name, split_heads(x, n_head)) for name, x in (("q", q), ("k", k), ("v", v)))
    z = explicit_core(q, k, v, point, drop) if core == "explicit" else sdpa_core(q, k, v)
    return merge_heads(point("z", z))


class CausalMHA(nn.Module):
    """Multi-head attention of R runs, run r with n_head[r] heads: (R, B, T, D) → (R, B, T, D).

    Each of HOOK_POINTS is an nn.Identity of this module, so that PyTorch's forward hooks can look at a tensor or return
    another in its place.
    """

    def __init__(self, n_embd: int, n_head: Sequence[int], bias: bool, dropout: float, core: str, place: int):
        super().__init__()
        self.groups = [(heads, len(list(runs))) for heads, runs in groupby(n_head)]  # (H, runs of that H)
        self.n_head = tuple(n_head)
        self.core = core
        self.cpu_kernel = False  # see GPT.use_cpu_kernel
        self.core_dtype: torch.dtype | None = None  # see GPT.set_core_dtype
        self.c_attn = Linear(len(n_head), n_embd, 3 * n_embd, bias)
        self.c_proj = Linear(len(n_head), n_embd, n_embd, bias)  # W_0
        self.attn_dropout = Dropout(dropout, place)
        self.resid_dropout = Dropout(dropout, place + 1)
        for name in HOOK_POINTS:
            setattr(self, name, nn.Identity())

    def point(self, name: str, x: Tensor) -> Tensor:
        return getattr(self, name)(x)

    def forward(self, x: Tensor, cache: "Cache | None" = None) -> Tensor:
        qkv = self.c_attn(x)  # (R, B, T, 3 D)
        if cache is not None and cache.length:
            return self.out(self.c_proj(cache.attend(qkv)))
        if cache is not None:
            cache.put(qkv, self.groups)
        dropping = self.training and self.attn_dropout.p > 0.0
        if self.cpu_kernel and not dropping:
            return self.resid_dropout(self.out(self.c_proj(attend_stack(qkv, self.n_head))))
        q, k, v = qkv.chunk(3, dim=-1)  # (R, B, T, D) each
        # PyTorch's fused kernel draws its dropout from one generator for all runs, which would couple them.
        core = "explicit" if dropping else self.core
        keys = self.attn_dropout.keys if dropping else torch.zeros(len(x))
        autocast = torch.is_autocast_enabled(x.device.type) and self.core_dtype is None
        if self.core_dtype is not None:
            q, k, v = (tensor.to(self.core_dtype) for tensor in (q, k, v))
        runs = [count for _, count in self.groups]
        parts = zip(self.groups, *(tensor.split(runs) for tensor in (q, k, v, keys)), strict=True)
        with torch.autocast(x.device.type, enabled=autocast):
            z = [
                attend(*group_qkv, heads, core, self.point, partial(self.attn_dropout.drop, keys=group_keys))
                for (heads, _), *group_qkv, group_keys in parts
            ]
        return self.resid_dropout(self.out(self.c_proj(z[0] if len(z) == 1 else torch.cat(z))))


class Cache:
    """Keys and values of one layer, in tensors of fixed shape and place, so that a CUDA graph can replay an `attend`.

    Each group of r runs of equal H has its own, split into heads: (2, r, B, H, block_size, d_h). `position` (1,), on
    the device, is the place of the next token.
    """

    def __init__(self, block_size: int):
        self.block_size = block_size
        self.length = 0  # tokens held, or fewer after a replay
        self.groups: list[Tensor] = []

    def put(self, qkv: Tensor, groups: Sequence[tuple[int, int]]) -> None:
        """Hold the first T tokens: qkv (R, B, T, 3 D); groups as in CausalMHA."""
        self.length = qkv.shape[2]
        if not self.groups:
            self.static = qkv.device.type == "cuda"  # attend to block_size places under a mask, not to those held
            self.place = torch.arange(self.block_size, device=qkv.device)
            self.position = torch.empty(1, dtype=torch.int64, device=qkv.device)
            self.groups = [
                qkv.new_zeros(2, runs, qkv.shape[1], n_head, self.block_size, qkv.shape[-1] // 3 // n_head)
                for n_head, runs in groups
            ]
        self.position.fill_(self.length)
        for kv, part in zip(self.groups, qkv.split([runs for _, runs in groups]), strict=True):
            heads = part.unflatten(-1, (3, kv.shape[3], -1))  # (r, B, T, 3, H, d_h)
            kv[..., : self.length, :] = heads[:, :, :, 1:].permute(3, 0, 1, 4, 2, 5)

    def attend(self, qkv: Tensor) -> Tensor:
        """Add one token and attend from it to all so far: qkv (R, B, 1, 3 D) → (R, B, 1, D)."""
        if qkv.shape[2] != 1:
            raise ValueError(f"a cache that holds tokens takes one at a time, not {qkv.shape[2]}")
        if self.static:
            held, seen = slice(None), (self.place <= self.position)[None]  # (1, block_size)
        else:
            held, seen = slice(self.length + 1), None
        z = []
        for kv, part in zip(self.groups, qkv.split([kv.shape[1] for kv in self.groups]), strict=True):
            heads = part.unflatten(-1, (3, kv.shape[3], -1)).permute(3, 0, 1, 4, 2, 5)  # (3, r, B, H, 1, d_h)
            kv.index_copy_(-2, self.position, heads[1:])
            flat = (x.flatten(0, 1) for x in (heads[0], *kv[..., held, :]))
            z.append(F.scaled_dot_product_attention(*flat, attn_mask=seen).view(*part.shape[:3], -1))
        self.position += 1
        self.length += 1
        return torch.cat(z)

    def clear(self) -> None:
        """Hold nothing, and keep the tensors for what `put` brings next."""
        self.length = 0
