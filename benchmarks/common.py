"""What every benchmark needs: the machine in words, interleaved repeats, a table, JSON."""

import argparse
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch

from machine import device_name, pick_device


def parser(description: str, **defaults: int) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    result.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    result.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    result.add_argument("--repeats", type=int, default=defaults.get("repeats", 5), help="rounds over all competitors")
    result.add_argument("--json", metavar="FILE", help="write the figures there as well")
    return result


def start(options: argparse.Namespace) -> torch.device:
    """Set threads, say what machine this is, return the device."""
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    for key, value in machine(device).items():
        print(f"{key}: {value}")
    print()
    return device


def machine(device: torch.device) -> dict[str, str | int]:
    """Device, versions and threads."""
    name = device_name(device)
    facts = {"device": name, "torch": torch.__version__, "python": platform.python_version()}
    if device.type == "cpu":
        facts |= {"threads": torch.get_num_threads()}
    return facts


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's work included."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def interleaved(competitors: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Call each competitor once a round, in turn, so that a slow minute of the machine hits all of them alike."""
    values: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(repeats):
        for name, measure in competitors.items():
            values[name].append(measure())
    return values


def spread(values: Sequence[float], digits: int = 1) -> str:
    """median (lowest to highest)"""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def product_peak(device: torch.device, dtype: torch.dtype, size: int = 0) -> float:
    """Operations a second of a large square matrix product, the best of several: what the machine can do."""
    size = size or (8192 if device.type == "cuda" else 2048)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(6))


def load_nanogpt(path: str) -> ModuleType:
    """The module model.py of a nanoGPT checkout."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(path) / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    texts = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in texts]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def finish(options: argparse.Namespace, device: torch.device, figures: dict) -> None:
    """Write the figures where --json asks for them."""
    if options.json:
        text = json.dumps({"machine": machine(device), **figures}, indent=1)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
