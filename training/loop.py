"""The training loop: every run of a stack takes its step at the same time.

Next batch, forward, backward, clip, step, log. The loop never waits for the device except where a number is shown,
measured or saved.
"""

import logging
import math
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.batches import batch, offsets
from data.dataset import Dataset
from errors import Interrupted
from experiment import checkpoint
from experiment.config import Config, TrainConfig
from experiment.folder import Run
from experiment.pretrained import put_pretrained
from model.fast import kernels_for
from model.gpt import GPT
from training.loggers import Loggers
from training.metrics import Metrics, finite
from training.optimizer import StackedAdamW
from training.settings import Speed
from training.signals import Signals
from training.step import Step
from training.validation import Validation

log = logging.getLogger("headcount")

RESIDENT_SHARE = 0.1
"""The part of a GPU's free memory that the training tokens may fill."""


class Batches:
    """Training batches of a stack on its device: a function of the iteration alone, drawn once for each seed."""

    def __init__(self, dataset: Dataset, runs: Sequence[Run], config: Config, device: torch.device):
        self.tokens = dataset.train
        self.seeds = sorted({run.seed for run in runs})
        self.row = torch.tensor([self.seeds.index(run.seed) for run in runs], device=device)
        self.batch_size = config.train.batch_size * config.train.gradient_accumulation_steps
        self.block_size = config.model.block_size
        self.device = device
        self.resident = None  # a GPU cuts its own windows, where the tokens take little of its memory
        if device.type == "cuda" and 4 * len(self.tokens) < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.from_numpy(self.tokens.astype(np.int32)).to(device)
            self.window = torch.arange(self.block_size + 1, device=device)

    def __call__(self, iteration: int) -> Tensor:
        """Windows (R, gradient_accumulation_steps · B, T + 1), int64."""
        if self.resident is not None:
            count = len(self.tokens) - self.block_size
            first = torch.from_numpy(offsets(self.seeds, iteration, self.batch_size, count)).pin_memory()
            first = first.to(self.device, non_blocking=True)[self.row]
            return self.resident[first[:, :, None] + self.window].long()
        windows = torch.from_numpy(batch(self.tokens, self.seeds, iteration, self.batch_size, self.block_size))
        if self.device.type == "cuda":
            windows = windows.pin_memory()
        return windows.to(self.device, non_blocking=True)[self.row]


