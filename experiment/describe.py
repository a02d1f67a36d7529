"""`train.py --describe`: the shapes through one block, the parameters, and what each H costs, without training."""

import dataclasses

import torch

from data.config import TIKTOKEN_SIZES
from experiment.config import Config
from model.describe import Step, flops_per_token, parameter_table, score_bytes, trace_attention
from model.gpt import GPT
from training.table import columns


def description(config: Config) -> str:
    """Text for the terminal; every shape in it is read off a forward pass, every count off a model."""
    vocab_size = _vocab_size(config)
    batch_size = config.train.batch_size
    parts = [
        f"{config.name}: D = {config.model.n_embd}, {config.model.n_layer} layers, T = {config.model.block_size}, "
        f"batch B = {batch_size}, vocabulary {vocab_size:,}"
    ]
    for heads in config.head_counts:
        model = dataclasses.replace(config.model, attention="explicit")
        steps = trace_attention(model, vocab_size, heads, batch_size=2)
        parts.append(f"H = {heads}: attention of one block, a batch of 2\n{trace_text(steps)}")
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
        "the explicit core holds them, sdpa does not."
    )
    return "\n\n".join(parts)


def trace_text(steps: list[Step]) -> str:
    """The shapes of one forward pass in a few lines, and the line D → H × d_h → D."""
    split = next(step.shape for step in steps if step.operation == "unflatten" and len(step.shape) == 4)
    heads_first = next(step.shape for step in steps if step.operation == "transpose")
    scores = next(step.shape for step in steps if step.operation == "masked_fill")
    pattern = next(step.shape for step in steps if step.operation == "softmax")
    after = steps[[step.operation for step in steps].index("softmax") + 1 :]
    z, back, merged = after[0].shape, after[1].shape, after[2].shape
    projected = next(step.shape for step in steps if step.operation == "unflatten" and len(step.shape) == 3)
    lines = [
        ("x", "(B, T, D)", steps[0].shape),
        ("x W_QKV", "(B, T, 3 D)", projected),
        ("q, k, v split into heads", "(B, T, H, d_h)", split),
        ("heads beside the batch", "(B, H, T, d_h)", heads_first),
        ("scores = q kᵀ / sqrt(d_h), masked", "(B, H, T, T)", scores),
        ("pattern = softmax(scores)", "(B, H, T, T)", pattern),
        ("z = pattern v", "(B, H, T, d_h)", z),
        ("heads beside the width", "(B, T, H, d_h)", back),
        ("concat", "(B, T, D)", merged),
        ("out = concat W_0", "(B, T, D)", steps[-1].shape),
    ]
    width = max(len(name) for name, _, _ in lines)
    text = [f"  {name.ljust(width)}  {symbols.ljust(14)}  {shape}" for name, symbols, shape in lines]
    text.append(f"  {steps[0].shape[-1]} → {split[-2]} × {split[-1]} → {merged[-1]}")
    return "\n".join(text)


def _vocab_size(config: Config) -> int:
    """The vocabulary's size where the config alone settles it; a char vocabulary is read off the corpus."""
    if config.data.tokenizer == "bpe":
        return config.data.vocab_size
    if config.data.tokenizer in TIKTOKEN_SIZES:
        return TIKTOKEN_SIZES[config.data.tokenizer]
    from data.dataset import prepare

    return prepare(config.data).tokenizer.vocab_size
