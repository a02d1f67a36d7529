"""What stands beside the textbook: the same attention, faster. Chosen once, when a network is built.

eager      model/attention.py, which passes every hook point and drops patterns
fused      PyTorch's kernel, which never holds the T × T scores
compiled   our own kernels for CPUs (cpu.cpp): every run in one call, whatever its H
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from model.attention import Attention, softmax_attention
from model.config import ModelConfig
from model.fast.cache import Cache, KeyValueCache
from model.fast.sdpa import fused, fused_attention
from model.layers import Product, batched_product


@dataclass(frozen=True)
class Kernels:
    """The functions that a network is built with."""

    attention: Attention | None
    """qkv (R, B, T, 3 D) and head counts → (R, B, T, D); None: the textbook."""
    cache: Callable[[int, torch.device], KeyValueCache]
    """Makes a layer's key-value cache for block_size tokens."""
    product: Product = batched_product


EAGER = Kernels(None, partial(Cache, softmax_attention))
FUSED = Kernels(fused_attention, partial(Cache, fused))


def kernels_for(config: ModelConfig, device: torch.device | None = None) -> Kernels:
    """What `config.attention` asks for, as fast as `device` has it; on a CPU our kernels are built where need be.

    With dropout every run draws its own from the patterns, so they are computed eagerly: PyTorch's fused kernel has one
    generator for all runs, which would couple them. Without a device nothing is built.
    """
    if config.attention == "eager" or config.dropout > 0:
        return EAGER
    if device is not None and device.type == "cpu":
        from model.fast import build, cpu

        if build.have_kernel():
            return Kernels(cpu.attend_stack, cpu.KernelCache, cpu.product)
    return FUSED
