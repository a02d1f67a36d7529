"""What every attention head does, measured on a text; and how much of its size its scores use.

Patterns are seen at attention's hook point `pattern` and reduced at once, window by window, so memory stays flat. Means
are over the queries from the third token of a window on: for those the token itself, the previous one and the first are
three different tokens, and a head that looks at one of them alone scores 1 there and 0 elsewhere.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.measure.stack import windows_at_once
from model.gpt import GPT
from model.hooks import hooks

VERSION = 2
SHORTEST = 4
"""Tokens of a context, at least: a repeated pair of tokens, and a query that tells three tokens apart."""
FIRST_QUERY = 2
REPEATED = 16
"""Sequences of repeated random tokens that the induction score is taken on."""
MEASURES = {
    "distance": "mean distance (tokens)",
    "entropy": "entropy (nats)",
    "previous": "share on the previous token",
    "first": "share on the first token",
    "self": "share on itself",
    "induction": "induction score",
}
"""One number for each head, by the name that the report gives it."""


@torch.no_grad()
def measure_heads(
    model: GPT, x: Tensor, valid: Tensor, eot: int | None = None, progress: Callable[[int], object] = lambda n: None
) -> list[dict]:
    """Measures of every head of each of R runs of equal H with eager attention.

    Args:
        x: windows of tokens (N, T), T >= SHORTEST, on the model's device.
        valid: (N, T), False at padding; some query is not.
        eot: a token that the random sequences leave out.
        progress: called with the number of windows done.

    Returns:
        For each run, for each layer and head, [L][H]:
            distance: tokens from the query back to where it looks, weighted by attention, mean over queries.
            entropy: of the pattern, nats.
            previous, first, self: share of attention on the previous token, the window's first, the query's own.
            induction: see `induction_scores`.
            rank, effective_rank, stable_rank: see `query_key_ranks`.
        similarity [L][H][H]: of two heads of a layer, mean over queries of the Bhattacharyya coefficient of their
            patterns p and p', sum over keys of sqrt(p p'): 1 where they look alike, 0 where at different tokens
            (Bhattacharyya 1943).
        queries: how many the means are over.
    """
    n_run, layers, heads, length = len(model.n_head), len(model.h), model.n_head[0], x.shape[1]
    position = torch.arange(length, device=x.device, dtype=torch.float32)
    sums: dict[str, Tensor] = {}  # (L, R, H) each
    gram = torch.zeros(layers, n_run, heads, heads, dtype=torch.float64)
    weight = None  # 1 or 0 for each of the present windows' queries (B, 1, T)

    def reduce(layer: int, pattern: Tensor) -> None:
        """pattern: (R, B, H, T, T)."""
        found = {
            "distance": position - pattern @ position,
            "entropy": -pattern.clamp_min(torch.finfo(pattern.dtype).tiny).log_().mul_(pattern).sum(-1),
            "previous": F.pad(pattern.diagonal(-1, -2, -1), (1, 0)),
            "first": pattern[..., 0],
            "self": pattern.diagonal(0, -2, -1),
        }
        for name, value in found.items():  # (R, B, H, T)
            total = sums.setdefault(name, torch.zeros(layers, n_run, heads, dtype=torch.float64))
            total[layer] += (value * weight).sum((1, 3)).cpu().double()
        root = pattern.sqrt().mul_(weight[..., None]).flatten(-2)
        gram[layer] += (root @ root.mT).sum(1).cpu().double()

    size = windows_at_once(model, length, heads * length)
    with hooks(model, {f"h.{layer}.attn.pattern": partial(reduce, layer) for layer in range(layers)}):
        for windows, real in zip(x.split(size), valid.split(size), strict=True):
            weight = (real & (position >= FIRST_QUERY))[:, None].float()
            model.hidden(windows.expand(n_run, -1, -1))
            progress(len(windows))
    queries = int(valid[:, FIRST_QUERY:].sum())
    means = {name: total / queries for name, total in (sums | {"similarity": gram}).items()}  # (L, R, …)
    means["induction"] = induction_scores(model, eot)
    means |= query_key_ranks(model)
    return [
        {name: mean[:, run].tolist() for name, mean in means.items()} | {"queries": queries} for run in range(n_run)
    ]


@torch.no_grad()
def induction_scores(model: GPT, eot: int | None = None, seed: int = 0) -> Tensor:
    """Share of attention on the token after an earlier occurrence of the present one, (L, R, H), on the CPU.

    On sequences of block_size // 2 random tokens and the same again; mean over the queries of the second half. A head
    that finds what came next the last time scores 1. Olsson et al., In-context learning and induction heads, 2022.
    """
    n_run, half = len(model.n_head), model.config.block_size // 2
    allowed = torch.tensor([token for token in range(model.vocab_size) if token != eot] or [0])
    draws = torch.randint(len(allowed), (REPEATED, half), generator=torch.Generator().manual_seed(seed))
    tokens = allowed[draws].repeat(1, 2).to(model.wte.weight.device)  # (16, 2 half)
    scores = torch.zeros(len(model.h), n_run, model.n_head[0], dtype=torch.float64)

    def reduce(layer: int, pattern: Tensor) -> None:
        after = pattern.diagonal(1 - half, -2, -1)  # (R, B, H, half + 1): queries half - 1 … 2 half - 1
        scores[layer] += after[..., 1:].mean(-1).sum(1).cpu().double()

    with hooks(model, {f"h.{layer}.attn.pattern": partial(reduce, layer) for layer in range(len(model.h))}):
        for part in tokens.split(windows_at_once(model, 2 * half, model.n_head[0] * 2 * half)):
            model.hidden(part.expand(n_run, -1, -1))
    return scores / REPEATED


@torch.no_grad()
def query_key_ranks(model: GPT) -> dict[str, Tensor]:
    """Rank of each head's W_Q^h (W_K^h)^T, a D × D matrix that no more than d_h dimensions can fill, (L, R, H) each.

    rank: singular values above the largest × D × fp32's epsilon, as numpy's matrix_rank counts them. stable_rank: sum
    of squared singular values over the largest squared. effective_rank: exp of the entropy of the singular values
    scaled to sum 1 (Roy and Vetterli 2007). The bottleneck: Bhojanapalli et al., Low-rank bottleneck, ICML 2020.
    """
    weights = torch.stack([block.attn.c_attn.weight.cpu().double() for block in model.h])  # (L, R, D, 3 D)
    weights = weights.nan_to_num()  # one network that is not finite would fail all; its patterns say so
    width, heads = weights.shape[2], model.n_head[0]
    query, key = (w.unflatten(-1, (heads, -1)).movedim(-2, -3) for w in weights.chunk(3, -1)[:2])  # (L, R, H, D, d_h)
    values = torch.linalg.svdvals(torch.linalg.qr(query).R @ torch.linalg.qr(key).R.mT)  # (L, R, H, d_h): the product's
    largest = values[..., :1].clamp_min(1e-300)
    share = values / values.sum(-1, keepdim=True).clamp_min(1e-300)
    return {
        "rank": (values > largest * width * torch.finfo(torch.float32).eps).sum(-1),
        "stable_rank": ((values / largest) ** 2).sum(-1),
        "effective_rank": torch.special.entr(share).sum(-1).exp(),
    }
