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
        "activation_function": config.activation,
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
    """Copy GPT-2's tensors (Hugging Face names, of GPT2LMHeadModel or GPT2Model) into run `run`.

    Positions beyond the model's block_size are left out.

    Raises:
        ValueError: where a tensor is missing or has another shape; the message names it.
    """
    prefix = PREFIX if PREFIX + "wte.weight" in tensors else ""
    for name, parameter in model.named_parameters():
        tensor = tensors.get(prefix + name)
        if tensor is None:
            raise ValueError(f"{prefix + name} is missing")
        if name == "wpe.weight" and tensor.dim() == 2:
            tensor = tensor[: parameter.shape[1]]
        if tensor.shape != parameter.shape[1:]:
            raise ValueError(f"{prefix + name} is {tuple(tensor.shape)}, expected {tuple(parameter.shape[1:])}")
        parameter[run] = tensor.to(parameter)


ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new"}
"""Hugging Face's names of the activations that ModelConfig has."""
AS_GPT2 = {
    "model_type": "gpt2",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
"""Keys of a config.json that this network has no choice in."""


def model_config(config: Mapping) -> ModelConfig:
    """The ModelConfig (its n_head included) of a GPT-2's config.json, where this network can be that GPT-2.

    Keys that config.json leaves out have GPT-2's own values. Dropout is 0, whatever the GPT-2 was trained with.

    Raises:
        ValueError: names the key that this network has no counterpart of.
    """
    for key, value in AS_GPT2.items():
        if (held := config.get(key, value)) != value:
            raise ValueError(f"{key} is {held!r}, only {value!r} can be loaded")
    sizes = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024}
    sizes |= {key: config[key] for key in sizes if key in config}
    for key, value in sizes.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{key} is {value!r}, not a number above 0")
    if sizes["n_embd"] % sizes["n_head"]:
        raise ValueError(f"n_head {sizes['n_head']} does not divide n_embd {sizes['n_embd']}")
    if config.get("n_inner") not in (None, 4 * sizes["n_embd"]):
        raise ValueError(f"n_inner is {config['n_inner']!r}, only 4 n_embd = {4 * sizes['n_embd']} can be loaded")
    activation = config.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"activation_function is {activation!r}, only {', '.join(ACTIVATIONS)} can be loaded")
    return ModelConfig(
        n_layer=sizes["n_layer"],
        n_head=sizes["n_head"],
        n_embd=sizes["n_embd"],
        block_size=sizes["n_positions"],
        bias=bool(config.get("headcount_bias", True)),
        activation=ACTIVATIONS[activation],
    )
