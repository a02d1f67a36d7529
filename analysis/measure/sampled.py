"""What text alone shows of a network: how likely others find it, how varied it is, how often it repeats itself."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from analysis.measure.stack import windows_at_once
from data.tales import check
from data.tokenizers import Tokenizer
from experiment.loaded import Runs
from experiment.sampling import Sampling
from experiment.texts import continuations, prompt_tokens, text_of
from model.gpt import GPT

VERSION = 1
READ = 16
"""Texts of a run that its companions read, each as far as their context goes."""
DISTINCT, REPEATED = (1, 2, 3), 4
"""Lengths of the n-grams that are counted, words."""


def windows(length: int, block_size: int) -> Iterator[tuple[int, int, int]]:
    """How to read `length` tokens with a network that sees `block_size`: (first, end, done).

    Tokens first to end - 1 are read, of which those after `done` count: each but the first is predicted once, and after
    at least half a context where there is one.
    """
    first = done = 0
    while done < length - 1:
        end = min(first + block_size, length - 1)
        yield first, end + 1, done
        first, done = end - block_size // 2, end


@torch.no_grad()
def token_losses(
    model: GPT, rows: Sequence[Sequence[int]], progress: Callable[[int], object] = lambda n: None
) -> list[Tensor]:
    """Loss, nats, of every token but the first of each row, under each run of a stack: (R, len - 1) each, on the CPU.

    progress: called with the number of windows done.
    """
    device, runs, block_size = model.wte.weight.device, len(model.n_head), model.config.block_size
    losses = [torch.zeros(runs, max(0, len(row) - 1)) for row in rows]
    cuts = ((i, *cut) for i, row in enumerate(rows) for cut in windows(len(row), block_size))
    todo = sorted((end - first, i, first, end, done) for i, first, end, done in cuts)
    at_once = windows_at_once(model, block_size)
    for begin in range(0, len(todo), at_once):
        part = todo[begin : begin + at_once]
        longest = part[-1][0]
        tokens = torch.zeros(len(part), longest, dtype=torch.int64)
        for line, (size, i, first, end, _) in zip(tokens, part, strict=True):
            line[:size] = torch.tensor(rows[i][first:end])
        x, y = (t.to(device).expand(runs, -1, -1) for t in (tokens[None, :, :-1], tokens[None, :, 1:]))
        found = model.token_losses(x.contiguous(), y.contiguous()).float().cpu()  # (R, B, longest - 1)
        for column, (_, i, first, end, done) in enumerate(part):
            losses[i][:, done : end - 1] = found[:, column, done - first : end - 1 - first]
        progress(len(part))
    return losses


def score(runs: Runs, text: str) -> list[dict]:
    """How well each run predicts a text: run, what sets it apart, nats per token, bits per byte and perplexity.

    Each token is predicted after at least half a context of those before it; a text has its start before it, as an
    unprompted sample has. Raises InputError where the tokenizer does not know a character.
    """
    first = next(iter(runs.values()))
    tokens = first.tokenizer.encode(text)
    losses = token_losses(runs.stack(), [[first.start[-1], *tokens]])[0].double()
    size = len(text.encode("utf-8"))
    return [
        {
            "run": run.name,
            **run.axes,
            "tokens": len(tokens),
            "nats_per_token": float(of.mean()),
            "bits_per_byte": float(of.sum() / (size * torch.tensor(2.0).log())),
            "perplexity": float(of.mean().exp()),
        }
        for run, of in zip(runs.values(), losses, strict=True)
    ]


def text_measures(
    runs: Runs, prompt: str, sampling: Sampling, progress: Callable[[int], object] = lambda n: None
) -> list[dict]:
    """What the sampled texts of each run show: run, what sets it apart, and the values of `measure_texts`.

    Runs of one seed read each other's texts. progress: called with 1 after each token drawn.
    """
    tales = runs.experiment is not None and runs.experiment.config.data.source == "tales"
    measured = []
    for seed in dict.fromkeys(run.axes.get("seed") for run in runs.values()):
        companions = runs.select(seed=seed)
        first, model = next(iter(companions.values())), companions.stack()
        start = prompt_tokens(first.tokenizer, prompt, first.start)
        values = measure_texts(model, first.tokenizer, start, sampling, tales, prompt, progress)
        measured += [
            {"run": run.name, **run.axes, **value} for run, value in zip(companions.values(), values, strict=True)
        ]
    return measured


def measure_texts(
    model: GPT,
    tokenizer: Tokenizer,
    start: Sequence[int],
    sampling: Sampling,
    tales: bool,
    prompt: str = "",
    progress: Callable[[int], object] = lambda n: None,
) -> list[dict]:
    """What texts after `start`, the tokens of `prompt`, show of each run of a stack, plain JSON values.

    texts: how many; relations (tales): {relation: {kept, broken}}; log_likelihood: {H: mean log-likelihood, nats a
    token, of the first READ texts under the run of H heads}; distinct: {n: share of n-grams of words that are different
    ones} (distinct-n: J. Li et al., A diversity-promoting objective function, NAACL 2016); repetition: share of a
    text's n-grams of REPEATED words that stand in it before, averaged over texts (S. Welleck et al., Neural text
    generation with unlikelihood training, ICLR 2020).
    """
    drawn = continuations(model, tokenizer, start, sampling, progress)
    given = list(start)[-model.config.block_size // 2 :]
    rows = [[*given, *text][: model.config.block_size + 1] for of_run in drawn for text in of_run[:READ]]
    losses = [of[:, len(given) - 1 :] for of in token_losses(model, rows)]
    read, measured = len(rows) // len(drawn), []
    for i, samples in enumerate(drawn):
        texts = [text_of(tokenizer, sample, sampling.stop) for sample in samples]
        own = torch.cat(losses[i * read : (i + 1) * read], 1).double().mean(1).tolist()
        found = {"texts": len(texts)}
        if tales:
            found["relations"] = relations(prompt + text for text in texts)
        found["log_likelihood"] = {str(h): -loss for h, loss in zip(model.n_head, own, strict=True)}
        found["distinct"] = {str(n): distinct(texts, n) for n in DISTINCT}
        found["repetition"] = repetition(texts)
        measured.append(found)
    return measured


def relations(texts: Iterable[str]) -> dict[str, dict[str, int]]:
    """Relations kept and broken in all of the texts."""
    total: dict[str, dict[str, int]] = {}
    for found in map(check, texts):
        for relation in found.kept:
            counts = total.setdefault(relation, {"kept": 0, "broken": 0})
            counts["kept"] += found.kept[relation]
            counts["broken"] += found.broken[relation]
    return total


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """Every n words in a row, words being what stands between white space."""
    words = text.split()
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Different n-grams over all n-grams of the texts together; None where there are none."""
    found = list(chain.from_iterable(ngrams(text, n) for text in texts))
    return len(set(found)) / len(found) if found else None


def repetition(texts: Sequence[str]) -> float | None:
    """Mean share of a text's n-grams of REPEATED words that stand in it before; None where no text has any."""
    shares = [1 - len(set(grams)) / len(grams) for text in texts if (grams := ngrams(text, REPEATED))]
    return sum(shares) / len(shares) if shares else None
