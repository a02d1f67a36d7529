"""For which relations: forced choices between two continuations, and relations kept and broken in sampled text."""

from collections.abc import Callable, Sequence

import torch

from data.config import RELATIONS
from data.tales import Pair, check
from data.tokenizers import Tokenizer
from model.generate import generate
from model.gpt import GPT

VERSION = 1
PAIRS = 100
"""Forced choices of each relation."""
PAIR_SEED = 0
SAMPLES, SAMPLE_TOKENS, SAMPLE_SEED = 16, 200, 0
"""Sampled texts of each run and their longest length, at temperature 1."""
LOGITS = 2**21


@torch.no_grad()
def forced_choice(
    model: GPT, tokenizer: Tokenizer, pairs: Sequence[Pair], progress: Callable[[int], object] = lambda n: None
) -> dict[str, float]:
    """Share of the pairs of each relation in which a model of one run finds the right continuation likelier.

    What is compared is the sum of log-probabilities of the continuation's tokens after the context; equal ones count
    as half. Of a context longer than the model's, the last tokens are seen. progress: called with pairs done.
    """
    margins = []
    by_length = sorted(pairs, key=lambda pair: len(pair.context))
    size = max(1, LOGITS // (2 * model.config.block_size * model.vocab_size))
    for first in range(0, len(by_length), size):
        part = by_length[first : first + size]
        scores = continuation_scores(model, tokenizer, [(p.context, end) for p in part for end in (p.right, p.wrong)])
        margins += [right - wrong for right, wrong in zip(scores[::2], scores[1::2], strict=True)]
        progress(len(part))
    result = {}
    for relation in RELATIONS:
        of = [m for pair, m in zip(by_length, margins, strict=True) if pair.relation == relation]
        result[relation] = sum((m > 0) + 0.5 * (m == 0) for m in of) / len(of)
    return result


def continuation_scores(model: GPT, tokenizer: Tokenizer, texts: Sequence[tuple[str, str]]) -> list[float]:
    """Log-probability (nats) of each continuation after its context; texts: (context, continuation)."""
    start = [] if tokenizer.eot is None else [tokenizer.eot]
    rows, ends = [], []
    for context, continuation in texts:
        end = tokenizer.encode(continuation)
        rows.append((start + tokenizer.encode(context) + end)[-model.config.block_size - 1 :])
        ends.append(len(end))
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    asked = torch.tensor(
        [[len(row) - end <= i < len(row) for i in range(1, longest)] for row, end in zip(rows, ends, strict=True)]
    )
    device = model.wte.weight.device
    targets = torch.where(asked, tokens[:, 1:], -1).to(device)
    losses = model.token_losses(tokens[None, :, :-1].to(device), targets[None])
    return (-losses[0].double().sum(1)).tolist()


def sampled_relations(
    model: GPT, tokenizer: Tokenizer, progress: Callable[[int], object] = lambda n: None
) -> dict[str, dict[str, int]]:
    """Relations kept and broken in SAMPLES texts of a model of one run, from the start of a document."""
    start = [tokenizer.eot] if tokenizer.eot is not None else tokenizer.encode("\n")
    drawn = generate(
        model, start, SAMPLES, SAMPLE_TOKENS, seed=SAMPLE_SEED, stop=tokenizer.eot, progress=progress
    )  # (1, SAMPLES, at most SAMPLE_TOKENS)
    kept, broken = dict.fromkeys(RELATIONS, 0), dict.fromkeys(RELATIONS, 0)
    for tokens in drawn[0].tolist():
        text = tokenizer.decode(tokens[: tokens.index(tokenizer.eot)] if tokenizer.eot in tokens else tokens)
        found = check(text)
        for relation in RELATIONS:
            kept[relation] += found.kept[relation]
            broken[relation] += found.broken[relation]
    return {"kept": kept, "broken": broken}
