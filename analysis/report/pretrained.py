"""What the heads of a GPT-2 do that was not trained here: there is no sweep to compare, and its heads can be measured.

Measured on tales' stories, which need no download, read with the GPT-2's own tokenizer: the
measures of analysis.measure.
"""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from analysis.measure.ablation import MOST_STEPS, ablate
from analysis.measure.heads import MEASURES, measure_heads
from analysis.report.head_figures import heat_maps, similarity_maps
from analysis.report.head_sections import LABELS, definitions, rounded
from analysis.report.html import LOOK_BYTES, Part
from analysis.report.section import Picture, Section, Table
from analysis.report.viewer import LENGTH, fit, pack, patterns, token_texts
from data.tales import stories
from errors import InputError
from experiment.loaded import load_stack
from experiment.pretrained import Pretrained, open_pretrained
from machine import pick_device
from model.gpt import GPT

log = logging.getLogger("headcount")

STORIES = 16
ABLATION_STORIES = 4
"""Of them, those that a head's worth is measured on: a loss for every head."""
TOKENS = 256
"""Longest text that is looked at, tokens."""
LEAST_TOKENS = 4
"""The measures of a head tell apart three places at least."""


def pretrained_part(
    path: str,
    device: str = "auto",
    quick: bool = False,
    suffix: str = "",
    look_bytes: int = LOOK_BYTES,
) -> Part:
    """The GPT-2 in `path`, a folder or a name on the hub, as a part of a report. Raises InputError where there is none.

    quick: leave out what silencing each head costs. suffix: ends every id, where there are several parts. look_bytes:
    what the attention patterns of the explorer may take.
    """
    source = open_pretrained(path)
    source = dataclasses.replace(source, name=Path(source.name).name)  # a folder's name is short enough for a title
    config, tokenizer = source.config, source.tokenizer()
    model = load_stack([source], dataclasses.replace(config, attention="eager"), pick_device(device))
    ids = [tokenizer.encode(story.text)[: min(TOKENS, config.block_size)] for story in stories(STORIES, seed=1)]
    ids = [tokens for tokens in ids if len(tokens) >= LEAST_TOKENS]
    if not ids:
        raise InputError(f"{source.name}: a context of {config.block_size} tokens is too short to measure heads on")
    x, y, valid = (tensor.to(model.wte.weight.device) for tensor in windows(ids))
    name = f"{source.name}: D = {config.n_embd}, {config.n_layer} layers, H = {config.n_head}"
    log.info(f"heads: {source.name}")
    with tqdm(desc="heads", total=len(x), disable=None, leave=False, dynamic_ncols=True) as bar:
        found = measure_heads(model, x, valid, tokenizer.eot, bar.update)
    sections = [_heads(source, found, int(valid.sum()), suffix)]
    if not quick:
        log.info(f"ablation: {source.name}")
        steps = 1 + config.n_layer * config.n_head + MOST_STEPS
        with tqdm(desc="ablation", total=steps, disable=None, leave=False, dynamic_ncols=True) as bar:
            worth = ablate(model, x[:ABLATION_STORIES], y[:ABLATION_STORIES], bar.update)
        sections.append(_ablation(source, worth, suffix))
    facts = [
        ("Network", f"D = {config.n_embd}, {config.n_layer} layers, context {config.block_size} tokens"),
        ("Parameters", f"{model.n_parameters():,}"),
        ("Heads", f"H = {config.n_head} a layer, {config.n_head * config.n_layer} in all, d_h = {model_size(source)}"),
        ("Text", f"{len(ids)} short stories of this project's tales, {int(valid.sum()):,} of its tokens"),
    ]
    summary = {"name": source.name, "groups": [{"sentence": f"{name}: what each of its heads does."}], "notes": []}
    return Part(summary, sections, facts, explorer(source, model, ids, look_bytes), trained=False)


