"""`train.py --describe`: the shapes through one block, the parameters, and what each H costs, without training."""

import textwrap

import torch

from data.config import TIKTOKEN_SIZES
from experiment.config import Config
from experiment.pretrained import open_pretrained
from model.describe import attention_shapes, flops_per_token, parameter_table, score_bytes
from model.gpt import GPT
from terminal import counted, table

WIDTH = 80
ASSUMED_VOCABULARY = 256

TENSORS = {
    "x": "(T, D)",
    "qkv": "(T, 3 D)",
    "q": "(H, T, d_h)",
    **dict.fromkeys(("scores", "pattern"), "(H, T, T)"),
    "z": "(H, T, d_h)",
    **dict.fromkeys(("concat", "out"), "(T, D)"),
}
"""Tensors of attention in the order of the pass: x its input, the others as model.attention names its hook points, of
q, k and v, whose shapes are the same, the first."""


def description(config: Config) -> str:
    """Text for an 80 column terminal; every shape is read off a forward pass, every count off a model, no corpus."""
    model, heads = config.model, config.head_counts
    vocab_size = _vocab_size(config)
    assumed = "" if vocab_size else " (assumed: char counts it when the corpus is read)"
    vocab_size = vocab_size or ASSUMED_VOCABULARY
    with torch.device("meta"):  # shapes without data
        network = GPT(model, vocab_size, heads[:1])
    parameters = {**parameter_table(network), "total, the same for every H": network.n_parameters()}
    costs = [flops_per_token(model, vocab_size, count) for count in heads]
    cost_rows = [
        ["d_h", *(str(model.n_embd // count) for count in heads)],
        *([name, *(f"{cost[name]:,}" for cost in costs)] for name in costs[0]),
        ["FLOPs a token", *(f"{sum(cost.values()):,}" for cost in costs)],
        ["MiB of scores", *(f"{score_bytes(model, count, config.train.batch_size) / 2**20:,.1f}" for count in heads)],
    ]
    told = (
        f"{config.name}: D = {model.n_embd}, {counted(model.n_layer, 'layer')}, T = {model.block_size}, batch "
        f"B = {config.train.batch_size}, vocabulary {vocab_size:,}{assumed}"
    )
    legend = (
        "FLOPs of a token's forward pass; training takes three times as much. Scores are a layer's (B, H, T, T) in "
        "fp32: eager attention holds them, sdpa does not."
    )
    parts = [
        textwrap.fill(told, WIDTH),
        shape_table(config),
        table(["component", "parameters"], [[name, f"{count:,}"] for name, count in parameters.items()]),
        table(["H", *map(str, heads)], cost_rows, WIDTH) + "\n" + textwrap.fill(legend, WIDTH),
    ]
    return "\n\n".join(parts)


def shape_table(config: Config) -> str:
    """Shapes of one sequence through the attention of a block, a column for each H; D → H × d_h → D below it."""
    shapes = {heads: attention_shapes(config.model, heads, batch_size=1) for heads in config.head_counts}
    names = {name: "q, k, v" if name == "q" else name for name in TENSORS}
    rows = [[f"{names[t]} {symbols}", *(_sizes(of[t]) for of in shapes.values())] for t, symbols in TENSORS.items()]
    split = "; ".join("{} → {} × {} → {}".format(*_split(of)) for of in shapes.values())
    title = "Attention of one block, for each sequence of the batch: X W_QKV → heads → W_0"
    lines = textwrap.wrap(split.replace(" ", "\u00a0").replace(";\u00a0", "; "), WIDTH)
    return "\n".join([title, table(["H", *map(str, shapes)], rows, WIDTH), *lines]).replace("\u00a0", " ")


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape[1:]))


def _split(shapes: dict[str, tuple[int, ...]]) -> tuple[int, int, int, int]:
    """D, H, d_h, D as the tensors have them."""
    return shapes["x"][-1], shapes["q"][1], shapes["q"][-1], shapes["concat"][-1]


def _vocab_size(config: Config) -> int | None:
    """The vocabulary's size where the config alone settles it; None: the corpus does."""
    if config.data.tokenizer == "bpe":
        return config.data.vocab_size
    if config.data.tokenizer == "init":
        return open_pretrained(config.model.init).vocab_size
    return TIKTOKEN_SIZES.get(config.data.tokenizer)
