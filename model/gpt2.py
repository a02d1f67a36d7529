"""One run of a stack as a GPT-2 in Hugging Face format, and back.

Our layers lie as GPT-2's do (Conv1D weights, tied embeddings), so this is a matter of names: `h.0.attn.c_attn.weight`
of run r is `transformer.h.0.attn.c_attn.weight`. GPT-2 always has biases: where ours has none, zeros stand there.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.config import ModelConfig
from model.gpt import GPT

PREFIX = "transformer."


def gpt2_config(model: GPT, run: int, eot: int | None = None) -> dict:
    """The config.json with which transformers' GPT2LMHeadModel is run `run` of the model; `eot`: end-of-text token."""
    config = model.config
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu",
        "n_layer": config.n_layer,
        "n_head": model.n_head[run],
        "n_embd": config.n_embd,
        "n_positions": config.block_size,
        "vocab_size": model.vocab_size,
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "bos_token_id": eot,
        "eos_token_id": eot,
        "tie_word_embeddings": True,
        "dtype": "float32",
        "headcount_bias": config.bias,
    }


def gpt2_tensors(model: GPT, run: int) -> dict[str, Tensor]:
    """GPT-2's tensors of run `run`, by their Hugging Face names, contiguous, on the CPU."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[PREFIX + name] = parameter.detach()[run].cpu().contiguous()
        if name.endswith(".weight") and not model.config.bias and not name.startswith(("wte", "wpe")):
            tensors[PREFIX + name.removesuffix("weight") + "bias"] = torch.zeros(parameter.shape[-1])
    return tensors


@torch.no_grad()
def load_gpt2_tensors(model: GPT, run: int, tensors: Mapping[str, Tensor]) -> None:
    """Copy GPT-2's tensors (Hugging Face names) into run `run`.

    Raises:
        ValueError: where a tensor is missing or has another shape; the message names it.
    """
    for name, parameter in model.named_parameters():
        tensor = tensors.get(PREFIX + name)
        if tensor is None:
            raise ValueError(f"{PREFIX + name} is missing")
        if tensor.shape != parameter.shape[1:]:
            raise ValueError(f"{PREFIX + name} is {tuple(tensor.shape)}, expected {tuple(parameter.shape[1:])}")
        parameter[run] = tensor.to(parameter)


def model_config(config: Mapping) -> ModelConfig:
    """The ModelConfig of a config.json that gpt2_config wrote (its n_head included)."""
    return ModelConfig(
        n_layer=config["n_layer"],
        n_head=config["n_head"],
        n_embd=config["n_embd"],
        block_size=config["n_positions"],
        dropout=config["resid_pdrop"],
        bias=config["headcount_bias"],
    )
