"""GPT-2's layers with one more leading axis: R runs, side by side in one set of tensors.

No parameter's shape depends on the number of heads, so every run of a sweep fits the same shapes, and a layer of R
networks is one batched matrix product where R programs would launch R. Shapes: R runs, B sequences a batch, T tokens a
sequence, D features (`n_embd`), V tokens in the vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.fast.cpu import few_rows, multiply_few


class Linear(nn.Module):
    """R linear maps: (R, …, d_in) → (R, …, d_out). Weights lie as in GPT-2's Conv1D, (d_in, d_out)."""

    def __init__(self, n_run: int, d_in: int, d_out: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_run, d_in, d_out))
        self.bias = nn.Parameter(torch.empty(n_run, d_out)) if bias else None
        self.cpu_kernel = False  # see GPT.use_cpu_kernel

    def forward(self, x: Tensor) -> Tensor:
        if self.cpu_kernel and few_rows(x, self.weight):
            return multiply_few(x, self.weight, self.bias)
        rows = x.flatten(1, -2)  # (R, B·T, d_in)
        if len(self.weight) == 1:  # one run: the plain product, with the bias added in its kernel
            weight, bias = self.weight[0], None if self.bias is None else self.bias[0]
            y = rows[0] @ weight if bias is None else torch.addmm(bias, rows[0], weight)
            return y.unflatten(0, x.shape[:-1])
        y = (
            torch.bmm(rows, self.weight)
            if self.bias is None
            else torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight)
        )
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
        over = (len(self.weight), 1, 1, -1)
        x, weight = F.layer_norm(x, x.shape[-1:]), self.weight.view(over)
        return x * weight if self.bias is None else torch.addcmul(self.bias.view(over), x, weight)


class Embedding(nn.Module):
    """R tables of vectors: indices (R, B, T) → (R, B, T, D)."""

    def __init__(self, n_run: int, n_rows: int, n_embd: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_run, n_rows, n_embd))

    def forward(self, index: Tensor) -> Tensor:
        n_run, n_rows, _ = self.weight.shape
        first_row = torch.arange(0, n_run * n_rows, n_rows, device=index.device)  # of each run's table
        return F.embedding(index + first_row[:, None, None], self.weight.flatten(0, 1))


class Dropout(nn.Module):
    """Dropout whose mask is a function of the run's key, this layer's place and the element's place alone.

    PyTorch's generator would hand a run another mask whenever its companions change. Here runs that share a seed share
    their masks, a run alone drops what it drops in a stack, and going on after a stop needs no generator state. The
    32-bit mixing function is `lowbias32` of Chris Wellons' hash-prospector (2018), in 64-bit integers.
    """

    def __init__(self, p: float, place: int):
        super().__init__()
        self.p = p
        self.place = place
        self.keys: Tensor | None = None  # (R,) int64 below 2³², one a run: set by GPT.set_dropout_keys

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x (r, …), where r runs are those of `keys`, with probability p; scale up the rest."""
        return self.drop(x, self.keys)

    def drop(self, x: Tensor, keys: Tensor | None) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if keys is None:
            raise RuntimeError("dropout needs keys: call GPT.set_dropout_keys before a training step")
        element = torch.arange(x[0].numel(), device=x.device)
        base = mix(keys + self.place * 0x9E3779B1 & MASK32)
        bits = mix(mix(element)[None] ^ base[:, None]).view(x.shape)
        return x * ((bits >= int(self.p * 2**32)) * (1 / (1 - self.p))).to(x.dtype)


MASK32 = 0xFFFFFFFF


def mix(x: Tensor) -> Tensor:
    """A permutation of the integers below 2³² whose output bits look independent of the input's."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & MASK32
    x = (x ^ (x >> 15)) * 0x846CA68B & MASK32
    return x ^ (x >> 16)
