"""What is seen of a training: a bar over all stacks, a row of losses at each measurement, the time that is left."""

import logging
import math
import time
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from experiment.config import TrainConfig
from experiment.folder import Run
from training.job import Job
from training.signals import Signals
from training.table import LossRows

log = logging.getLogger("headcount")

BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

TOGETHER = 10
"""Steps that a rank counts before it tells the others."""

Stacks = Sequence[tuple[Sequence[Run], int]]
"""Runs that train together, and the step that they go on from."""


def measurements(train: TrainConfig, start: int) -> int:
    """Validations from step `start` on."""
    last = train.max_iters % train.eval_interval > 0 and start < train.max_iters
    return train.max_iters // train.eval_interval - start // train.eval_interval + last + (start == 0)


class Progress:
    """A bar in iterations of all stacks of all ranks, on a terminal; and lines that say how it goes, everywhere.

    Args:
        stacks: this rank's own.
        everywhere: those of all ranks.
        counts: whether this rank's steps count, as those of the first rank of a group do.
    """

    def __init__(self, job: Job, stacks: Stacks, everywhere: Stacks, counts: bool = True):
        self.config, self.stacks, self.ranks, self.counts = job.config, stacks, job.ranks, counts
        self.uncounted = self.shown = 0
        self.steps_left = sum(job.config.train.max_iters - start for _, start in stacks)
        self.steps_done, self.began = 0, time.monotonic()
        self.expected: float | None = None  # seconds for all of it, before a step was done
        initial = sum(start for _, start in everywhere)
        self.bar = tqdm(
            total=len(everywhere) * job.config.train.max_iters,
            initial=initial,
            disable=None if self.ranks.leads else True,
            dynamic_ncols=True,
            bar_format=BAR,
            desc="training",
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()

    def expect(self, step_seconds: float, measurement_seconds: float) -> None:
        """Say how long all stacks will take, from the times of the first one's step and measurement; once."""
        if self.expected is not None or not self.steps_left:
            return
        n_measured = sum(measurements(self.config.train, start) for _, start in self.stacks)
        measuring = n_measured * measurement_seconds
        self.expected = self.steps_left * step_seconds + measuring
        log.info(
            f"expected to take about {tqdm.format_interval(self.expected)}, "
            f"of which {tqdm.format_interval(measuring)} for {n_measured} measurements"
        )
        self.began = time.monotonic()

    def begin(self, number: int, runs: Sequence[Run]) -> None:
        """Stack `number`, from 1, begins."""
        self.runs, self.rows, self.headed = runs, LossRows(runs, self.config), False
        if len(self.stacks) > 1:
            self.bar.set_description_str(f"stack {number}/{len(self.stacks)}")

    def step(self) -> None:
        self.steps_done += 1
        self.steps_left -= 1
        self.uncounted += self.counts
        if self.ranks.size == 1 or self.steps_done % TOGETHER == 0 or not self.steps_left:
            self.count()

    def count(self) -> None:
        """Tell the other ranks how far this one is, and show how far all are."""
        done = self.ranks.steps(self.uncounted)
        self.bar.update(done if self.ranks.size == 1 else done - self.shown)
        self.shown, self.uncounted = done, 0
        self.ranks.hear()

    def wait(self, signals: Signals) -> None:
        """Show how far the others are, for whom this rank waits. Raises Interrupted where a signal came."""
        self.count()
        if signals.received:
            raise signals.interrupted("while other ranks wrote their checkpoints", signals.received)

    def losses(self, means: Sequence[float], tokens_per_step: int) -> None:
        """Show the range of the training losses of all runs in the bar, and the tokens that they see a second."""
        finite = [loss for loss in means if math.isfinite(loss)]
        shown = f"loss {min(finite):.2f}–{max(finite):.2f}, " if finite else ""
        rate = (self.bar.format_dict["rate"] or 0) * tokens_per_step * len(self.runs)
        self.bar.set_postfix_str(f"{shown}{rate / 1000:,.0f}k tokens/s")

    def measured(self, iteration: int, losses: Sequence[float]) -> None:
        """Show the validation losses of all runs."""
        if not self.headed:
            log.info(self.rows.header())
            self.headed = True
        log.info(self.rows.rows(iteration, losses, tqdm.format_interval(self.left())))

    def left(self) -> float:
        """Seconds until all stacks are done."""
        if not self.steps_done:
            return self.expected or 0.0
        return (time.monotonic() - self.began) / self.steps_done * self.steps_left
