"""One training step of a stack of runs: forward, backward, clip, AdamW. The only place where an iteration is written.

A step is a function of an iteration and a batch that stand in fixed tensors, so that a CUDA graph can replay it: the
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
from training.optimizer import StackedAdamW, lr_schedule
from training.ranks import Group
from training.settings import ExecutionSettings

log = logging.getLogger("headcount")


class TrainStep:
    """A training step of the R runs of a model, whose parameters move into its optimizer.

    Attributes after a call: losses and norms (R,), the mean training loss and the gradient norm before clipping.
    """

    def __init__(
        self,
        model: GPT,
        runs: Sequence[Run],
        train: TrainConfig,
        settings: ExecutionSettings,
        group: Group = Group(),  # noqa: B008
    ):
        """group: the ranks that share the batch, each of which is called with its own part of the windows.

        A window is T + 1 tokens: T inputs, and the same one token later as targets.
        """
        self.model, self.train, self.settings, self.group = model, train, settings, group
        decays = [run.weight_decay for run in runs]
        self.optimizer = StackedAdamW(model, decays, (train.beta1, train.beta2), train.grad_clip)
        self.device = model.wte.weight.device
        self.lr_schedule = lr_schedule(train, [run.learning_rate for run in runs]).to(self.device)
        self.losses, self.norms = (torch.zeros(len(runs), device=self.device) for _ in range(2))
        self.iteration = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.windows: Tensor | None = None  # (R, gradient_accumulation_steps · B, T + 1), or the rank's part
        digests = [hashlib.blake2b(str(run.seed).encode(), digest_size=4).digest() for run in runs]
        self.seed_keys = torch.tensor([int.from_bytes(d, "little") for d in digests], device=self.device)
        self.dropout_keys = torch.zeros_like(self.seed_keys)
        model.set_dropout_keys(self.dropout_keys)
        self.loss = model.loss
        self.work: Callable[[], None] = self.compute
        if settings.compile:
            self.loss = compiled_loss(model)
            if self.device.type == "cuda" and group.size == 1:  # collectives stay out of a graph
                self.work = Graphed(self.compute, self.optimizer.make_capturable)

    def __call__(self, iteration: int, windows: Tensor) -> None:
        """Step every run on windows (R, gradient_accumulation_steps · B, T + 1), int64; or the rank's part of them."""
        self.iteration.fill_(iteration)
        self._hold(windows)
        self.work()

    def compute(self) -> None:
        """The step itself, from self.iteration and self.windows."""
        self.optimizer.zero_grad()
        losses = self.backward()
        self.group.sum(self.optimizer.grads)
        self.group.sum(losses)
        norms = self.optimizer.clip(losses)
        self.optimizer.step(self.lr_schedule.index_select(0, self.iteration)[0])
        self.losses.copy_(losses)
        self.norms.copy_(norms)

    def backward(self, most: int | None = None) -> Tensor:
        """Gradients of the mean loss into the optimizer's buffer; returns the losses (R,). most: batches to take."""
        losses = torch.zeros_like(self.losses)
        batches = self.windows.split(self.train.batch_size, dim=1)[:most]
        for micro, batch in enumerate(batches, self.group.index << 16):  # no two ranks share a number, nor a mask
            if self.model.config.dropout > 0:
                of_iteration = mix(self.seed_keys ^ (self.iteration & MASK32))
                self.dropout_keys.copy_(mix((of_iteration + micro) & MASK32))
            with self.autocast():
                mean = self.loss(batch[:, :, :-1], batch[:, :, 1:])  # (R,)
                loss = mean * (batch.shape[1] / self.train.sequences)  # its share: the sum is the step's mean
            loss.sum().backward()
            losses += loss.detach()
        return losses

    def rehearse(self, windows: Tensor) -> None:
        """Compile, by a forward and backward pass of which nothing is kept; where that cannot be done, say so."""
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        self._hold(windows)
        try:
            self.backward(1)
        except (TorchDynamoException, InductorError, ImportError, FileNotFoundError) as error:
            if not self.settings.compile:
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            log.warning(f"torch.compile does not work here ({reason[:120]}): training without it")
            torch.compiler.set_stance("force_eager")
            self.backward(1)

    def autocast(self) -> torch.autocast:
        """The context in which the network computes; weights are cast anew each time, as a graph must see it."""
        bf16 = self.settings.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)

    def uncompiled(self) -> AbstractContextManager:
        """The context for batches of another shape than a step's, which would be compiled anew."""
        return torch.compiler.set_stance("force_eager") if self.settings.compile else nullcontext()

    def _hold(self, windows: Tensor) -> None:
        """Copy into the one tensor that a recorded graph reads."""
        if self.windows is None:
            self.windows = torch.empty_like(windows)
        self.windows.copy_(windows, non_blocking=True)


def compiled_loss(model: GPT) -> Callable[[Tensor, Tensor], Tensor]:
    """model.loss with compiled parts.

    On a GPU the whole network is compiled, forward and backward. On a CPU the matrix products and attention kernels
    are at the machine's speed already and the gain is in what stands between them: compiling a block, once for all
    layers, takes a quarter of the time and is as fast.
    """
    torch.compiler.set_stance("default")
    if model.wte.weight.device.type != "cpu":
        return torch.compile(model.loss, dynamic=False)
    for block in model.h:
        block.forward = torch.compile(block.forward, dynamic=False)
    return model.loss


class Graphed:
    """work() on a GPU, recorded as one CUDA graph and replayed, which leaves no gaps between its kernels.

    As in PyTorch's notes on CUDA graphs, "whole-network capture". torch.compile(mode="reduce-overhead") would record
    forward and backward alone; the launches of 2 R parameter groups of AdamW take longer than a small network.
    """

    WARM_UP = 3  # calls before recording: allocations, compilation and autotuning happen in them

    def __init__(self, work: Callable[[], None], before_recording: Callable[[], None]):
        self.work, self.before_recording = work, before_recording
        self.stream = torch.cuda.Stream()  # to warm up and record on, as the default stream cannot be recorded
        self.graph: torch.cuda.CUDAGraph | None = None
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.WARM_UP + 1:
            self.record()
        if self.graph is not None:
            self.graph.replay()
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.work()
        torch.cuda.current_stream().wait_stream(self.stream)

    def record(self) -> None:
        """Record one call, which computes nothing yet. Where that fails, say so and go on without."""
        self.before_recording()
        graph = torch.cuda.CUDAGraph()
        try:
            # the outer context, as a recording that fails leaves its stream the current one
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, stream=self.stream):
                self.work()
            self.graph = graph
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.warning(f"no CUDA graph ({reason[:120]}): training without it")
