"""How an experiment is computed on this machine: precision, compilation, kernel, runs at once.

None of it changes what is learned. Each is chosen by rule when an experiment begins and recorded in environment.json;
going on uses what was recorded, so that it ends with the same bits.
"""

import ctypes
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from experiment.config import MOST_RUNS, Config
from machine import free_bytes
from model.describe import flops_per_token
from model.fast.build import have_kernel
from training.growth import axes
from training.memory import bytes_of_a_run

COMPILE_FLOPS = 4e13
"""Arithmetic above which compiling repays itself on a CPU: about ten minutes of training on two cores."""
COMPILE_ITERS = 500
"""Iterations above which it does on a GPU."""
SHARE = {"cpu": 0.7, "cuda": 0.9, "mps": 0.6}
"""The part of the free memory that a stack may fill."""

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class ExecutionSettings:
    """How the runs of an experiment are computed."""

    precision: Precision = "fp32"
    """Of the matrix products."""
    attention_precision: Precision = "fp32"
    """Of PyTorch's attention: fp32 where bf16 was asked for on a device that only emulates it."""
    compile: bool = False
    kernel: bool = False
    """Whether all runs are attended by our own kernel (model/fast/cpu.cpp)."""
    stack_size: int = 1
    """Runs that train at once, at most."""

    def facts(self, device: torch.device) -> dict[str, Any]:
        """For environment.json."""
        return {
            **asdict(self),
            "device_type": device.type,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
        }


def choose(
    config: Config, vocab_size: int, device: torch.device, recorded: Mapping[str, Any] | None = None
) -> ExecutionSettings:
    """What is "auto" as `recorded` when the experiment began on such a device, or by rule."""
    train = config.train
    if recorded and recorded["device_type"] != device.type:
        recorded = None
    native = native_precision(device)
    if recorded and train.precision in ("auto", recorded["precision"]):
        precision, attention = recorded["precision"], recorded["attention_precision"]
    else:
        precision = native if train.precision == "auto" else train.precision
        attention = native if precision == "bf16" else "fp32"
    compiled = train.compile
    if compiled == "auto":
        compiled = recorded["compile"] if recorded else compile_repays(config, vocab_size, device)
    size = train.stack
    if size == "auto":
        size = recorded["stack_size"] if recorded else fitting(config, vocab_size, device)
    kernel = device.type == "cpu" and config.model.attention == "sdpa"
    kernel = kernel and (recorded is None or recorded.get("kernel", False)) and have_kernel()
    return ExecutionSettings(precision, attention, compiled, kernel, size)


def native_precision(device: torch.device) -> Precision:
    """bf16 where the device has instructions for it: AMX or AVX-512 BF16 of a CPU, a GPU of Ampere or later."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    else:
        native = False
    return "bf16" if native else "fp32"


def fitting(config: Config, vocab_size: int, device: torch.device) -> int:
    """As many runs at once as fit into the device's free memory; at least 1."""
    needed = bytes_of_a_run(config, vocab_size, config.head_counts[-1])
    return max(1, min(MOST_RUNS, int(SHARE[device.type] * free_bytes(device)) // needed))


def compile_repays(config: Config, vocab_size: int, device: torch.device) -> bool:
    """Whether training is long enough: from the config alone, so that every start of an experiment agrees."""
    train = config.train
    if device.type == "cuda":
        return train.max_iters >= COMPILE_ITERS
    tokens = train.max_iters * train.sequences * config.model.block_size
    n_run = math.prod(len(values) for values in axes(config).values())
    flops = 3 * sum(flops_per_token(config.model, vocab_size, config.head_counts[0]).values())
    return device.type == "cpu" and flops * tokens * n_run >= COMPILE_FLOPS


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for the next step instead of giving them back to the system.

    By default glibc maps each large tensor anew, and the kernel clears every page of it again: 5 to 20 % of a step.
    The two settings are M_MMAP_MAX and M_TRIM_THRESHOLD of mallopt(3).
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(-4, 0)
    mallopt(-1, 2**31 - 1)
