"""AdamW for a stack of runs, each with its own learning rate, weight decay, clipping and fate.

The model's parameters move into one buffer (R, P), a row a run: matrices and embeddings first (they are decayed), then
norms and biases. PyTorch's own fused AdamW steps the rows, with two parameter groups a run; norms and clipping are
row-wise sums over the buffer of gradients. Nothing crosses from one row to another.
"""

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from experiment.config import TrainConfig
from model.gpt import GPT

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter: moving averages of its gradient and of the gradient's square."""

# Autograd prefers gradients of dense parameters and says so; rows of one buffer are worth more to us.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")


def lr_schedule(train: TrainConfig, base_lr: Sequence[float]) -> Tensor:
    """The learning rates of every iteration, (max_iters, R), from those after the warm-up: nanoGPT's schedule.

    Linear warm-up, then a cosine down to min_lr (a tenth of the base where it is null) at lr_decay_iters.
    """
    decay_iters = train.lr_decay_iters or train.max_iters
    floors = [0.1 if train.min_lr is None else train.min_lr / lr for lr in base_lr]
    shares = {
        floor: [lr_share(i, train.warmup_iters, decay_iters, floor) for i in range(train.max_iters)]
        for floor in dict.fromkeys(floors)
    }
    return torch.tensor([shares[floor] for floor in floors]).T.contiguous() * torch.tensor(base_lr)


def lr_share(iteration: int, warmup_iters: int, decay_iters: int, floor: float) -> float:
    """The learning rate of step `iteration` (from 0) as a share of its base; `floor` from decay_iters on."""
    if iteration < warmup_iters:
        return (iteration + 1) / (warmup_iters + 1)
    if iteration > decay_iters:
        return floor
    progress = (iteration - warmup_iters) / max(1, decay_iters - warmup_iters)
    return floor + 0.5 * (1 + math.cos(math.pi * progress)) * (1 - floor)


class StackedAdamW:
    """AdamW (Loshchilov & Hutter 2019) over the R runs of a model, whose parameters it moves into its buffer.

    Attributes:
        weights, grads: (R, P), one row a run.
        lr: (R,), the learning rates of the last step.
        finite: (R,), False for a run that has diverged: it is frozen as it was.
    """

    def __init__(self, model: GPT, weight_decays: Sequence[float], betas: tuple[float, float], grad_clip: float):
        """weight_decays: R numbers; grad_clip: the largest gradient norm of a run, 0 for none."""
        named = sorted(model.named_parameters(), key=lambda item: item[1].dim() < 3)  # (R, a, b) before (R, a); stable
        n_run, device = len(weight_decays), named[0][1].device
        n_parameter = sum(p[0].numel() for _, p in named)
        n_decayed = sum(p[0].numel() for _, p in named if p.dim() == 3)
        self.weights = torch.empty(n_run, n_parameter, device=device)
        self.grads = torch.zeros_like(self.weights)
        self.columns: dict[str, tuple[slice, torch.Size]] = {}  # name: columns of the buffer, shape of one run
        end = 0
        for name, parameter in named:
            start, end = end, end + parameter[0].numel()
            self.columns[name] = slice(start, end), parameter.shape[1:]
            home = self.weights[:, start:end].view(parameter.shape)
            home.copy_(parameter.detach())
            parameter.data = home
            parameter.grad = self.grads[:, start:end].view(parameter.shape)
        self.grad_clip = grad_clip
        self.lr = torch.zeros(n_run, device=device)
        self.finite = torch.ones(n_run, dtype=torch.bool, device=device)
        groups = []
        for r in range(n_run):
            for part, decay in ((slice(0, n_decayed), weight_decays[r]), (slice(n_decayed, None), 0.0)):
                row = self.weights[r, part]
                row.grad = self.grads[r, part]
                groups.append({"params": [row], "lr": self.lr[r], "weight_decay": decay})
        self.adamw = torch.optim.AdamW(groups, betas=betas, eps=1e-8, fused=True)

    def make_capturable(self) -> None:
        """Let a CUDA graph record `step`; the rates are tensors, the step counts are on the device already."""
        for group in self.adamw.param_groups:
            group["capturable"] = True

    def zero_grad(self) -> None:
        self.grads.zero_()

    @torch.no_grad()
    def clip(self, losses: Tensor) -> Tensor:
        """Clip each run's gradient; freeze, for good, a run whose loss or gradient is not finite. losses (R,).

        Returns:
            The gradient norms before clipping, (R,).
        """
        norms = torch.linalg.vector_norm(self.grads, dim=1)
        self.finite &= torch.isfinite(norms) & torch.isfinite(losses)
        if self.grad_clip > 0:
            self.grads.mul_((self.grad_clip / (norms + 1e-6)).clamp(max=1.0)[:, None])
        if self.grads.device.type != "cpu" or not self.finite.all():  # elsewhere, asking costs more than doing
            self.grads.masked_fill_(~self.finite[:, None], 0.0)
        return norms

    @torch.no_grad()
    def step(self, lr: Tensor) -> None:
        """Step every run that is finite at its learning rate; lr (R,)."""
        self.lr.copy_(lr * self.finite)  # at rate 0 AdamW changes no bit of a weight
        self.adamw.step()

    def moments(self, run: int) -> dict[str, Tensor]:
        """The moments of run `run` by parameter name (`exp_avg.NAME`, `exp_avg_sq.NAME`), on the CPU."""
        tensors = {}
        for key in MOMENTS:
            row = torch.cat([self.adamw.state[group["params"][0]][key] for group in self._groups(run)]).cpu()
            tensors |= {f"{key}.{name}": row[part].view(shape) for name, (part, shape) in self.columns.items()}
        return tensors

    def load_moments(self, run: int, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Put back what `moments` gave after `steps` steps.

        Raises:
            ValueError: where a tensor is missing or has another shape; the message names it.
        """
        for key in MOMENTS:
            for name, (_, shape) in self.columns.items():
                tensor = tensors.get(f"{key}.{name}")
                if tensor is None or tensor.shape != shape:
                    raise ValueError(f"{key}.{name} is missing or has another shape")
        rows = {key: torch.cat([tensors[f"{key}.{name}"].flatten() for name in self.columns]) for key in MOMENTS}
        start = 0
        for group in self._groups(run):
            parameter = group["params"][0]
            part = slice(start, start := start + parameter.numel())
            self.adamw.state[parameter] = {
                "step": torch.tensor(float(steps), device=parameter.device),
                **{key: row[part].to(parameter.device, copy=True) for key, row in rows.items()},
            }

    def nbytes(self) -> int:
        """What weights, gradients and moments take together."""
        moments = sum(t.nbytes for state in self.adamw.state.values() for t in state.values() if t.dim())
        return self.weights.nbytes + self.grads.nbytes + moments

    def _groups(self, run: int) -> list[dict]:
        return self.adamw.param_groups[2 * run : 2 * run + 2]
