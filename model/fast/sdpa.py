"""PyTorch's fused attention, which never holds the T × T scores; one call for each group of runs of equal H."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model.attention import groups, merge_heads, split_heads


def fused(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """As `softmax_attention`, (r, B, H, T, d_h) each; causal where `visible` is None."""
    flat = (x.flatten(0, 1) for x in (q, k, v))  # its fast kernels take 4 axes
    z = F.scaled_dot_product_attention(*flat, attn_mask=visible, is_causal=visible is None)
    return z.view(q.shape)


def fused_attention(qkv: Tensor, n_head: Sequence[int]) -> Tensor:
    """As `eager_attention`: qkv (R, B, T, 3 D) → (R, B, T, D)."""
    outputs = []
    for heads, rows in groups(n_head):
        q, k, v = (split_heads(x, heads) for x in qkv[rows].chunk(3, dim=-1))
        outputs.append(merge_heads(fused(q, k, v, None)))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)
