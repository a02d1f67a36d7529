"""What makes a machine train fast without changing what is learned: precision, compilation, memory, runs at once.

Each is chosen once, when an experiment begins, and recorded in environment.json: going on uses what was chosen, so that
it ends with the same bits.
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from experiment.config import Config
from experiment.folder import Run
from files import cache_folder, read_checked, write_checked
from machine import processor
from model.describe import flops_per_token
from model.fast.build import have_kernel
from training.memory import ample_bytes, bytes_of_a_run, free_bytes

COMPILE_FLOPS = 4e13
"""Arithmetic above which compiling repays itself on a CPU: about ten minutes of training on two cores."""
COMPILE_ITERS = 500
"""Iterations above which it does on a GPU."""
SHARE = {"cpu": 0.7, "cuda": 0.9, "mps": 0.6}
"""The part of the free memory that a stack may fill."""


@dataclass(frozen=True)
class Speed:
    """How an experiment is computed on this machine."""

    precision: str  # fp32 or bf16: of the matrix products
    attention_precision: str  # fp32 or bf16: of the attention core
    compile: bool
    kernel: bool  # whether all runs are attended by our own kernel (model/cpu.cpp)
    stack_size: int  # runs that train at once


def choose(
    config: Config,
    runs: Sequence[Run],
    vocab_size: int,
    device: torch.device,
    held: dict | None,
) -> Speed:
    """Settings that are "auto" as recorded when the experiment began on such a device (`held`), or chosen here."""
    train = config.train
    if held and held.get("device_type") != device.type:
        held = None
    if train.precision == "auto":
        chosen = held or fastest_precision(device)
        precision, attention = chosen["precision"], chosen["attention_precision"]
    else:
        precision = train.precision
        attention = fastest_precision(device)["attention_precision"] if precision == "bf16" else "fp32"
    compiled = train.compile
    if compiled == "auto":
        compiled = held["compile"] if held else compile_repays(config, len(runs), vocab_size, device)
    if train.stack != "auto":
        size = min(train.stack, len(runs))
    elif held:
        size = min(held["stack_size"], len(runs))
    else:
        size = fitting(config, runs, vocab_size, device, precision)
    kernel = device.type == "cpu" and config.model.attention == "sdpa" and (held is None or held.get("kernel", False))
    kernel = kernel and have_kernel()
    return Speed(precision, attention, compiled, kernel, size)


def fitting(config: Config, runs: Sequence[Run], vocab_size: int, device: torch.device, precision: str) -> int:
    """As many runs at once as fit into the device's free memory, in stacks of nearly equal size; at least 1."""
    heads = {run.n_head for run in runs}
    room = SHARE[device.type] * free_bytes(device)
    if len(runs) * ample_bytes(config, vocab_size, max(heads)) <= room:
        return len(runs)
    needed = max(bytes_of_a_run(config, vocab_size, h, device, precision) for h in heads)
    size = max(1, min(len(runs), int(room // needed)))
    stacks = -(-len(runs) // size)
    return -(-len(runs) // stacks)


def compile_repays(config: Config, n_run: int, vocab_size: int, device: torch.device) -> bool:
    """Whether training is long enough: from the config alone, so that every start of an experiment agrees."""
    train = config.train
    if device.type == "cuda":
        return train.max_iters >= COMPILE_ITERS
    tokens = train.max_iters * train.batch_size * train.gradient_accumulation_steps * config.model.block_size
    flops = 3 * sum(flops_per_token(config.model, vocab_size, config.head_counts[0]).values())
    return device.type == "cpu" and flops * tokens * n_run >= COMPILE_FLOPS


def fastest_precision(device: torch.device) -> dict[str, str]:
    """The precisions in which this device multiplies matrices and attends fastest; measured once a CPU and kept."""
    if device.type == "cuda":
        fast = "bf16" if torch.cuda.is_bf16_supported() else "fp32"
        return {"precision": fast, "attention_precision": fast}
    if device.type != "cpu":
        return {"precision": "fp32", "attention_precision": "fp32"}
    file = cache_folder() / "machine.json"
    key = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    try:
        known = read_checked(file)
        if key in known:
            return known[key]
    except (OSError, ValueError):  # none yet, or damaged
        known = {}
    known[key] = {
        "precision": "bf16" if 1.2 * _product_seconds(torch.bfloat16) < _product_seconds(torch.float32) else "fp32",
        "attention_precision": (
            "bf16" if _attention_seconds(torch.bfloat16) < _attention_seconds(torch.float32) else "fp32"
        ),
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_checked(file, known)
    except OSError:
        pass  # no cache: measured again next time
    return known[key]


def _product_seconds(dtype: torch.dtype) -> float:
    """Of one batched product of a small network, its casts from fp32 included."""
    x, weight = torch.randn(4, 512, 128), torch.randn(4, 128, 512)
    return _seconds(lambda: torch.bmm(x.to(dtype), weight.to(dtype)))


def _attention_seconds(dtype: torch.dtype) -> float:
    """Of one fused attention, forward and backward."""
    q, k, v = (torch.randn(4, 4, 128, 32, dtype=dtype, requires_grad=True) for _ in range(3))
    return _seconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward())


def _seconds(work: Callable[[], object]) -> float:
    """The fastest of many calls: what else the machine does can only slow one down."""
    times = []
    for _ in range(30):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


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


def as_facts(speed: Speed, device: torch.device) -> dict:
    """For environment.json."""
    return {**asdict(speed), "device_type": device.type, "threads": torch.get_num_threads(), "cores": os.cpu_count()}