class Stack:
    """Some runs of an experiment that train at once, from the step that all of them have reached.

    Args:
        runs: their head counts in order.
        start: the step to go on from; every run has a checkpoint of it, unless it is 0.
        speed: precision and compilation.
        loggers: other tools that get every measurement; None: none.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        config: Config,
        dataset: Dataset,
        device: torch.device,
        speed: Speed,
        start: int,
        loggers: Loggers | None = None,
    ):
        self.runs, self.config, self.start = runs, config, start
        self.eot = dataset.tokenizer.eot
        kernels = kernels_for(config.model, device if speed.kernel else None)
        heads = [run.n_head for run in runs]
        self.model = GPT(config.model, dataset.tokenizer.vocab_size, heads, kernels).to(device)
        if config.model.init is None or start:
            self.model.init_weights([run.seed for run in runs])
        else:
            put_pretrained(config.model.init, self.model)
        self.optimizer = _optimizer(self.model, runs, config.train)
        self.states = [checkpoint.load(run, self.model, self.optimizer, place, start) for place, run in enumerate(runs)]
        if any(state.diverged is not None for state in self.states):
            self.optimizer.alive.copy_(torch.tensor([state.diverged is None for state in self.states]))
        self.metrics = [Metrics(run, start, loggers or Loggers()) for run in runs]
        self.batches = Batches(dataset, runs, config, device)
        self.loss_sum = torch.tensor([state.loss_sum for state in self.states], device=device)  # since the last line
        self.loss_count = self.states[0].loss_count
        self.compute = Step(self.model, self.optimizer, runs, config.train, speed)
        self.iteration = start

    def train(self, validation: Validation, position: str = "") -> None:
        """Train to the end, with a bar on the terminal; write metrics and checkpoints.

        Raises:
            Interrupted: after a checkpoint, where SIGINT or SIGTERM came.
        """
        train = self.config.train
        tokens_per_step = self.batches.batch_size * self.batches.block_size
        began = time.monotonic() - self.states[0].seconds
        bar = tqdm(
            total=train.max_iters, initial=self.start, unit="iter", disable=None, dynamic_ncols=True, desc=position
        )
        with Signals() as signals, bar:
            if self.start == 0:
                self._line(tokens_per_step, began)
            if any(state.unmeasured for state in self.states):
                if not self._measure(validation, signals):
                    raise Interrupted(
                        f"{signals.name} while iteration {self.start} was measured; the same command goes on from here",
                        128 + signals.received,
                    )
                if self.start == train.max_iters:
                    self._save(tokens_per_step, time.monotonic() - began)
            # the first step may take half a minute, where it is compiled
            signals.nothing_to_save = (
                f"before iteration {self.start + 1} was done; the same command goes on from iteration {self.start}"
            )
            for iteration in range(self.start, train.max_iters):
                self.step(iteration)
                signals.nothing_to_save = None
                done = self.iteration = iteration + 1
                bar.update()
                last = done == train.max_iters
                measure = done % train.eval_interval == 0 or last
                if measure or done % train.log_interval == 0:
                    self._line(tokens_per_step, began)
                    if measure:
                        last &= self._measure(validation, signals)
                    else:
                        self._write()
                    bar.set_postfix_str(self._postfix(bar, tokens_per_step))
                if signals.received or last or done % train.checkpoint_interval == 0:
                    self._save(tokens_per_step, time.monotonic() - began)
                if signals.received and not last:
                    raise Interrupted(
                        f"{signals.name} at iteration {done} of {train.max_iters}: checkpoint written; "
                        "the same command goes on from here",
                        128 + signals.received,
                    )

    def step(self, iteration: int) -> None:
        """One training step of every run."""
        self.compute(iteration, self.batches(iteration))
        self.loss_sum += self.compute.losses
        self.loss_count += 1

    def _line(self, tokens_per_step: int, began: float) -> None:
        """Begin a line of metrics for every run: the steps since the last one; and note which runs have diverged."""
        means = (self.loss_sum / max(1, self.loss_count)).tolist()
        norms, rates, alive = self.compute.norms.tolist(), self.optimizer.rates.tolist(), self.optimizer.alive.tolist()
        seconds = round(time.monotonic() - began, 3)
        for r, state in enumerate(self.states):
            if not alive[r] and state.diverged is None:
                state.diverged = self.iteration
            line = {"iter": self.iteration, "tokens": self.iteration * tokens_per_step, "seconds": seconds}
            if self.loss_count:
                line |= {"train_loss": means[r], "grad_norm": norms[r], "lr": rates[r]}
            if state.diverged is not None:
                line["diverged"] = state.diverged
            state.unmeasured = finite(line)
        self.shown = means if self.loss_count else None
        self.loss_sum.zero_()
        self.loss_count = 0

    def _measure(self, validation: Validation, signals: Signals) -> bool:
        """Write the lines with their validation losses; False, and none written, where a signal came first."""
        self.model.eval()
        with self.compute.measuring():
            measured = validation(self.model, self.compute.autocast, lambda: signals.received)
        self.model.train()
        if measured is None:
            return False
        by_head = {}
        for run, loss in zip(self.runs, measured[0], strict=True):
            by_head.setdefault(run.n_head, []).append(loss)
        shown = "  ".join(f"H={heads} {np.mean(values):.4f}" for heads, values in by_head.items())
        log.info(f"iter {self.iteration:>5}: val loss  {shown}")
        self._write(
            {"val_loss": loss} | ({"val_loss_by_relation": relation} if relation else {})
            for loss, relation in zip(*measured, strict=True)
        )
        return True

    def _write(self, measured: Iterable[dict] | None = None) -> None:
        """Write the lines that were begun, each with what was measured."""
        for state, metrics, more in zip(self.states, self.metrics, measured or [{}] * len(self.runs), strict=True):
            if state.unmeasured is not None:  # written already where a kill came between checkpoints of companions
                metrics.write(state.unmeasured | more)
                state.unmeasured = None

    def _postfix(self, bar: tqdm, tokens_per_step: int) -> str:
        by_head = {}
        for run, loss in zip(self.runs, self.shown or [], strict=False):
            by_head.setdefault(run.n_head, []).append(loss)
        losses = " ".join(f"H{heads} {np.mean(values):.2f}" for heads, values in by_head.items())
        rate = (bar.format_dict["rate"] or 0) * tokens_per_step * len(self.runs)
        return f"{losses}, {rate:,.0f} tokens/s"

    def _save(self, tokens_per_step: int, seconds: float) -> None:
        sums = self.loss_sum.tolist()
        for r, (run, state) in enumerate(zip(self.runs, self.states, strict=True)):
            state.iteration, state.tokens, state.seconds = self.iteration, self.iteration * tokens_per_step, seconds
            state.loss_sum, state.loss_count = sums[r] if math.isfinite(sums[r]) else 0.0, self.loss_count
            checkpoint.save(run, self.model, self.optimizer, r, state, self.eot)


def _optimizer(model: GPT, runs: Sequence[Run], train: TrainConfig) -> StackedAdamW:
    rates, decays = [run.learning_rate for run in runs], [run.weight_decay for run in runs]
    return StackedAdamW(model, rates, decays, (train.beta1, train.beta2), train.grad_clip)


def plan(runs: Sequence[Run], stack_size: int) -> list[tuple[list[Run], int]]:
    """Which unfinished runs train together, and the step that each stack goes on from.

    Runs are cut into stacks in their order. A stack goes on from the newest step of which all its runs have a good
    checkpoint, finished ones with their companions: bits depend on who trains together. Runs with no step in common are
    parted. Damaged checkpoints are passed over with a warning.
    """
    held = {run: checkpoint.good_iterations(run) or {0: checkpoint.State()} for run in runs}
    reached = {run: set(states) for run, states in held.items()}
    stacks = []
    for first in range(0, len(runs), stack_size):
        together = runs[first : first + stack_size]
        newest = {run: max(reached[run]) for run in together}
        waiting = [r for r in together if newest[r] < r.max_iters or held[r][newest[r]].unmeasured is not None]
        if not waiting:
            for run in together:
                checkpoint.restore(run, newest[run])
        elif common := set.intersection(*(reached[run] for run in together)):
            stacks.append((together, max(common)))
        elif all(len(reached[run]) == 1 for run in together):  # a kill while the first checkpoints were written
            stacks.append((together, 0))
        else:
            for step in sorted({newest[run] for run in waiting}):
                stacks.append(([run for run in waiting if newest[run] == step], step))
    return stacks
