"""What a head count costs: time and memory of a training iteration of one run alone, measured here.

Time: the fastest of many iterations (forward, backward, clipping, AdamW) on random tokens, as what else the machine
does can only slow one down. Memory: on a GPU PyTorch's own peak (torch.cuda.max_memory_allocated); on the CPU, where
PyTorch keeps no such count, every allocation and release of one more iteration as torch.profiler records them, summed
up to their highest, on top of weights, gradients and AdamW's moments. Both count tensors and neither the interpreter
nor the libraries.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity

from experiment.config import Config
from experiment.folder import Run
from machine import device_name
from model.fast import kernels_for
from model.gpt import GPT
from training.settings import ExecutionSettings
from training.step import TrainStep

VERSION = 3
CORES = ("sdpa", "eager")
ROUNDS, SECONDS, LEAST = 2, 0.2, 3
"""Rounds of measurement, and in each for how many seconds, and how many iterations at least."""


class Alone:
    """A training iteration of one run with n_head heads and attention core `core`, on random tokens."""

    def __init__(self, config: Config, vocab_size: int, n_head: int, core: str, device: torch.device, bf16: bool):
        self.device, train = device, config.train
        model_config = replace(config.model, attention=core)
        model = GPT(model_config, vocab_size, [n_head], kernels_for(model_config, device)).to(device)  # as it trains
        model.init_weights([0])
        precision = "bf16" if bf16 else "fp32"
        run = Run(Path(), n_head, 0, train.learning_rate, train.weight_decay, 0)
        self.train_step = TrainStep(model, [run], train, ExecutionSettings(precision, precision))
        shape = (1, train.gradient_accumulation_steps * train.batch_size, config.model.block_size + 1)
        self.windows = torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(0)).to(device)

    def step(self) -> None:
        self.train_step(0, self.windows)
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def standing_bytes(self) -> int:
        """Weights, gradients, AdamW's moments and the tokens: what lies in memory between iterations."""
        return self.train_step.optimizer.nbytes() + self.windows.nbytes


def measure_costs(
    config: Config,
    vocab_size: int,
    heads: Sequence[int],
    device: torch.device,
    bf16: bool = False,
    progress: Callable[[int], object] = lambda n: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """{core: {H: {"seconds", "peak_bytes"}}}: the fastest iteration, and the most tensor memory held in one.

    ROUNDS rounds over all head counts and cores, so that a machine that slows down for a while slows all alike.
    progress: called with 1 after each head count and core of a round.
    """
    found = {core: {str(h): {"seconds": math.inf} for h in heads} for core in CORES}
    for turn in range(ROUNDS):
        for n_head in heads:
            for core in CORES:
                alone = Alone(config, vocab_size, n_head, core, device, bf16)
                cost = found[core][str(n_head)]
                cost["seconds"] = min(cost["seconds"], fastest(alone.step))
                if turn == 0:
                    cost["peak_bytes"] = peak_bytes(alone)
                progress(1)
    return found


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest `work()` of SECONDS of them, LEAST at least, after one to warm up."""
    work()
    best, count, began = math.inf, 0, time.perf_counter()
    while count < LEAST or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        work()
        best, count = min(best, time.perf_counter() - start), count + 1
    return best


def peak_bytes(alone: Alone) -> int:
    """The most tensor memory held in an iteration that is not the first, bytes."""
    if alone.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(alone.device)
        alone.step()
        return torch.cuda.max_memory_allocated(alone.device)
    return alone.standing_bytes() + peak_allocation(alone.step)


def peak_allocation(work: Callable[[], object]) -> int:
    """The most bytes of CPU tensors that `work()` holds at once beyond those that lay there before."""
    with silent(), torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    held = highest = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


@contextmanager
def silent() -> Iterator[None]:
    """Keep what the profiler's library writes to stderr, whatever Python is told, off the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def machine(device: torch.device) -> dict[str, object]:
    """What a measured time depends on besides the settings."""
    name = device_name(device)
    return {"device": name, "threads": torch.get_num_threads(), "cores": os.cpu_count(), "torch": torch.__version__}
