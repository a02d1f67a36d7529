"""Where the heads of a GPT-2 look that was not trained here: there is no sweep to compare, and its heads can be shown.

Measured on tales' stories, which need no download, read with the GPT-2's own tokenizer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from analysis.section import Section, Table
from data.tales import stories
from experiment.device import pick_device
from experiment.loaded import LoadedRun
from experiment.pretrained import open_pretrained

STORIES = 16
TOKENS = 256
"""Longest text that is looked at, tokens."""
MEASURES = {
    "distance": "tokens back",
    "entropy": "nats",
    "previous": "share",
    "first": "share",
    "self": "share",
}
FIRST_QUERY = 2
"""From the third token on, the token itself, the previous one and the first are three different tokens."""


def pretrained_section(path: str, device: str = "auto", say: Callable[[str], object] = print) -> Section:
    """The heads of the GPT-2 in `path`, a folder or a name on the hub. Raises InputError where there is none."""
    source = open_pretrained(path)
    where = pick_device(device)
    run = LoadedRun(source.name, source.config.n_head, None, source.config, where, source, source.tokenizer())
    say(f"{source.name}: looking at {source.config.n_layer} layers of {source.config.n_head} heads")
    texts = [story.text for story in stories(STORIES, seed=1)]
    measured = measure(run, texts)
    rows = [
        [str(layer), str(head), *(f"{measured[name][layer][head]:.2f}" for name in MEASURES)]
        for layer in range(source.config.n_layer)
        for head in range(source.config.n_head)
    ]
    head = ["layer", "head", *(f"{name} ({unit})" for name, unit in MEASURES.items())]
    return Section(
        id="pretrained-heads",
        title=f"Where the heads of {source.name} look",
        text=[
            f"{source.name}: D = {source.config.n_embd}, {source.config.n_layer} layers, H = {source.config.n_head}, "
            f"on {STORIES} short stories of {measured['tokens']} tokens in all. Distance: tokens back to where a head "
            "looks, weighted by attention; entropy: of its pattern; then its share of attention on the previous token, "
            "the first one and the token itself. Means over tokens, from the third of a story on."
        ],
        tables=[Table("pretrained-heads", f"Heads of {source.name}", head, rows)],
        data=measured,
    )


def measure(run: LoadedRun, texts: list[str]) -> dict:
    """For each of MEASURES, the mean of every layer and head over the texts' queries, [L][H]; and `tokens`."""
    layers, heads = run.config.n_layer, run.n_head
    sums = {name: torch.zeros(layers, heads, dtype=torch.float64) for name in MEASURES}
    queries = tokens = 0
    for text in texts:
        ids = run.tokenizer.encode(text)[: min(TOKENS, run.config.block_size)]
        if len(ids) <= FIRST_QUERY:
            continue
        seen = run.look(ids)
        for layer in range(layers):
            for name, value in of_pattern(seen[f"h.{layer}.pattern"]).items():
                sums[name][layer] += value.double().sum(-1).cpu()
        queries += len(ids) - FIRST_QUERY
        tokens += len(ids)
    return {name: (total / max(1, queries)).tolist() for name, total in sums.items()} | {"tokens": tokens}


def of_pattern(pattern: Tensor) -> dict[str, Tensor]:
    """Each of MEASURES for the queries from FIRST_QUERY on: pattern (H, T, T) → (H, T - 2)."""
    late = pattern[:, FIRST_QUERY:]
    key = torch.arange(pattern.shape[-1], device=pattern.device)
    return {
        "distance": key[FIRST_QUERY:] - late @ key.to(late.dtype),
        "entropy": torch.special.entr(late).sum(-1),
        "previous": late.diagonal(FIRST_QUERY - 1, -2, -1),
        "first": late[..., 0],
        "self": late.diagonal(FIRST_QUERY, -2, -1),
    }
