"""The training loop: every run of a stack takes its step at the same time.

Next batch, forward, backward, clip, step, log. The loop never waits for the device except where a number is shown,
measured or saved.
"""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from experiment.folder import Run
from experiment.pretrained import put_pretrained
from model.fast import Kernels, kernels_for
from model.fast.sdpa import fused_attention
from model.gpt import GPT
from training import checkpoint
from training.batches import Batches
from training.job import Job
from training.metrics import Metrics, finite
from training.progress import Progress
from training.ranks import Group
from training.settings import ExecutionSettings
from training.signals import Signals
from training.step import TrainStep
from training.validation import Validation

log = logging.getLogger("headcount")


class Stack:
    """Some runs of an experiment that train at once, from the step that all of them have reached.

    Args:
        runs: their head counts in order.
        start: the step to go on from; every run has a good checkpoint of it, unless it is 0.
        group: the ranks that train it with this one; the first of them writes.
    """

    def __init__(self, job: Job, runs: Sequence[Run], start: int, group: Group = Group()):  # noqa: B008
        self.job, self.runs, self.start, self.iteration, self.group = job, runs, start, start, group
        self.train_config = config = job.config.train
        self.model = build_model(job, runs, start)
        self.train_step = TrainStep(self.model, runs, config, job.settings, group)
        optimizer = self.train_step.optimizer
        self.states = [checkpoint.load_row(run, self.model, optimizer, row, start) for row, run in enumerate(runs)]
        optimizer.finite.copy_(torch.tensor([state.diverged is None for state in self.states]))
        self.metrics = [Metrics(run, job.loggers) for run in runs]
        self.batches = Batches(job.dataset, runs, job.config, job.device)
        # training losses since the last line of metrics.jsonl
        self.loss_sum = torch.tensor([state.loss_sum for state in self.states], device=job.device)
        self.loss_count = self.states[0].loss_count
        self.began = time.monotonic() - self.states[0].seconds

    def train(self, validation: Validation, progress: Progress) -> None:
        """Train to the end; write metrics and checkpoints.

        Raises:
            Interrupted: after a checkpoint, where SIGINT or SIGTERM came.
        """
        train = self.train_config
        if self.group.index == 0:
            self._remove_what_comes_after_start()
        with Signals() as signals:
            self._before_the_first_step(validation, progress, signals)
            for iteration in range(self.start, train.max_iters):
                self.step(iteration)
                signals.nothing_to_save = None
                progress.step()
                last = self.iteration == train.max_iters
                if self._due(train.eval_interval) or last:
                    self._begin_lines(progress)
                    last &= self._measure(validation, signals, progress)
                elif self._due(train.log_interval):
                    self._begin_lines(progress)
                    self._write_lines()
                stop = self.group.agree(signals.received)  # asked once, as one may come at any moment
                if stop or last or self._due(train.checkpoint_interval):
                    self._save()
                stop = stop or (self.group.size == 1 and signals.received)  # or while the checkpoint was written
                if stop:
                    at = f"at iteration {self.iteration} of {train.max_iters}"
                    raise signals.interrupted(f"{at}: checkpoint written", stop)

    def _before_the_first_step(self, validation: Validation, progress: Progress, signals: Signals) -> None:
        """Compile, say how long it will take, and measure where that is still to do."""
        start, last = self.start, self.train_config.max_iters
        unsaved = f"before iteration {start + 1} was done; the same command goes on from iteration {start}"
        if start < last:
            signals.nothing_to_save = unsaved
            progress.expect(*self.rehearse(validation))
            signals.nothing_to_save = None
        if start == 0:
            self._begin_lines()
        if any(state.unmeasured for state in self.states):
            if not self._measure(validation, signals, progress):
                stop = self.group.agree(signals.received)
                raise signals.interrupted(f"while iteration {start} was measured", stop)
            if start == last:
                self._save()
        signals.nothing_to_save = unsaved

    def step(self, iteration: int) -> None:
        """One training step of every run."""
        windows = self.batches(iteration)
        self.train_step(iteration, self.group.slice(windows))  # forward, backward, clip, AdamW
        self.loss_sum += self.train_step.losses
        self.loss_count += 1
        self.iteration = iteration + 1

    def rehearse(self, validation: Validation) -> tuple[float, float]:
        """Compile; return the seconds that a step and a measurement will take, about. Nothing is learned."""
        windows = self.group.slice(self.batches(self.start))
        self.train_step.rehearse(windows)
        steps = []
        for _ in range(3):  # the first ones still touch new memory
            began = time.perf_counter()
            self.train_step.rehearse(windows)
            self.train_step.optimizer.grads[0, 0].item()  # waits for the device
            steps.append(time.perf_counter() - began)
        with self._measuring():
            seconds = validation.seconds(self.model, self.train_step.autocast)
        return min(steps) * self.train_config.gradient_accumulation_steps, seconds

    def _due(self, interval: int) -> bool:
        return self.iteration % interval == 0

    def _remove_what_comes_after_start(self) -> None:
        for run, metrics in zip(self.runs, self.metrics, strict=True):
            checkpoint.remove_newer(run, self.start)
            metrics.restart(self.start)

    def _begin_lines(self, progress: Progress | None = None) -> None:
        """Begin a line of metrics for every run: the steps since the last one."""
        means = (self.loss_sum / max(1, self.loss_count)).tolist()
        step, optimizer = self.train_step, self.train_step.optimizer
        norms, rates = step.norms.tolist(), optimizer.lr.tolist()
        seconds = round(time.monotonic() - self.began, 3)
        self._note_diverged()
        for r, state in enumerate(self.states):
            line = {"iter": self.iteration, "tokens": self._tokens(), "seconds": seconds}
            if self.loss_count:
                line |= {"train_loss": means[r], "grad_norm": norms[r], "lr": rates[r]}
            if state.diverged is not None:
                line["diverged"] = state.diverged
            state.unmeasured = finite(line)
        if progress:
            progress.losses(means, self.batches.tokens_per_step)
        self.loss_sum.zero_()
        self.loss_count = 0

    def _note_diverged(self) -> None:
        """Note, and say, which runs have diverged by now."""
        for run, state, is_finite in zip(
            self.runs, self.states, self.train_step.optimizer.finite.tolist(), strict=True
        ):
            if not is_finite and state.diverged is None:
                state.diverged = self.iteration
                log.warning(
                    f"{run.name} diverged by iteration {self.iteration}: its loss or gradient is not finite; "
                    "it is kept as it was, and its companions go on"
                )

    def _measure(self, validation: Validation, signals: Signals, progress: Progress) -> bool:
        """Write the lines with their validation losses; False, and none written, where a signal came first."""
        with self._measuring():
            measured = validation(self.model, self.train_step.autocast, lambda: signals.received)
        if measured is None:
            return False
        progress.measured(self.iteration, measured[0])
        self._write_lines(
            {"val_loss": loss} | ({"val_loss_by_relation": relation} if relation else {})
            for loss, relation in zip(*measured, strict=True)
        )
        return True

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        self.model.eval()
        with self.train_step.uncompiled():
            yield
        self.model.train()

    def _write_lines(self, measured: Iterable[dict] | None = None) -> None:
        """Write the lines that were begun, each with what was measured."""
        for state, metrics, more in zip(self.states, self.metrics, measured or [{}] * len(self.runs), strict=True):
            if state.unmeasured is not None:  # written already where a kill came between checkpoints of companions
                if self.group.index == 0:
                    metrics.write(state.unmeasured | more)
                state.unmeasured = None

    def _save(self) -> None:
        self._note_diverged()
        sums, seconds, eot = self.loss_sum.tolist(), time.monotonic() - self.began, self.job.dataset.tokenizer.eot
        for r, (run, state) in enumerate(zip(self.runs, self.states, strict=True)):
            state.iteration, state.tokens, state.seconds = self.iteration, self._tokens(), seconds
            state.loss_sum, state.loss_count = sums[r] if math.isfinite(sums[r]) else 0.0, self.loss_count
            if self.group.index == 0:
                checkpoint.save(run, self.model, self.train_step.optimizer, r, state, eot)

    def _tokens(self) -> int:
        return self.iteration * self.batches.tokens_per_step


def build_model(job: Job, runs: Sequence[Run], start: int) -> GPT:
    """The network of the runs with its initial weights."""
    config = job.config.model
    kernels = in_precision(kernels_for(config, job.device if job.settings.kernel else None), job.settings)
    model = GPT(config, job.vocab_size, [run.n_head for run in runs], kernels).to(job.device)
    if config.init is None or start:
        model.init_weights([run.seed for run in runs])
    else:
        put_pretrained(config.init, model)
    return model.train()


def in_precision(kernels: Kernels, settings: ExecutionSettings) -> Kernels:
    """Kernels whose attention is PyTorch's in fp32, where the products around it are bf16 and it is not to be."""
    if settings.precision == settings.attention_precision or kernels.attention is not fused_attention:
        return kernels

    def attend(qkv: torch.Tensor, n_head: Sequence[int]) -> torch.Tensor:
        with torch.autocast(qkv.device.type, enabled=False):
            return fused_attention(qkv.float(), n_head)

    return replace(kernels, attention=attend)
