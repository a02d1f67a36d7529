"""What every attention head does, measured on the validation text; and how much of its size its scores use.

Patterns are seen through hooks on the attention module's named points and reduced at once, window by window, so memory
stays flat. Means are over the queries from the third token of a window on: for those the token itself, the previous one
and the first are three different tokens, and a head that looks at one of them alone scores 1 there and 0 elsewhere.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from model.gpt import GPT
from model.hooks import hooks

VERSION = 1
FIRST_QUERY = 2
PATTERN_ELEMENTS = 2**22
"""Attention weights held at once: 16 MiB of fp32."""
REPEATED = 16
"""Sequences of repeated random tokens that the induction score is taken on."""
MEASURES = ("distance", "entropy", "previous", "first", "self", "induction")


@torch.no_grad()
def measure_heads(
    model: GPT, x: Tensor, valid: Tensor, eot: int | None = None, progress: Callable[[int], object] = lambda n: None
) -> dict:
    """Measures of every head of a model of one run with eager attention.

    Args:
        x: windows of validation tokens (N, T), T >= 4, on the model's device.
        valid: (N, T), False at padding.
        eot: a token that the random sequences leave out.
        progress: called with the number of windows done.

    Returns:
        For each layer and head, [L][H]:
            distance: tokens from the query back to where it looks, weighted by attention, mean over queries.
            entropy: of the pattern, nats.
            previous, first, self: share of attention on the previous token, the window's first, the query's own.
            induction: see `induction_scores`.
            rank, effective_rank, stable_rank: see `query_key_ranks`.
        similarity [L][H][H]: of two heads of a layer, mean over queries of the Bhattacharyya coefficient of their
            patterns p and p', sum over keys of sqrt(p p'): 1 where they look alike, 0 where at different tokens.
        queries: how many the means are over.
    """
    layers, heads, length = len(model.h), model.n_head[0], x.shape[1]
    position = torch.arange(length, device=x.device)
    sums = {name: torch.zeros(layers, heads, dtype=torch.float64) for name in MEASURES[:-1]}
    gram = torch.zeros(layers, heads, heads, dtype=torch.float64)
    weight = None  # of the present windows' queries (B, 1, T - FIRST_QUERY)

    def look(layer: int, pattern: Tensor) -> None:
        pattern = pattern[0, :, :, FIRST_QUERY:]  # (B, H, T - 2, T)
        query = position[FIRST_QUERY:]
        found = {
            "distance": query - pattern @ position.float(),
            "entropy": torch.special.entr(pattern).sum(-1),
            "previous": pattern.diagonal(FIRST_QUERY - 1, -2, -1),
            "first": pattern[..., 0],
            "self": pattern.diagonal(FIRST_QUERY, -2, -1),
        }
        for name, value in found.items():  # (B, H, T - 2)
            sums[name][layer] += (value * weight).sum((0, 2)).double().cpu()
        root = (pattern.sqrt() * weight[..., None]).flatten(-2)  # weights are 0 or 1
        gram[layer] += (root @ root.mT).sum(0).double().cpu()

    model.eval()
    size = max(1, PATTERN_ELEMENTS // (heads * length**2))
    with hooks(model, {f"h.{layer}.attn.pattern": partial(look, layer) for layer in range(layers)}):
        for windows, real in zip(x.split(size), valid.split(size), strict=True):
            weight = real[:, None, FIRST_QUERY:].float()
            model.hidden(windows[None])
            progress(len(windows))
    queries = int(valid[:, FIRST_QUERY:].sum())
    result = {name: (total / queries).tolist() for name, total in sums.items()}
    result["induction"] = induction_scores(model, eot).tolist()
    result["similarity"] = (gram / queries).tolist()
    result["queries"] = queries
    return result | query_key_ranks(model)


@torch.no_grad()
def induction_scores(model: GPT, eot: int | None = None, seed: int = 0) -> Tensor:
    """Share of attention on the token after an earlier occurrence of the present one, (L, H).

    On sequences of block_size // 2 random tokens and the same again; mean over the queries of the second half. A head
    that finds what came next the last time scores 1. Olsson et al., In-context learning and induction heads, 2022.
    """
    half = model.config.block_size // 2
    allowed = torch.tensor([token for token in range(model.vocab_size) if token != eot])
    draws = torch.randint(len(allowed), (REPEATED, half), generator=torch.Generator().manual_seed(seed))
    tokens = allowed[draws].repeat(1, 2).to(model.wte.weight.device)  # (16, 2 half)
    scores = [[] for _ in model.h]

    def look(layer: int, pattern: Tensor) -> None:
        after = pattern[0].diagonal(1 - half, -2, -1)  # (B, H, half + 1): queries half - 1 … 2 half - 1
        scores[layer].append(after[..., 1:].mean(-1).double().sum(0).cpu())

    model.eval()
    size = max(1, PATTERN_ELEMENTS // (model.n_head[0] * 4 * half**2))
    with hooks(model, {f"h.{layer}.attn.pattern": partial(look, layer) for layer in range(len(model.h))}):
        for part in tokens.split(size):
            model.hidden(part[None])
    return torch.stack([torch.stack(of_layer).sum(0) / REPEATED for of_layer in scores])


@torch.no_grad()
def query_key_ranks(model: GPT) -> dict[str, list[list[float]]]:
    """Rank of each head's W_Q^h (W_K^h)^T, a D × D matrix that no more than d_h dimensions can fill, [L][H] each.

    rank: singular values above the largest × D × fp32's epsilon, as numpy's matrix_rank counts them. stable_rank: sum
    of squared singular values over the largest squared. effective_rank: exp of the entropy of the singular values
    scaled to sum 1 (Roy and Vetterli 2007). The bottleneck: Bhojanapalli et al., Low-rank bottleneck, ICML 2020.
    """
    result = {"rank": [], "stable_rank": [], "effective_rank": []}
    for block in model.h:
        query, key, _ = block.attn.c_attn.weight[0].double().cpu().chunk(3, dim=1)  # (D, D) each
        width, heads = len(query), model.n_head[0]
        split = [w.view(width, heads, -1).transpose(0, 1) for w in (query, key)]  # (H, D, d_h) each
        triangular = [torch.linalg.qr(w).R for w in split]
        values = torch.linalg.svdvals(triangular[0] @ triangular[1].mT)  # (H, d_h), descending: those of the product
        largest = values[:, :1].clamp_min(1e-300)
        share = values / values.sum(1, keepdim=True).clamp_min(1e-300)
        result["rank"].append((values > largest * width * torch.finfo(torch.float32).eps).sum(1).tolist())
        result["stable_rank"].append(((values / largest) ** 2).sum(1).tolist())
        result["effective_rank"].append(torch.special.entr(share).sum(1).exp().tolist())
    return result