def explorer(source: Pretrained, model: GPT, ids: list[list[int]], budget: int) -> dict:
    """The first stories and where every head looks in them, as the page's explorer takes them (viewer.look)."""
    config = source.config
    count, length = fit(budget, config.n_head * config.n_layer, min(LENGTH, config.block_size))
    passages = [np.array(tokens[:length]) for tokens in ids[:count]]
    packed = [[pack(layer) for layer in patterns(model, torch.from_numpy(tokens))] for tokens in passages]
    tokenizer = source.tokenizer()
    return {
        "passages": [{"tokens": token_texts(tokenizer, tokens)} for tokens in passages],
        "runs": [{"n_head": config.n_head, "name": source.name, "patterns": packed}],
        "n_layer": config.n_layer,
    }


def model_size(source: Pretrained) -> int:
    """Features of a head, d_h = D / H."""
    return source.config.n_embd // source.config.n_head


def windows(ids: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Token lists as one batch: inputs (N, T), targets (N, T) with -1 where there is none, True at real inputs (N, T).

    What fills a row up stands after the text, where a causal model's tokens do not see it.
    """
    length = max(map(len, ids))
    x = torch.zeros(len(ids), length, dtype=torch.int64)
    y = torch.full_like(x, -1)
    valid = torch.zeros_like(x, dtype=torch.bool)
    for row, tokens in enumerate(ids):
        x[row, : len(tokens)] = torch.tensor(tokens)
        y[row, : len(tokens) - 1] = torch.tensor(tokens[1:])
        valid[row, : len(tokens)] = True
    return x, y, valid


def _heads(source: Pretrained, found: dict, tokens: int, suffix: str) -> Section:
    heads, title = source.config.n_head, f"the heads of {source.name}"
    maps = {LABELS[measure]: {heads: np.array(found[measure])} for measure in MEASURES}
    pictures = [
        Picture(f"heads{suffix}", "Every head: a measure a picture, a layer a row.", heat_maps(maps, title)),
    ]
    if heads > 1:
        caption = "How alike the heads of a layer look: 1 is the same pattern, 0 no token in common."
        figure = similarity_maps({heads: np.array(found["similarity"])}, f"{title}\nsimilarity within a layer")
        pictures.append(Picture(f"similarity{suffix}", caption, figure))
    kinds = {"rank": "rank", "effective_rank": "effective rank", "stable_rank": "stable rank"}
    rows = [
        [
            str(layer + 1),
            str(head + 1),
            *(f"{found[measure][layer][head]:.2f}" for measure in MEASURES),
            *(f"{found[kind][layer][head]:.1f}" for kind in kinds),
        ]
        for layer in range(source.config.n_layer)
        for head in range(heads)
    ]
    table = Table(
        f"heads-table{suffix}",
        f"Every head of {source.name}.",
        ["layer", "head", *(LABELS[measure] for measure in MEASURES), *kinds.values()],
        rows,
    )
    text = [f"Measured on {STORIES} short stories, {tokens:,} tokens.", *definitions()]
    return Section(f"heads{suffix}", "What do the heads do?", text, pictures, [table], rounded(found))


def _ablation(source: Pretrained, worth: dict, suffix: str) -> Section:
    alone = np.array(worth["alone"])
    layer, head = np.unravel_index(alone.argmax(), alone.shape)
    text = (
        f"Silencing a head replaces its output by zero. Over {worth['tokens']:,} tokens the loss is "
        f"{worth['loss']:.3f} nats per token; without head {head + 1} of layer {layer + 1}, the one that is missed "
        f"most, it rises by {alone.max():.3f} (Michel et al., NeurIPS 2019)."
    )
    maps = {"rise of the loss (nats per token)": {source.config.n_head: alone}}
    picture = Picture(
        f"ablation{suffix}",
        "How much the loss rises when one head is silenced.",
        heat_maps(maps, f"{source.name}\nloss without a head", logarithmic=True),
    )
    rows = [
        [str(at // alone.shape[1] + 1), str(at % alone.shape[1] + 1), f"{alone.flat[at]:.4f}".replace("-", "−")]
        for at in np.argsort(-alone, axis=None)
    ]
    head_row = ["layer", "head", "rise of the loss (nats per token)"]
    table = Table(f"ablation-table{suffix}", "Heads by what silencing each costs.", head_row, rows)
    return Section(f"ablation{suffix}", "What is each head worth?", [text], [picture], [table], rounded(worth))
