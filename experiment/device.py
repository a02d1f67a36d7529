"""Which device to compute on."""

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
