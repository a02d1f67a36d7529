"""This project's training step, timed in a process of its own (called by benchmarks.sweep)."""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.common import synchronize
from data.dataset import Dataset
from data.tokenizers import CharTokenizer
from experiment.config import Config, SweepConfig, TrainConfig
from experiment.folder import Experiment
from machine import pick_device
from model.config import ModelConfig
from training.job import Job
from training.loop import Stack
from training.settings import choose, keep_freed_memory


@dataclass
class Shape:
    """A sweep to time."""

    n_layer: int
    n_embd: int
    block_size: int
    batch_size: int
    vocab_size: int
    n_head: tuple[int, ...]
    seeds: int = 1
    dropout: float = 0.0
    warm_up: int = 5

    def model(self) -> ModelConfig:
        return ModelConfig(
            n_layer=self.n_layer, n_embd=self.n_embd, block_size=self.block_size, dropout=self.dropout, bias=False
        )


SHAPES = {
    "tiny": Shape(4, 128, 64, 12, 65, (1, 2, 4, 8, 16), seeds=3),
    "char": Shape(6, 384, 256, 64, 65, (1, 2, 3, 6, 12, 24), dropout=0.2),
    "gpt2": Shape(12, 768, 1024, 12, 50304, (12,)),
}


def dataset(shape: Shape, folder: Path) -> Dataset:
    """Random tokens; a step takes as long on them as on text."""
    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, 1_000_000).astype(np.uint16)
    tokenizer = CharTokenizer("".join(chr(0x4E00 + i) for i in range(shape.vocab_size)), has_eot=False)
    val = tokens[: 4 * shape.block_size]
    return Dataset(tokenizer, tokens, val, None, len(tokens), len(val), len(val), "", folder, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--iters", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--compile", type=yaml.safe_load, default="auto", help="auto, true or false")
    parser.add_argument("--alone", action="store_true", help="one run at a time, one for each H")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    device = pick_device(options.device)
    shape = SHAPES[options.shape]
    sweeps = [((h,), 1) for h in shape.n_head] if options.alone else [(shape.n_head, options.seeds)]
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(shape, *sweep, options, device, Path(folder)) for sweep in sweeps]
    result = {
        "ms": statistics.mean(ms for ms, _ in measured),
        "start_s": sum(start for _, start in measured),
        "peak_bytes": peak_bytes(device),
    }
    print(json.dumps(result))


def measure(
    shape: Shape,
    n_head: Sequence[int],
    seeds: int,
    options: argparse.Namespace,
    device: torch.device,
    folder: Path,
) -> tuple[float, float]:
    """Milliseconds of a run-iteration, and seconds until the first step was done."""
    config = Config(
        model=shape.model(),
        sweep=SweepConfig(n_head=list(n_head), seed=list(range(seeds))),
        train=TrainConfig(
            batch_size=shape.batch_size, precision=options.precision, compile=options.compile, max_iters=10_000
        ),
    )
    experiment = Experiment(folder, config)
    settings = choose(config, shape.vocab_size, device)
    began = time.perf_counter()
    stack = Stack(Job(experiment, dataset(shape, folder), device, settings), experiment.runs, 0)
    stack.step(0)
    synchronize(device)
    first = time.perf_counter() - began
    for iteration in range(1, shape.warm_up):
        stack.step(iteration)
    times = []
    synchronize(device)
    for part in range(max(1, options.iters // 5)):  # a few steps at a time, as a GPU runs ahead of the program
        began = time.perf_counter()
        for iteration in range(5):
            stack.step(shape.warm_up + 5 * part + iteration)
        synchronize(device)
        times.append((time.perf_counter() - began) / 5 / len(stack.runs) * 1e3)
    return statistics.median(times), first


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
