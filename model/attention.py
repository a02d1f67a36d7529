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

from model.layers import Dropout, Linear

POINTS = ("q", "k", "v", "scores", "pattern", "z", "out")
"""Named points of CausalMHA. q, k, v, z: (r, B, H, T, d_h); scores, pattern: (r, B, H, T, T), only with the explicit
core; out: (R, B, T, D). In a stack with several head counts a point is passed once for each group of r runs of equal H.
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

    Each name of POINTS is an nn.Identity of this module, so that PyTorch's forward hooks can look at a tensor or return
    another in its place.
    """

    def __init__(self, n_embd: int, n_head: Sequence[int], bias: bool, dropout: float, core: str, place: int):
        super().__init__()
        self.groups = [(heads, len(list(runs))) for heads, runs in groupby(n_head)]  # (H, runs of that H)
        self.core = core
        self.core_dtype: torch.dtype | None = None  # see GPT.set_core_dtype
        self.c_attn = Linear(len(n_head), n_embd, 3 * n_embd, bias)
        self.c_proj = Linear(len(n_head), n_embd, n_embd, bias)  # W_0
        self.attn_dropout = Dropout(dropout, place)
        self.resid_dropout = Dropout(dropout, place + 1)
        for name in POINTS:
            setattr(self, name, nn.Identity())

    def point(self, name: str, x: Tensor) -> Tensor:
        return getattr(self, name)(x)

    def forward(self, x: Tensor, cache: "Cache | None" = None) -> Tensor:
        q, k, v = self.c_attn(x).chunk(3, dim=-1)  # (R, B, T, D) each
        dropping = self.training and self.attn_dropout.p > 0.0
        # PyTorch's fused kernel draws its dropout from one generator for all runs, which would couple them.
        core = "explicit" if dropping else self.core
        keys = self.attn_dropout.keys if dropping else torch.zeros(len(x))
        runs = [count for _, count in self.groups]
        autocast = torch.is_autocast_enabled(x.device.type) and self.core_dtype is None
        if self.core_dtype is not None:
            q, k, v = (tensor.to(self.core_dtype) for tensor in (q, k, v))
        parts = zip(self.groups, *(tensor.split(runs) for tensor in (q, k, v, keys)), strict=True)
        z = []
        with torch.autocast(x.device.type, enabled=autocast):
            for place, ((heads, _), *group_qkv, group_keys) in enumerate(parts):
                if cache is not None and cache.length:
                    z.append(cache.attend(place, *group_qkv, heads))
                    continue
                if cache is not None:
                    cache.put(place, *group_qkv[1:], heads)
                drop = partial(self.attn_dropout.drop, keys=group_keys)
                z.append(attend(*group_qkv, heads, core, self.point, drop))
        if cache is not None:
            cache.length += x.shape[2]
        return self.resid_dropout(self.out(self.c_proj(z[0] if len(z) == 1 else torch.cat(z))))


class Cache:
    """Keys and values of one layer, for each group of equal H, in tensors that are filled from the left.

    Keys lie transposed, (r, B, H, d_h, block_size), so that the scores of a new token are one batched product along
    memory; values (r, B, H, block_size, d_h).
    """

    def __init__(self, block_size: int):
        self.block_size = block_size
        self.length = 0  # tokens held
        self.groups: list[tuple[Tensor, Tensor]] = []

    def put(self, place: int, k: Tensor, v: Tensor, n_head: int) -> None:
        """Hold the first tokens of group `place`: k and v (r, B, T, D)."""
        k, v = split_heads(k, n_head), split_heads(v, n_head)  # (r, B, H, T, d_h)
        keys = k.new_empty(*k.shape[:-2], k.shape[-1], self.block_size)
        values = v.new_empty(*v.shape[:-2], self.block_size, v.shape[-1])
        self.groups.insert(place, (keys, values))
        self._write(place, 0, k, v)

    def attend(self, place: int, q: Tensor, k: Tensor, v: Tensor, n_head: int) -> Tensor:
        """Add tokens to group `place` and attend from them to all so far; q, k, v (r, B, T, D) → (r, B, T, D)."""
        q, k, v = (split_heads(x, n_head) for x in (q, k, v))
        self._write(place, self.length, k, v)
        keys, values = self.groups[place]
        count = q.shape[-2]
        end = self.length + count
        scores = (q * q.shape[-1] ** -0.5) @ keys[..., :end]
        if count > 1:
            scores = scores.masked_fill(~causal_mask(count, end, q.device), -math.inf)
        return merge_heads(scores.softmax(-1) @ values[..., :end, :])

    def _write(self, place: int, start: int, k: Tensor, v: Tensor) -> None:
        keys, values = self.groups[place]
        end = start + k.shape[-2]
        keys[..., start:end] = k.transpose(-2, -1)
        values[..., start:end, :] = v
