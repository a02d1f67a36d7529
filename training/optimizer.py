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

from model.gpt import GPT


def learning_rate_factor(iteration: int, warmup_iters: int, decay_iters: int, floor: float) -> float:
    """The learning rate of step `iteration` (from 0) as a share of its peak, as nanoGPT schedules it.

    Linear warm-up, then a cosine from 1 down to `floor` at decay_iters, `floor` after that.
    """
    if iteration < warmup_iters:
        return (iteration + 1) / (warmup_iters + 1)
    if iteration > decay_iters:
        return floor
    progress = (iteration - warmup_iters) / max(1, decay_iters - warmup_iters)
    return floor + 0.5 * (1 + math.cos(math.pi * progress)) * (1 - floor)


# Autograd prefers gradients of dense parameters and says so; rows of one buffer are worth more to us.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")


class StackedAdamW:
    """AdamW (Loshchilov & Hutter 2019) over the R runs of a model, whose parameters it moves into its buffer.

    Args:
        learning_rates, weight_decays: R numbers, one a run.
        grad_clip: largest gradient norm of a run; 0 for none.
    """

    def __init__(
        self,
        model: GPT,
        learning_rates: Sequence[float],
        weight_decays: Sequence[float],
        betas: tuple[float, float],
        grad_clip: float,
    ):
        named = sorted(model.named_parameters(), key=lambda item: item[1].dim() < 3)  # (R, a, b) before (R, a); stable
        n_run, device = len(learning_rates), named[0][1].device
        n_parameter = sum(p[0].numel() for _, p in named)
        n_decayed = sum(p[0].numel() for _, p in named if p.dim() == 3)
        self.weights = torch.empty(n_run, n_parameter, device=device)
        self.grads = torch.zeros_like(self.weights)
        self.places: dict[str, tuple[slice, torch.Size]] = {}  # name: columns of the buffer, shape of one run
        end = 0
        for name, parameter in named:
            start, end = end, end + parameter[0].numel()
            self.places[name] = slice(start, end), parameter.shape[1:]
            home = self.weights[:, start:end].view(parameter.shape)
            home.copy_(parameter.detach())
            parameter.data = home
            parameter.grad = self.grads[:, start:end].view(parameter.shape)
        self.grad_clip = grad_clip
        self.peak = torch.tensor(learning_rates, device=device)
        self.rates = torch.zeros(n_run, device=device)
        self.alive = torch.ones(n_run, dtype=torch.bool, device=device)  # False: frozen since it diverged
        groups = []
        for r in range(n_run):
            for columns, decay in ((slice(0, n_decayed), weight_decays[r]), (slice(n_decayed, None), 0.0)):
                row = self.weights[r, columns]
                row.grad = self.grads[r, columns]
                groups.append({"params": [row], "lr": self.rates[r], "weight_decay": decay})
        self.adamw = torch.optim.AdamW(groups, betas=betas, eps=1e-8, fused=True)

    def make_capturable(self) -> None:
        """Let a CUDA graph record `step`; the rates are tensors, the step counts are on the device already."""
        for group in self.adamw.param_groups:
            group["capturable"] = True

    def zero_grad(self) -> None:
        self.grads.zero_()

    @torch.no_grad()
    def step(self, factors: Tensor, losses: Tensor) -> Tensor:
        """Clip each run's gradient and step it at rate factors[r] · its learning rate; all tensors (R,).

        A run whose loss or gradient norm is not finite is frozen as it is, for good.

        Returns:
            The gradient norms before clipping, (R,).
        """
        norms = torch.linalg.vector_norm(self.grads, dim=1)
        self.alive &= torch.isfinite(norms) & torch.isfinite(losses)
        if self.grad_clip > 0:
            self.grads.mul_((self.grad_clip / (norms + 1e-6)).clamp(max=1.0)[:, None])
        if self.grads.device.type != "cpu" or not self.alive.all():  # on other devices, asking costs more than doing
            self.grads.masked_fill_(~self.alive[:, None], 0.0)
        self.rates.copy_(self.peak * factors * self.alive)  # at rate 0 AdamW changes no bit of a weight
        self.adamw.step()
        return norms

    def state(self, run: int) -> dict[str, Tensor]:
        """The averages of run `run` by parameter name (`exp_avg.NAME`, `exp_avg_sq.NAME`), on the CPU."""
        tensors = {}
        for key in ("exp_avg", "exp_avg_sq"):
            row = torch.cat([self.adamw.state[group["params"][0]][key] for group in self._groups(run)]).cpu()
            tensors |= {f"{key}.{n}": row[columns].view(shape) for n, (columns, shape) in self.places.items()}
        return tensors

    def load_state(self, run: int, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Put back what `state` gave after `steps` steps.

        Raises:
            ValueError: where a tensor is missing or has another shape; the message names it.
        """
        rows = {}
        for key in ("exp_avg", "exp_avg_sq"):
            for name, (_, shape) in self.places.items():
                tensor = tensors.get(f"{key}.{name}")
                if tensor is None or tensor.shape != shape:
                    raise ValueError(f"{key}.{name} is missing or has another shape")
            rows[key] = torch.cat([tensors[f"{key}.{name}"].flatten() for name in self.places])
        start = 0
        for group in self._groups(run):
            parameter = group["params"][0]
            columns = slice(start, start := start + parameter.numel())
            self.adamw.state[parameter] = {
                "step": torch.tensor(float(steps), device=parameter.device),
                **{key: row[columns].to(parameter.device, copy=True) for key, row in rows.items()},
            }

    def _groups(self, run: int) -> list[dict]:
        return self.adamw.param_groups[2 * run : 2 * run + 2]
