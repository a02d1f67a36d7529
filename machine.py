"""Which device to compute on, and what it is called."""

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
        return torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: unknown; use auto, cpu, cuda or mps") from None


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """The CPU's name, with the instructions that PyTorch uses of it."""
    name = "CPU"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = file.read().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"
