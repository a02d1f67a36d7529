"""The training step of a stack, and what makes it fast: compiled code, and on a GPU one graph of all its kernels.

A step is a function of the iteration and a batch that stand in fixed tensors, so that a CUDA graph can replay it: the
learning rate and the dropout keys are computed from the iteration on the device, and nothing is read back.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from experiment.config import TrainConfig
from experiment.folder import Run
from model.gpt import GPT
from model.layers import MASK32, mix
from training.optimizer import StackedAdamW, learning_rate_factor
from training.settings import Speed

log = logging.getLogger("headcount")

EAGER_STEPS = 3
"""Steps before a CUDA graph is captured: allocations, compilation and autotuning happen in them."""


class Step:
    """Forward, backward, clip and AdamW for R runs.

    Attributes after a call: losses and norms (R,), the mean training loss and the gradient norm before clipping.
    """

    def __init__(
        self,
        model: GPT,
        optimizer: StackedAdamW,
        runs: Sequence[Run],
        train: TrainConfig,
        speed: Speed,
    ):
        self.model, self.optimizer, self.train, self.speed = model, optimizer, train, speed
        self.device = model.wte.weight.device
        self.losses, self.norms = (torch.zeros(len(runs), device=self.device) for _ in range(2))
        self.iteration = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.windows: Tensor | None = None  # (R, gradient_accumulation_steps · B, T + 1)
        self.factors = schedule(runs, train).to(self.device)
        digests = [hashlib.blake2b(str(run.seed).encode(), digest_size=4).digest() for run in runs]
        self.seed_keys = torch.tensor([int.from_bytes(d, "little") for d in digests], device=self.device)
        self.keys = torch.zeros_like(self.seed_keys)
        model.set_dropout_keys(self.keys)
        self.loss = model.loss
        self.proven = not speed.compile  # whether compiled code has run once
        if speed.compile:
            self.loss = compiled_loss(model)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.calls = 0

    def autocast(self) -> torch.autocast:
        """The context in which the network computes; weights are cast anew each time, as a graph must see it."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.speed.precision == "bf16", cache_enabled=False
        )

    def measuring(self) -> AbstractContextManager:
        """The context for anything but a step of this shape: compiled code steps aside."""
        return torch.compiler.set_stance("force_eager") if self.speed.compile else nullcontext()

    def __call__(self, iteration: int, windows: Tensor) -> None:
        """Step every run on windows (R, gradient_accumulation_steps · B, T + 1), int64."""
        self.iteration.fill_(iteration)
        if self.stream is None:
            self.windows = windows
            self.compute()
            return
        if self.windows is None:
            self.windows = torch.empty_like(windows)
        self.windows.copy_(windows, non_blocking=True)
        if self.calls == EAGER_STEPS and self.speed.compile:
            self.capture()
        self.calls += 1
        if self.graph is not None:
            self.graph.replay()
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):  # a graph is captured off the default stream: warm up there as well
            self.compute()
        torch.cuda.current_stream().wait_stream(self.stream)

    def compute(self) -> None:
        """The step itself, from self.iteration and self.windows."""
        self.optimizer.zero_grad()
        losses = self.gradients() if self.proven else self.first_gradients()
        norms = self.optimizer.step(self.factors.index_select(0, self.iteration)[0], losses)
        self.losses.copy_(losses)
        self.norms.copy_(norms)

    def gradients(self) -> Tensor:
        """Gradients of the mean loss into the optimizer's buffer; the losses (R,)."""
        count = self.train.gradient_accumulation_steps
        losses = torch.zeros_like(self.losses)
        for micro, part in enumerate(self.windows.split(self.train.batch_size, dim=1)):
            if self.model.config.dropout > 0:
                self.keys.copy_(mix(mix(self.seed_keys ^ (self.iteration & MASK32)) + micro & MASK32))
            with self.autocast():
                loss = self.loss(part[:, :, :-1], part[:, :, 1:]) / count  # (R,)
            loss.sum().backward()
            losses += loss.detach()
        return losses

    def first_gradients(self) -> Tensor:
        """The first compiled step; where this machine cannot compile, say so and go on without."""
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        self.proven = True
        try:
            return self.gradients()
        except (TorchDynamoException, InductorError, ImportError, FileNotFoundError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            log.warning(f"torch.compile does not work here ({reason[:120]}): training without it")
        torch.compiler.set_stance("force_eager")
        self.optimizer.zero_grad()
        return self.gradients()

    def capture(self) -> None:
        """Record the step as a CUDA graph, which leaves no gaps between kernels. Recording computes nothing."""
        self.optimizer.make_capturable()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                self.compute()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            log.warning(f"no CUDA graph ({str(error).splitlines()[0][:120]}): training without it")
            self.calls = EAGER_STEPS + 1
            return
        self.graph = graph


def schedule(runs: Sequence[Run], train: TrainConfig) -> Tensor:
    """The learning rate of every iteration as a share of each run's peak, (max_iters, R)."""
    decay_iters = train.lr_decay_iters or train.max_iters
    floors = [0.1 if train.min_lr is None else train.min_lr / run.learning_rate for run in runs]
    columns = {
        floor: [learning_rate_factor(i, train.warmup_iters, decay_iters, floor) for i in range(train.max_iters)]
        for floor in dict.fromkeys(floors)
    }
    return torch.tensor([columns[floor] for floor in floors]).T.contiguous()


def compiled_loss(model: GPT) -> Callable[[Tensor, Tensor], Tensor]:
    """model.loss with compiled parts.

    On a GPU the whole network is compiled, forward and backward. On a CPU the matrix products and attention kernels
    are at the machine's speed already and the gain is in what stands between them: compiling a block, once for all
    layers, takes a quarter of the time and is as fast. Measurements run outside (torch.compiler.set_stance).
    """
    torch.compiler.set_stance("default")
    if model.wte.weight.device.type != "cpu":
        return torch.compile(model.loss, dynamic=False)
    for block in model.h:
        block.forward = torch.compile(block.forward, dynamic=False)
    return model.loss
