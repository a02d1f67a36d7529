"""The network's settings, in GPT-2's and nanoGPT's names. Light to import: torch is not loaded here."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass
class ModelConfig:
    """The network. None of its parameters' shapes depends on n_head."""

    n_layer: Annotated[int, Field(gt=0, le=1000)] = 4
    """Number of transformer blocks."""

    n_head: Annotated[int, Field(gt=0)] | None = None
    """Number of attention heads H, where the sweep does not set it; must divide n_embd."""

    n_embd: Annotated[int, Field(gt=0, le=2**16)] = 128
    """Width D of the residual stream, features."""

    block_size: Annotated[int, Field(gt=0, le=2**17)] = 128
    """Longest context T, tokens."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping an activation in training, 0 up to but not including 1."""

    bias: bool = False
    """Biases in linear layers and layer norms: true as in GPT-2, false as nanoGPT trains."""

    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention implementation: sdpa (a fused kernel: PyTorch's, or on a CPU our own) or eager (the textbook
    softmax, every tensor a hook point)."""

    activation: Literal["gelu", "gelu_new"] = "gelu"
    """Activation of the MLP: gelu (exact, as nanoGPT) or gelu_new (GPT-2's own, with a tanh)."""

    init: str | None = None
    """A GPT-2 in Hugging Face format that every run starts from, a folder or a name on the hub; null: random weights.
    It sets n_layer, n_embd, bias, activation and, where not given, block_size and n_head. Short: --init."""
