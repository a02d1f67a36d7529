"""What one block does to the shapes, what the network's parameters are, and what H costs: facts for --describe."""

import dataclasses
from collections import defaultdict

import torch

from model.attention import HOOK_POINTS
from model.config import ModelConfig
from model.fast import EAGER
from model.gpt import GPT
from model.hooks import run_with_cache

SCORE_OPERATIONS = 6
"""Operations on an attention score besides the matrix products: scale, maximum, subtract, exponential, sum, divide."""


def attention_shapes(config: ModelConfig, n_head: int, batch_size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of one run's tensors through the attention of a block, the run axis left out, in the order of the pass.

    Keys: x (its input), qkv, and the hook points of attention. Read off a forward pass whose tensors have shapes and no
    data, so any size can be looked at.
    """
    with torch.device("meta"):
        model = GPT(dataclasses.replace(config, n_layer=1, dropout=0.0), 1, [n_head], EAGER)
        tokens = torch.zeros(1, batch_size, config.block_size, dtype=torch.long)
    inside = {"x": "h.0.ln_1", "qkv": "h.0.attn.c_attn"} | {point: f"h.0.attn.{point}" for point in HOOK_POINTS}
    with torch.no_grad():
        seen = run_with_cache(model, tokens, list(inside.values()))[1]
    return {name: tuple(seen[place].shape[1:]) for name, place in inside.items()}


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
    """Bytes of one layer's attention scores (B, H, T, T), which eager attention holds and the fused one does not."""
    return batch_size * n_head * config.block_size**2 * element_size
