"""Which device to compute on, what it is called, and how much memory it has free."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from errors import InputError


def pick_device(name: str) -> torch.device:
    """auto: cuda, else mps, else cpu. Raises InputError where the named device is not here."""
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if name == "auto":
        return torch.device(next(kind for kind, here in available.items() if here()))
    kind = name.split(":")[0]
    if kind not in available:
        raise InputError(f"--device {name}: unknown; use auto, cpu, cuda or mps")
    if not available[kind]():
        raise InputError(f"--device {name}: PyTorch finds no such device here; use --device cpu or auto")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: unknown; use auto, cpu, cuda or mps") from None
    if kind == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"--device {name}: there are {count}; use cuda:0 to cuda:{count - 1}")
    return device


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    """Here the CPU takes numbers below 1.2e-38 as 0, as GPUs and bf16 products do.

    It computes with them a hundred times slower, and a softmax that a high learning rate has saturated is full of them:
    a training step at D = 256 and rate 0.012 took 100 ms a run with them, and 18 without. PyTorch's threads take this
    over when they begin: in a process that has computed before, they do not. Works as a decorator, too.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """The CPU's name, with the instructions that PyTorch uses of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = "CPU"
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def free_bytes(device: torch.device) -> int:
    """Memory that a new program could take on the device; of a CPU's, the share of each of torchrun's processes."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # freed, and ours already
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        free = next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 2**30
    return min([free, *_container_room()]) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _container_room() -> list[int]:
    """What the control group (a container's limit) leaves, where there is one."""
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="utf-8").strip()
        used = int((group / "memory.current").read_text(encoding="utf-8"))
        return [] if limit == "max" else [int(limit) - used]
    except (OSError, ValueError):
        return []
