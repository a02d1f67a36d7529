"""For which relations: forced choices between two continuations."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from analysis.measure.stack import windows_at_once
from data.config import RELATIONS
from data.tales import Pair
from data.tokenizers import Tokenizer
from model.gpt import GPT

VERSION = 3
PAIRS = 100
"""Forced choices of each relation."""
PAIR_SEED = 0


def forced_choice(
    model: GPT, tokenizer: Tokenizer, pairs: Sequence[Pair], progress: Callable[[int], object] = lambda n: None
) -> list[dict[str, float]]:
    """Share of the pairs of each relation in which each of R runs finds the right continuation likelier.

    What is compared is the sum of log-probabilities of the continuation's tokens after the context; equal ones count
    as half. progress: called with pairs done.
    """
    by_length = sorted(pairs, key=lambda pair: len(pair.context))
    size, margins = windows_at_once(model, model.config.block_size, 4 * model.config.n_embd), []
    for first in range(0, len(by_length), size):
        part = by_length[first : first + size]
        right, wrong = continuation_scores(model, tokenizer, [(p.context, p.right, p.wrong) for p in part])
        margins.append(right - wrong)
        progress(len(part))
    points = (torch.cat(margins, 1).sign() + 1) / 2  # (R, N)
    of = {name: torch.tensor([pair.relation == name for pair in by_length]) for name in RELATIONS}
    return [{name: float(row[asked].mean()) for name, asked in of.items()} for row in points]


@torch.no_grad()
def continuation_scores(model: GPT, tokenizer: Tokenizer, texts: Sequence[tuple[str, str, str]]) -> Tensor:
    """Log-probability (nats) of each of two continuations after their context, (2, R, N); texts: (context, one, other).

    A context that does not fit is cut at its start, alike for both; of a continuation longer than the model's context
    the first tokens count. Where one continuation's input begins with the other's (as where each is one token), a
    single row of the batch answers for both.
    """
    length = model.config.block_size
    start = [] if tokenizer.eot is None else [tokenizer.eot]
    rows: list[list[int]] = []
    asked: list[tuple[int, int, int, int, int]] = []  # row, position, token; continuation, text
    for text, (context, *continuations) in enumerate(texts):
        ends = [tokenizer.encode(end)[:length] for end in continuations]
        tokens = (start + tokenizer.encode(context))[-(length + 1 - max(map(len, ends))) :]
        for which in sorted((0, 1), key=lambda i: -len(ends[i])):
            end = ends[which]
            row = tokens + end[:-1]
            if not rows or rows[-1][: len(row)] != row or asked[-1][-1] != text:
                rows.append(row)
            asked += [(len(rows) - 1, len(tokens) - 1 + i, token, which, text) for i, token in enumerate(end)]
    longest, device = max(map(len, rows)), model.wte.weight.device
    inputs = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    row, position, token, which, text = torch.tensor(asked).T
    hidden = model.hidden(inputs.expand(len(model.n_head), -1, -1))[:, row, position]  # (R, tokens asked, D)
    losses = model.losses(hidden, token.to(device).expand(len(model.n_head), -1)).cpu().double()
    scores = torch.zeros(len(model.n_head), 2 * len(texts), dtype=torch.float64)
    scores.index_add_(1, which * len(texts) + text, -losses)
    return scores.unflatten(1, (2, -1)).movedim(1, 0)
