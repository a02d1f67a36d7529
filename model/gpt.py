"""GPT-2 as nanoGPT trains it, R runs side by side: pre-norm blocks, learned positions, GELU, tied embeddings.

Read it top to bottom: GPT is Blocks, a Block is CausalMHA (see attention.py) and an MLP. Every tensor has a leading
run axis R; a single model is R = 1. Module names are GPT-2's, so that one run's tensors are a GPT-2 (see gpt2.py).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import CausalMHA
from model.config import ModelConfig
from model.fast import Kernels, kernels_for
from model.fast.cache import KeyValueCache
from model.layers import Dropout, Embedding, LayerNorm, Linear


class MLP(nn.Module):
    """D → 4 D → GELU → D, for each of R runs."""

    def __init__(self, config: ModelConfig, n_run: int, kernels: Kernels, layer: int):
        super().__init__()
        self.c_fc = Linear(n_run, config.n_embd, 4 * config.n_embd, config.bias, kernels.product)
        self.c_proj = Linear(n_run, 4 * config.n_embd, config.n_embd, config.bias, kernels.product)
        self.dropout = Dropout(config.dropout, 3 * layer + 3)
        self.approximate = "tanh" if config.activation == "gelu_new" else "none"

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)): (R, B, T, D) → (R, B, T, D)."""

    def __init__(self, config: ModelConfig, n_head: Sequence[int], kernels: Kernels, layer: int):
        super().__init__()
        n_run = len(n_head)
        self.ln_1 = LayerNorm(n_run, config.n_embd, config.bias)
        self.attn = CausalMHA(
            config.n_embd, n_head, config.bias, config.dropout, kernels.attention, kernels.product, layer
        )
        self.ln_2 = LayerNorm(n_run, config.n_embd, config.bias)
        self.mlp = MLP(config, n_run, kernels, layer)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), None if cache is None else cache.attend)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """R language models of one width that may differ in their number of heads.

    Args:
        config: the network; config.n_head is ignored.
        vocab_size: V, tokens.
        n_head: heads of each run, R numbers that divide n_embd; runs of equal H should stand together.
        kernels: what it computes with (see model/fast); None: what runs on every device, with nothing built.

    Raises:
        ValueError: where a head count does not divide n_embd.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, n_head: Sequence[int], kernels: Kernels | None = None):
        super().__init__()
        for heads in n_head:
            if heads < 1 or config.n_embd % heads:
                raise ValueError(f"n_embd {config.n_embd} does not split into {heads} heads")
        self.config = config
        self.vocab_size = vocab_size
        self.n_head = tuple(n_head)
        self.kernels = kernels or kernels_for(config)
        n_run = len(n_head)
        self.wte = Embedding(n_run, vocab_size, config.n_embd)
        self.wpe = Embedding(n_run, config.block_size, config.n_embd)
        self.drop = Dropout(config.dropout, 0)
        self.h = nn.ModuleList(Block(config, n_head, self.kernels, layer) for layer in range(config.n_layer))
        self.ln_f = LayerNorm(n_run, config.n_embd, config.bias)

    def embed(self, tokens: Tensor, first: Tensor | int = 0) -> Tensor:
        """Tokens (R, B, T), the first at position `first`, → the residual stream before the blocks (R, B, T, D)."""
        position = torch.arange(tokens.shape[-1], device=tokens.device) + first
        return self.drop(self.wte(tokens) + self.wpe.weight[:, None, position])  # positions: (R, 1, T, D)

    def hidden(self, tokens: Tensor, cache: Sequence[KeyValueCache] | None = None) -> Tensor:
        """Tokens (R, B, T) → the final layer norm's output (R, B, T, D). With a cache, tokens go on after it."""
        x = self.embed(tokens, cache[0].position if cache else 0)
        for layer, block in enumerate(self.h):
            x = block(x, cache[layer] if cache else None)
        return self.ln_f(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """(R, B, T, D) → (R, B, T, V), by the transposed token embedding (tied weights)."""
        return torch.bmm(hidden.flatten(1, -2), self.wte.weight.transpose(1, 2)).unflatten(1, hidden.shape[1:-1])

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (R, B, T) → logits (R, B, T, V)."""
        return self.logits(self.hidden(tokens))

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy of each token, nats, (R, B, T), from what `hidden` returns; 0 where the target is -1."""
        logits = self.logits(hidden).flatten(0, -2).float()
        return F.cross_entropy(logits, targets.flatten(), ignore_index=-1, reduction="none").view(targets.shape)

    def token_losses(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy of each token, nats, (R, B, T); tokens and targets (R, B, T); 0 where the target is -1."""
        return self.losses(self.hidden(tokens), targets)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy of each run over all B T tokens, nats a token, (R,)."""
        return self.token_losses(tokens, targets).mean((1, 2))

    @torch.no_grad()
    def init_weights(self, seeds: Sequence[int]) -> None:
        """Draw run r's weights from seeds[r] alone, on the CPU, so that equal seeds give equal weights on every device.

        GPT-2's initialisation: normal with deviation 0.02, 0.02 / sqrt(2 n_layer) for the two projections back into
        the residual stream (Radford et al. 2019, section 2.3); norms 1, biases 0.
        """
        residual_std = 0.02 / math.sqrt(2 * self.config.n_layer)
        for seed in dict.fromkeys(seeds):
            generator = torch.Generator().manual_seed(seed)
            runs = [r for r, other in enumerate(seeds) if other == seed]
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter[runs] = 0.0
                elif ".ln_" in name or name.startswith("ln_"):  # a norm's weight: h.0.ln_1, …, ln_f
                    parameter[runs] = 1.0
                else:
                    std = residual_std if name.endswith("c_proj.weight") else 0.02
                    value = torch.randn(parameter.shape[1:], generator=generator) * std
                    parameter[runs] = value.to(parameter.device)

    def set_dropout_keys(self, keys: Tensor) -> None:
        """Give run r the key keys[r] (int64, below 2³²) for the masks of the next training step."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.keys = keys

    def new_cache(self) -> list[KeyValueCache]:
        """An empty key-value cache, one a layer."""
        return [self.kernels.cache(self.config.block_size, self.wte.weight.device) for _ in self.h]

    def n_parameters(self) -> int:
        """Parameters of one run, the tied embedding counted once."""
        return sum(p[0].numel() for p in self.parameters())
