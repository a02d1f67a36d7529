"""The key-value cache: keys and values of the tokens so far, so that a new one attends without computing them again.

One interface for every implementation: `attend` takes the qkv of the next tokens (the prompt at first, one token at a
time after that), holds their keys and values, and attends from them to all that is held.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from model.attention import groups, merge_heads, split_heads


class KeyValueCache(Protocol):
    """Keys and values of one layer."""

    position: Tensor
    """Index of the next token, (1,), on the device."""

    def attend(self, qkv: Tensor, n_head: Sequence[int]) -> Tensor:
        """Hold T more tokens and attend from them to all so far: qkv (R, B, T, 3 D) → (R, B, T, D)."""

    def clear(self) -> None:
        """Hold nothing."""


class Cache:
    """For any attention on heads, in tensors of fixed shape and address, so that a CUDA graph can replay an `attend`.

    Args:
        core: softmax attention of q (r, B, H, T, d_h) to k, v (r, B, H, S, d_h) under a mask (T, S).
    """

    def __init__(self, core: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], block_size: int, device: torch.device):
        self.core = core
        self.index = torch.arange(block_size, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.held: list[Tensor] = []  # keys and values of each group of equal H, (2, r, B, H, block_size, d_h)

    def attend(self, qkv: Tensor, n_head: Sequence[int]) -> Tensor:
        """See KeyValueCache. Every one of block_size keys is looked at, under a mask."""
        _, n_sequence, length, width = qkv.shape
        if not self.held:
            for heads, rows in groups(n_head):
                shape = (2, rows.stop - rows.start, n_sequence, heads, len(self.index), width // 3 // heads)
                self.held.append(qkv.new_zeros(shape))
        new = self.position + self.index[:length]  # indices of the new tokens, (T,)
        visible = self.index <= new[:, None]  # (T, block_size)
        outputs = []
        for (heads, rows), kv in zip(groups(n_head), self.held, strict=True):
            q, *new_kv = (split_heads(x, heads) for x in qkv[rows].chunk(3, dim=-1))
            kv.index_copy_(-2, new, torch.stack(new_kv))
            outputs.append(merge_heads(self.core(q, *kv, visible)))
        self.position += length
        return torch.cat(outputs)

    def clear(self) -> None:
        """Hold nothing, and keep the tensors for what comes next."""
        self.position.zero_()
