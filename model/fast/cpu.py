"""What a stack computes on a CPU by the compiled code of cpu.cpp: attention of all runs in one call, and thin products.

PyTorch's fused kernel takes one number of heads at a time and wants the heads apart; on small blocks most of its time
goes into arranging them. Here every run is attended where it lies. `load` takes the compiled library; whoever builds it
is not this module's business.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from model.layers import batched_product

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


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `batched_product`; by our kernel where few rows (sampling) in fp32 leave reading the weights as the work."""
    n_run, d_in, d_out = weight.shape
    few = x.shape[1] <= FEW_ROWS and d_out % BLOCK == 0 and x.dtype == weight.dtype == torch.float32
    if not few or torch.is_grad_enabled():
        return batched_product(x, weight, bias)
    x, out = x.contiguous(), x.new_empty(n_run, x.shape[1], d_out)
    sizes = (ctypes.c_int64(size) for size in (n_run, x.shape[1], d_in, d_out))
    tensors = (ctypes.c_void_p(t.data_ptr() if t is not None else None) for t in (x, weight, bias, out))
    _library.multiply_few(*sizes, *tensors, torch.get_num_threads())
    return out


class KernelCache:
    """Keys and values of one layer for all runs, fp32, laid out as the kernel reads them; see model/fast/cache.py."""

    def __init__(self, block_size: int, device: torch.device):
        self.room = -(-block_size // BLOCK) * BLOCK
        self.length = 0  # tokens held
        self.held: tuple[Tensor, Tensor] | None = None  # keys, values

    @property
    def position(self) -> Tensor:
        """Index of the next token, (1,)."""
        return torch.tensor([self.length])

    def attend(self, qkv: Tensor, n_head: Sequence[int]) -> Tensor:
        """See KeyValueCache."""
        n_run, n_sequence, count, width = qkv.shape
        if self.held is None:
            room = n_run * n_sequence * self.room * width // 3
            # behind the values, a narrow head's last vector reads on
            self.held = qkv.new_zeros(room), qkv.new_zeros(room + BLOCK)
        out = qkv.new_empty(*qkv.shape[:-1], width // 3)
        tensors = (ctypes.c_void_p(x.data_ptr()) for x in (qkv.contiguous(), *self.held, out))
        stack = _stack(qkv, self.room, n_head)
        _library.attend_next(ctypes.byref(stack), *tensors, ctypes.c_int64(self.length), ctypes.c_int64(count))
        self.length += count
        return out

    def clear(self) -> None:
        """Hold nothing, and keep the tensors for what comes next."""
        self.length = 0
