"""What every benchmark needs: the machine in words, rounds over all competitors, a table, JSON."""

import argparse
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from machine import device_name, pick_device

MIB = 2**20


def parser(description: str, repeats: int) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    result.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    result.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    result.add_argument("--repeats", type=int, default=repeats, help="rounds over all competitors")
    result.add_argument("--json", metavar="FILE", help="write the figures there as well")
    return result


def start(options: argparse.Namespace) -> torch.device:
    """Set threads, say what machine this is, return the device."""
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    print(*(f"{key}: {value}" for key, value in machine(device).items()), "", sep="\n")
    return device


def machine(device: torch.device) -> dict[str, str | int]:
    facts = {"device": device_name(device), "torch": torch.__version__, "python": platform.python_version()}
    return facts if device.type == "cuda" else facts | {"threads": torch.get_num_threads()}


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


def interleaved(competitors: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list]:
    """Call each competitor once a round, in turn, so that a slow minute of the machine hits all of them alike."""
    rounds = [{name: measure() for name, measure in competitors.items()} for _ in range(repeats)]
    return {name: [measured[name] for measured in rounds] for name in competitors}


def spread(values: Sequence[float], digits: int = 1) -> str:
    """median (lowest–highest)"""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def load_nanogpt(path: str) -> ModuleType:
    """The module model.py of a nanoGPT checkout."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(path) / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    texts = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    texts.insert(1, ["─" * width for width in widths])
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in texts)


def finish(options: argparse.Namespace, device: torch.device, figures: dict) -> None:
    """Write the figures where --json asks for them."""
    if options.json:
        text = json.dumps({"machine": machine(device), **figures}, indent=1)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
