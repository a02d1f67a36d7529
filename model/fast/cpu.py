"""What a stack computes on a CPU by the compiled code of cpu.cpp: attention of all runs in one call, and thin products.

PyTorch's fused kernel takes one number of heads at a time and wants the heads apart; on small blocks most of its time
goes into arranging them. Here every run is attended where it lies. `load` takes the compiled library; whoever builds it
is not this module's business.
"""

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

SOURCE = Path(__file__).with_name("cpu.cpp")
BLOCK = 16
"""Tokens of a block of keys, and numbers of the widest vector."""
FEW_ROWS = 32
"""Rows up to which a product is bound by reading its weights."""
FUNCTIONS = (
    *(f"{name}_{kind}" for name in ("attend", "attend_backward") for kind in ("float32", "bfloat16")),
    "attend_next",
    "multiply_few",
)
"""What SOURCE defines for us."""
_library: ctypes.CDLL | None = None


def load(library: Path) -> None:
    """Use this build of SOURCE. Raises OSError where it is no library of it that this machine can load."""
    global _library
    found = ctypes.CDLL(str(library))
    if missing := [name for name in FUNCTIONS if not hasattr(found, name)]:
        raise OSError(f"{library.name} has no function {missing[0]}")
    _library = found


def loaded() -> bool:
    return _library is not None


