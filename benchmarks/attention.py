"""Time and peak memory of the attention implementations, forward and backward, against H at fixed D.

python -m benchmarks.attention [--n_embd 384] [--block_sizes 64 256 1024 2048]
"""

import argparse
import statistics
from collections.abc import Callable

import torch

from analysis.measure.cost import peak_allocation
from benchmarks.common import MIB, finish, interleaved, parser, seconds, start, table
from model.attention import Attention, eager_attention
from model.fast.build import have_kernel
from model.fast.cpu import attend_stack
from model.fast.sdpa import fused_attention
from training.settings import keep_freed_memory


def main() -> None:
    options = arguments()
    keep_freed_memory()
    device = start(options)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    attention = {"eager": eager_attention, "sdpa": fused_attention}
    if device.type == "cpu" and have_kernel():
        attention["ours"] = attend_stack
    rows, figures = [], []
    for length in options.block_sizes:
        batch_size = max(1, options.tokens // length)
        for n_head in options.n_head:
            shape = batch_size, length, options.n_embd
            work = {name: step(attend, n_head, shape, device, dtype) for name, attend in attention.items()}
            memory = {name: peak_bytes(f, device) / MIB for name, f in work.items()}  # and warm
            timed = interleaved({name: lambda f=f: seconds(f, device) for name, f in work.items()}, options.repeats)
            ms = {name: 1e3 * statistics.median(times) for name, times in timed.items()}
            rows.append([length, batch_size, n_head, options.n_embd // n_head])
            rows[-1] += [f"{time:.2f}" for time in ms.values()] + [f"{ms['eager'] / ms[name]:.2f}" for name in ms][1:]
            rows[-1] += [f"{mib:,.0f}" for mib in memory.values()]
            figures.append({"block_size": length, "n_head": n_head, "ms": ms, "peak_mib": memory})
    print(f"D {options.n_embd}, {options.precision}, {options.tokens} tokens a batch; forward and backward\n")
    head = ["T", "B", "H", "d_h", *(f"{name} ms" for name in attention)]
    head += [f"{name} times faster" for name in attention][1:] + [f"{name} MiB" for name in attention]
    print(table(head, rows))
    finish(options, device, {"n_embd": options.n_embd, "precision": options.precision, "results": figures})


def arguments() -> argparse.Namespace:
    result = parser(__doc__.splitlines()[0], repeats=5)
    result.add_argument("--n_embd", type=int, default=128, help="width D")
    result.add_argument("--n_head", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="head counts")
    result.add_argument("--block_sizes", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048], help="T")
    result.add_argument("--tokens", type=int, default=8192, help="tokens in a batch: B is tokens / T")
    result.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of q, k and v")
    return result.parse_args()


def step(
    attention: Attention, n_head: int, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> Callable[[], object]:
    """One forward and backward pass over shape (B, T, D), from q, k and v as the product with W_QKV leaves them."""
    qkv = torch.randn(1, *shape[:2], 3 * shape[2], device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn(1, *shape, device=device, dtype=dtype)
    return lambda: torch.autograd.grad(attention(qkv, [n_head]), qkv, gradient)


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Most bytes that `work` holds at once, beyond those that lay there before."""
    if device.type != "cuda":
        return peak_allocation(work)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


if __name__ == "__main__":
    main()
