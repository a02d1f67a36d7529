"""GPT-2's layers with one more leading axis: R runs, side by side in one set of tensors.

No parameter's shape depends on the number of heads, so every run of a sweep fits the same shapes, and a layer of R
networks is one batched matrix product where R programs would launch R. Shapes: R runs, B sequences a batch, T tokens a
sequence, D features (`n_embd`), V tokens in the vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # `batched_product`, or what computes the same


def batched_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """R linear maps: x (R, N, d_in), weight (R, d_in, d_out), bias (R, d_out) → (R, N, d_out)."""
    if len(weight) == 1:  # one run: the plain product, with the bias added in its kernel
        return (x[0] @ weight[0] if bias is None else torch.addmm(bias[0], x[0], weight[0]))[None]
    return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight)


class Linear(nn.Module):
    """R linear maps: (R, …, d_in) → (R, …, d_out). Weights lie as in GPT-2's Conv1D, (d_in, d_out)."""

    def __init__(self, n_run: int, d_in: int, d_out: int, bias: bool, product: Product = batched_product):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_run, d_in, d_out))
        self.bias = nn.Parameter(torch.empty(n_run, d_out)) if bias else None
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x.flatten(1, -2), self.weight, self.bias)  # (R, B·T, d_out)
        return y.unflatten(1, x.shape[1:-1])


class LayerNorm(nn.Module):
    """R layer norms over the last axis, eps 1e-5 as in GPT-2: (R, B, T, D) → (R, B, T, D)."""

    def __init__(self, n_run: int, n_embd: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_run, n_embd))
        self.bias = nn.Parameter(torch.empty(n_run, n_embd)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if len(self.weight) == 1:  # one run: the affine map goes into PyTorch's own kernel
            return F.layer_norm(x, x.shape[-1:], self.weight[0], None if self.bias is None else self.bias[0])
        shape = (len(self.weight), 1, 1, -1)  # against (R, B, T, D)
        x, weight = F.layer_norm(x, x.shape[-1:]), self.weight.view(shape)
        return x * weight if self.bias is None else torch.addcmul(self.bias.view(shape), x, weight)


class Embedding(nn.Module):
    """R tables of vectors: indices (R, B, T) → (R, B, T, D)."""

    def __init__(self, n_run: int, n_rows: int, n_embd: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_run, n_rows, n_embd))

    def forward(self, index: Tensor) -> Tensor:
        n_run, n_rows, _ = self.weight.shape
        first_row = torch.arange(0, n_run * n_rows, n_rows, device=index.device)  # of each run's table
        return F.embedding(index + first_row[:, None, None], self.weight.flatten(0, 1))


MASK32 = 0xFFFFFFFF


class Dropout(nn.Module):
    """Dropout whose mask is a function of the run's key, the layer's number and the element's index alone.

    PyTorch's generator would hand a run another mask whenever the other runs of its stack change. Here runs that share
    a seed share their masks, a run alone drops what it drops in a stack, and resuming needs no generator state. The
    32-bit mixing function is `lowbias32` of Chris Wellons' hash-prospector (2018), in 64-bit integers.
    """

    def __init__(self, p: float, number: int):
        super().__init__()
        self.p = p
        self.number = number  # its own among the model's dropout layers
        self.keys: Tensor | None = None  # (R,) int64 below 2³², one a run: set by GPT.set_dropout_keys

    def forward(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """Drop elements of x (r, …), of the runs `rows` (a group of equal H), with probability p; scale up the rest."""
        if not self.training or self.p == 0.0:
            return x
        if self.keys is None:
            raise RuntimeError("dropout needs keys: call GPT.set_dropout_keys before a training step")
        element = torch.arange(x[0].numel(), device=x.device)
        base = mix((self.keys[rows] + self.number * 0x9E3779B1) & MASK32)  # 2³² over the golden ratio: far apart
        bits = mix(mix(element)[None] ^ base[:, None]).view(x.shape)
        kept = bits >= int(self.p * 2**32)  # with probability 1 - p
        return x * (kept * (1 / (1 - self.p))).to(x.dtype)


def mix(x: Tensor) -> Tensor:
    """A permutation of the integers below 2³² whose output bits look independent of the input's."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & MASK32
    x = (x ^ (x >> 15)) * 0x846CA68B & MASK32
    return x ^ (x >> 16)