class _Stack(ctypes.Structure):
    """What cpu.cpp calls Stack."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("R", "B", "T", "D")),
        ("heads", ctypes.POINTER(ctypes.c_int64)),
        ("threads", ctypes.c_int),
    )


def _stack(qkv: Tensor, length: int, n_head: Sequence[int]) -> _Stack:
    heads = (ctypes.c_int64 * len(n_head))(*n_head)
    return _Stack(*qkv.shape[:2], length, qkv.shape[-1] // 3, heads, torch.get_num_threads())


def _call(name: str, stack: _Stack, *tensors: Tensor) -> None:
    function = getattr(_library, f"{name}_{str(tensors[0].dtype).removeprefix('torch.')}")
    function(ctypes.byref(stack), *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors))


def _softmax_size(qkv: Tensor, n_head: Sequence[int]) -> int:
    """Numbers that the backward pass needs of the patterns: two a query of each head, in whole blocks."""
    return 2 * sum(n_head) * qkv.shape[1] * -(-qkv.shape[2] // BLOCK) * BLOCK


@torch.library.custom_op("headcount::attend", mutates_args=())
def _attend(qkv: Tensor, n_head: Sequence[int]) -> tuple[Tensor, Tensor]:
    qkv = qkv.contiguous()
    out = qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)
    softmax = qkv.new_zeros(_softmax_size(qkv, n_head), dtype=torch.float32)
    _call("attend", _stack(qkv, qkv.shape[2], n_head), qkv, out, softmax)
    return out, softmax


@torch.library.custom_op("headcount::attend_backward", mutates_args=())
def _attend_backward(qkv: Tensor, softmax: Tensor, grad: Tensor, n_head: Sequence[int]) -> Tensor:
    qkv, grad_qkv = qkv.contiguous(), torch.empty_like(qkv, memory_format=torch.contiguous_format)
    _call("attend_backward", _stack(qkv, qkv.shape[2], n_head), qkv, softmax, grad.contiguous(), grad_qkv)
    return grad_qkv


@_attend.register_fake
def _(qkv: Tensor, n_head: Sequence[int]) -> tuple[Tensor, Tensor]:
    out = qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)
    return out, qkv.new_empty(_softmax_size(qkv, n_head), dtype=torch.float32)


@_attend_backward.register_fake
def _(qkv: Tensor, softmax: Tensor, grad: Tensor, n_head: Sequence[int]) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _setup(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple) -> None:
    qkv, ctx.n_head = inputs
    ctx.save_for_backward(qkv, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, _grad_softmax: None) -> tuple[Tensor, None]:
    return _attend_backward(*ctx.saved_tensors, grad, ctx.n_head), None


_attend.register_autograd(_backward, setup_context=_setup)


def attend_stack(qkv: Tensor, n_head: Sequence[int]) -> Tensor:
    """Causal attention of R runs, run r with n_head[r] heads: qkv (R, B, T, 3 D) → (R, B, T, D).

    qkv is fp32 or bf16, on the CPU: each token's queries, keys and values, side by side. Every n_head[r] divides D.
    """
    return _attend(qkv, list(n_head))[0]


def few_rows(x: Tensor, weight: Tensor) -> bool:
    """Whether `multiply_few` is the faster product: fp32 on the CPU, a few rows, nothing to differentiate."""
    few = x.numel() <= FEW_ROWS * len(x) * x.shape[-1] and weight.shape[2] % BLOCK == 0
    return few and x.dtype == weight.dtype == torch.float32 and not torch.is_grad_enabled()


def multiply_few(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight + bias for each run: x (R, …, d_in), weight (R, d_in, d_out), bias (R, d_out) → (R, …, d_out)."""
    n_run, d_in, d_out = weight.shape
    x, out = x.contiguous(), x.new_empty(*x.shape[:-1], d_out)
    sizes = (ctypes.c_int64(size) for size in (n_run, x.numel() // (n_run * d_in), d_in, d_out))
    tensors = (ctypes.c_void_p(t.data_ptr() if t is not None else None) for t in (x, weight, bias, out))
    _library.multiply_few(*sizes, *tensors, torch.get_num_threads())
    return out


class StackCache:
    """Keys and values of one layer for all runs: as model.attention.Cache, for one new token a call and fp32."""

    def __init__(self, block_size: int):
        self.room = -(-block_size // BLOCK) * BLOCK
        self.length = 0  # tokens held

    @property
    def position(self) -> Tensor:
        """Place of the next token, (1,)."""
        return torch.tensor([self.length])

    def put(self, qkv: Tensor, groups: Sequence[tuple[int, int]]) -> None:
        """Hold the first T tokens: qkv (R, B, T, 3 D); groups (H, runs of that H), as CausalMHA has them."""
        self.n_head = [n_head for n_head, runs in groups for _ in range(runs)]
        n_run, n_sequence, self.length, width = qkv.shape
        room = n_run, n_sequence, self.room * width // 3
        self.keys, self.values = qkv.new_zeros(room), qkv.new_zeros(math.prod(room) + BLOCK)
        values = self.values[:-BLOCK].view(room)  # behind them, a narrow head's last vector reads on
        blocks = -(-self.length // BLOCK)
        for run, n_head in enumerate(self.n_head):
            _, k, v = qkv[run].unflatten(-1, (3, n_head, -1)).permute(2, 0, 3, 1, 4)  # (B, H, T, d_h)
            values[run].view(n_sequence, n_head, self.room, -1)[:, :, : self.length] = v
            k = F.pad(k, (0, 0, 0, blocks * BLOCK - self.length)).unflatten(2, (blocks, BLOCK)).transpose(-2, -1)
            self.keys[run].view(n_sequence, n_head, self.room // BLOCK, -1, BLOCK)[:, :, :blocks] = k

    def attend(self, qkv: Tensor) -> Tensor:
        """Add one token and attend from it to all so far: qkv (R, B, 1, 3 D) → (R, B, 1, D)."""
        if qkv.shape[2] != 1:
            raise ValueError(f"a cache that holds tokens takes one at a time, not {qkv.shape[2]}")
        out = qkv.new_empty(*qkv.shape[:-1], qkv.shape[-1] // 3)
        tensors = (ctypes.c_void_p(x.data_ptr()) for x in (qkv.contiguous(), self.keys, self.values, out))
        stack = _stack(qkv, self.room, self.n_head)
        _library.attend_next(ctypes.byref(stack), *tensors, ctypes.c_int64(self.length))
        self.length += 1
        return out

    def clear(self) -> None:
        """Hold nothing."""
        self.length = 0
