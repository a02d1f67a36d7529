"""`train.py --describe`: the shapes through one block, the parameters, and what each H costs, without training."""

import textwrap

import torch

from data.config import TIKTOKEN_SIZES
from experiment.config import Config
from model.describe import attention_shapes, flops_per_token, parameter_table, score_bytes
from model.gpt import GPT
from text import columns

TENSORS = {
    "x": "(T, D)",
    "qkv": "(T, 3 D)",
    **dict.fromkeys("qkv", "(H, T, d_h)"),
    **dict.fromkeys(("scores", "pattern"), "(H, T, T)"),
    "z": "(H, T, d_h)",
    **dict.fromkeys(("concat", "out"), "(T, D)"),
}
"""Tensors of attention in the order of the pass: x its input, the others as model.attention names its hook points."""


def description(config: Config) -> str:
    """Text for the terminal; every shape in it is read off a forward pass, every count off a model."""
    vocab_size = _vocab_size(config)
    batch_size = config.train.batch_size
    parts = [
        f"{config.name}: D = {config.model.n_embd}, {config.model.n_layer} layers, T = {config.model.block_size}, "
        f"batch B = {batch_size}, vocabulary {vocab_size:,}"
    ]
    parts.append(shape_table(config))
    with torch.device("meta"):  # shapes without data
        model = GPT(config.model, vocab_size, [config.head_counts[0]])
    parameters = parameter_table(model)
    rows = [[name, f"{count:,}"] for name, count in parameters.items()]
    table = columns(["component", "parameters"], [*rows, ["total, the same for every H", f"{model.n_parameters():,}"]])
    parts.append(table)
    costs = {heads: flops_per_token(config.model, vocab_size, heads) for heads in config.head_counts}
    header = ["H", "d_h", *costs[config.head_counts[0]], "FLOPs/token", "scores of a layer"]
    rows = [
        [
            str(heads),
            str(config.model.n_embd // heads),
            *(f"{value:,}" for value in cost.values()),
            f"{sum(cost.values()):,}",
            f"{score_bytes(config.model, heads, batch_size) / 2**20:,.1f} MiB",
        ]
        for heads, cost in costs.items()
    ]
    parts.append(
        columns(header, rows) + "\nForward pass; training takes three times as much. Scores (B, H, T, T) in fp32: "
        "eager attention holds them, sdpa does not."
    )
    return "\n\n".join(parts)


def shape_table(config: Config) -> str:
    """Shapes of one sequence through the attention of a block, a column for each H; D → H × d_h → D below it."""
    shapes = {heads: attention_shapes(config.model, heads, batch_size=1) for heads in config.head_counts}
    width = 2 + max(len(_sizes(shape)) for of_heads in shapes.values() for shape in of_heads.values())
    fitting = max(1, (80 - 23) // width)
    parts = ["Attention of one block, a sequence: X W_QKV → heads → W_0"]
    for first in range(0, len(shapes), fitting):
        some = config.head_counts[first : first + fitting]
        rows = [[name, symbols, *(_sizes(shapes[heads][name]) for heads in some)] for name, symbols in TENSORS.items()]
        parts.append(columns(["tensor", "shape", *(f"H={heads}" for heads in some)], rows))
    split = "; ".join("{} → {} × {} → {}".format(*_split(shapes[heads])) for heads in config.head_counts)
    return "\n".join([*parts, *textwrap.wrap(split, 80)])


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape[1:]))


def _split(shapes: dict[str, tuple[int, ...]]) -> tuple[int, int, int, int]:
    """D, H, d_h, D as the tensors have them."""
    return shapes["x"][-1], shapes["q"][1], shapes["q"][-1], shapes["concat"][-1]


def _vocab_size(config: Config) -> int:
    """The vocabulary's size where the config alone settles it; a char vocabulary is read off the corpus."""
    if config.data.tokenizer == "bpe":
        return config.data.vocab_size
    if config.data.tokenizer in TIKTOKEN_SIZES:
        return TIKTOKEN_SIZES[config.data.tokenizer]
    from data.dataset import prepare

    return prepare(config.data).tokenizer.vocab_size
