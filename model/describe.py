"""What one block does to the shapes, what the network's parameters are, and what H costs: facts for --describe.

The shapes come from a real forward pass: every tensor operation inside the attention module is watched as it happens.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from model.config import ModelConfig
from model.gpt import GPT

SCORE_OPERATIONS = 6
"""Operations on an attention score besides the matrix products: scale, maximum, subtract, exponential, sum, divide."""


@dataclass(frozen=True)
class Step:
    """One operation of the attention module: PyTorch's name, what it made, and the named point it feeds, if any."""

    operation: str
    shape: tuple[int, ...]


class _Watch(TorchFunctionMode):
    """Records the name and the resulting shape of every tensor function that runs under it."""

    def __init__(self):
        super().__init__()
        self.steps: list[Step] = []

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, (tuple, list)) and result else result
        if isinstance(first, Tensor) and first.dim() > 2:
            self.steps.append(Step(getattr(func, "__name__", str(func)), tuple(first.shape)))
        return result


def trace_attention(config: ModelConfig, vocab_size: int, n_head: int, batch_size: int) -> list[Step]:
    """Run a batch through a model of one run and list what its first block's attention did; the run axis is left out.

    The first step is the module's input (B, T, D), the last one its output. The tensors have shapes and no data: any
    size can be looked at.
    """
    fake = FakeTensorMode()
    with fake:
        model = GPT(dataclasses.replace(config, n_layer=1), vocab_size, [n_head]).eval()
    watch = _Watch()
    attention = model.h[0].attn

    def begin(module: nn.Module, inputs: tuple) -> None:
        watch.steps.append(Step("x", tuple(inputs[0].shape)))
        watch.__enter__()

    def end(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        watch.__exit__(None, None, None)
        watch.steps.append(Step("out", tuple(output.shape)))

    hooks = [attention.register_forward_pre_hook(begin), attention.register_forward_hook(end)]
    with torch.no_grad(), fake:
        model(torch.zeros(1, batch_size, config.block_size, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    return [Step(step.operation, step.shape[1:]) for step in watch.steps if step.shape[0] == 1]


def parameter_table(model: GPT) -> dict[str, int]:
    """Parameters of one run by component, in the order of the forward pass; blocks are added up over layers."""
    names = {
        "wte": "token embedding (also the output layer)",
        "wpe": "position embedding",
        "attn.c_attn": "attention: W_Q, W_K, W_V",
        "attn.c_proj": "attention: W_0",
        "mlp.c_fc": "MLP: D → 4 D",
        "mlp.c_proj": "MLP: 4 D → D",
        "ln": "layer norms",
    }
    table = defaultdict(int)
    for name, parameter in model.named_parameters():
        key = next(key for key in names if key in name)
        table[names[key]] += parameter[0].numel()
    return {component: table[component] for component in names.values()}


def flops_per_token(config: ModelConfig, vocab_size: int, n_head: int) -> dict[str, int]:
    """Floating-point operations of one token's forward pass, all T = block_size scores a query counted.

    Matrix products (2 operations a multiply-add): 24 L D² in the blocks, 2 D V in the output layer, 4 L T D for
    q kᵀ and pattern·v. Those do not depend on H: H · d_h = D. The softmax does: H · T scores a token and layer,
    SCORE_OPERATIONS each. Training takes three times as much (the backward pass twice the forward; Kaplan et al. 2020).
    """
    layers, width, length = config.n_layer, config.n_embd, config.block_size
    return {
        "projections and MLP": 24 * layers * width**2,
        "output layer": 2 * width * vocab_size,
        "attention products": 4 * layers * length * width,
        "attention softmax": SCORE_OPERATIONS * layers * n_head * length,
    }


def score_bytes(config: ModelConfig, n_head: int, batch_size: int, element_size: int = 4) -> int:
    """Bytes of one layer's attention scores (B, H, T, T), which the explicit core holds and the fused one does not."""
    return batch_size * n_head * config.block_size**2 * element_size
