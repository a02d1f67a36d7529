"""What the heads of a GPT-2 do that was not trained here: there is no sweep to compare, and its heads can be measured.

Measured on tales' stories, which need no download, read with the GPT-2's own tokenizer: the
measures of analysis.measure.
"""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import torch

from analysis.measure.heads import MEASURES
from analysis.measure.measurements import Measurements
from analysis.report.head_figures import heat_maps, similarity_maps
from analysis.report.head_sections import LABELS, definitions, rounded
from analysis.report.html import LOOK_BYTES, Part
from analysis.report.section import Picture, Section, Table
from analysis.report.viewer import LENGTH, fit, pack, patterns, token_texts
from errors import InputError
from experiment.pretrained import Pretrained, open_pretrained
from model.gpt import GPT

log = logging.getLogger("headcount")


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
    config = source.config
    measurements = Measurements.of_pretrained(source, device)
    model = measurements.load(measurements.networks, "eager")
    name = f"{source.name}: D = {config.n_embd}, {config.n_layer} layers, H = {config.n_head}"
    log.info(f"heads: {source.name}")
    found = measurements.take("heads")
    if not found.values:
        raise InputError(f"{source.name}: {' '.join(found.notes)}")
    text = measurements.text
    sections = [_heads(source, found.values[config.n_head][0], text.words("heads"), suffix)]
    if not quick:
        log.info(f"ablation: {source.name}")
        worth = measurements.take("ablation").values[config.n_head][0]
        sections.append(_ablation(source, worth, suffix))
    facts = [
        ("Network", f"D = {config.n_embd}, {config.n_layer} layers, context {config.block_size} tokens"),
        ("Parameters", f"{model.n_parameters():,}"),
        ("Heads", f"H = {config.n_head} a layer, {config.n_head * config.n_layer} in all, d_h = {model_size(source)}"),
        ("Text", text.words("heads")),
    ]
    summary = {"name": source.name, "groups": [{"sentence": f"{name}: what each of its heads does."}], "notes": []}
    return Part(summary, sections, facts, explorer(source, model, text.rows, look_bytes), trained=False)


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


def _heads(source: Pretrained, found: dict, words: str, suffix: str) -> Section:
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
    text = [f"Measured on {words}.", *definitions()]
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
