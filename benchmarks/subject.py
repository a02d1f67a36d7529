"""This project's training step, timed in a process of its own, as nanoGPT's is (called by benchmarks.sweep).

python -m benchmarks.subject '{"shape": "tiny", "device": "cpu", "threads": 2, "iters": 20, "seeds": 3,
                               "precision": "auto", "compile": "auto", "alone": false}'
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import MIB, synchronize
from data.dataset import Dataset
from data.tokenizers import CharTokenizer
from experiment.config import Config, SweepConfig, TrainConfig
from experiment.folder import Experiment
from machine import pick_device
from model.config import ModelConfig
from training.job import Job
from training.loop import Stack
from training.settings import choose, keep_freed_memory

WARM_UP = 5


@dataclass(frozen=True)
class Shape:
    """A sweep to time."""

    model: ModelConfig
    batch_size: int
    vocab_size: int
    n_head: tuple[int, ...]
    seeds: int = 1


SHAPES = {
    "tiny": Shape(ModelConfig(n_layer=4, n_embd=128, block_size=64), 12, 65, (1, 2, 4, 8, 16), seeds=3),
    "char": Shape(ModelConfig(n_layer=6, n_embd=384, block_size=256, dropout=0.2), 64, 65, (1, 2, 3, 6, 12, 24)),
    "gpt2": Shape(ModelConfig(n_layer=12, n_embd=768, block_size=1024), 12, 50304, (12,)),
}


def random_tokens(shape: Shape) -> np.ndarray:
    """A step takes as long on them as on text."""
    return np.random.default_rng(0).integers(0, shape.vocab_size, 1_000_000, dtype=np.uint16)


def dataset(shape: Shape, folder: Path) -> Dataset:
    tokens = random_tokens(shape)
    tokenizer = CharTokenizer("".join(chr(0x4E00 + i) for i in range(shape.vocab_size)), has_eot=False)
    val = tokens[: 4 * shape.model.block_size]
    return Dataset(tokenizer, tokens, val, None, len(tokens), len(val), len(val), "", folder, 1, [])


def main() -> None:
    """Print milliseconds of a run-iteration, seconds to start and peak memory, as JSON."""
    options = Namespace(**json.loads(sys.argv[1]))
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    device = pick_device(options.device)
    heads = SHAPES[options.shape].n_head
    stacks = [([h], 1) for h in heads] if options.alone else [(heads, options.seeds)]
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(options, n_head, seeds, device, Path(folder)) for n_head, seeds in stacks]
    ms, starts = zip(*measured, strict=True)
    print(json.dumps({"ms": statistics.mean(ms), "start_s": sum(starts), "peak_mib": peak_bytes(device) / MIB}))


def measure(
    options: Namespace, n_head: Sequence[int], seeds: int, device: torch.device, folder: Path
) -> tuple[float, float]:
    """Milliseconds of a run-iteration, and seconds until the first step was done."""
    shape = SHAPES[options.shape]
    train = TrainConfig(
        batch_size=shape.batch_size, precision=options.precision, compile=options.compile, max_iters=10_000
    )
    config = Config(model=shape.model, sweep=SweepConfig(n_head=list(n_head), seed=list(range(seeds))), train=train)
    experiment = Experiment(folder, config)
    settings = choose(config, shape.vocab_size, device)
    began = time.perf_counter()
    stack = Stack(Job(experiment, dataset(shape, folder), device, settings), experiment.runs, 0)
    stack.step(0)
    synchronize(device)
    first = time.perf_counter() - began
    for iteration in range(1, WARM_UP):
        stack.step(iteration)
    times = []
    synchronize(device)
    for part in range(max(1, options.iters // 5)):  # a few steps at a time, as a GPU runs ahead of the program
        began = time.perf_counter()
        for iteration in range(5):
            stack.step(WARM_UP + 5 * part + iteration)
        synchronize(device)
        times.append((time.perf_counter() - began) / 5 / len(stack.runs) * 1e3)
    return statistics.median(times), first


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
