"""What does it look like? Attention patterns of passages for every run, and text of each H side by side.

A pattern is kept as 8 bits a weight, the lower triangle alone, so that a page can hold many. What a run shows is kept
beside it, as measures are.
"""

import base64
import re
from dataclasses import asdict
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.measure.measurements import Measurements, Network
from analysis.report.section import Section
from data.tokenizers import Tokenizer
from experiment.loaded import start_tokens
from experiment.sampling import Sampling
from experiment.texts import continuations, text_of
from model.gpt import GPT
from model.hooks import hook_names, run_with_cache

VERSION = 2
PASSAGES, LENGTH = 4, 64
"""Passages, and tokens of one, at most."""
NEAR = 256
"""Tokens within which the start of a document, line or sentence is looked for."""
SAMPLING = Sampling(num_samples=2, max_new_tokens=120)
PROMPT_TOKENS = 40
"""Of the sentence that goes before a sample, at most."""
PATTERN_BYTES = 1_600_000
"""All attention patterns of a page."""

SECONDS = 0.02
"""To look into one head of one run, for the bar."""
EXPLORER, SAMPLED = "Where does a head look?", "What do they write?"


def work(measurements: Measurements) -> float:
    """Estimated seconds."""
    return SECONDS * sum(network.n_head for network in measurements.networks) * measurements.config.n_layer


def view_sections(measurements: Measurements, budget: int = PATTERN_BYTES) -> list[Section]:
    """The explorer of every network's patterns, and the samples of the first network of each H; of `quick` ones what is
    kept.

    budget: bytes that the patterns may take, in base64.
    """
    layers = measurements.config.n_layer
    heads = sum(network.n_head for network in measurements.networks) * layers
    count, length = fit(budget, heads, min(LENGTH, measurements.config.block_size))
    sections = []
    if shown := look(measurements, count, length):
        names = [{"n_head": n.n_head, "seed": n.seed, "name": n.name} for n in shown]
        runs = [name | {"patterns": of["patterns"]} for name, of in zip(names, shown.values(), strict=True)]
        first = next(iter(shown.values()))
        view = {"passages": first["passages"], "runs": runs, "n_layer": layers, "characters": first["characters"]}
        sections.append(Section("explorer", EXPLORER, view=view))
    if written := write(measurements):
        prompts = next(iter(written.values()))["prompts"]
        view = {
            "samples": [
                side_by_side(prompt, [of["samples"][index] for of in written.values()])
                for index, prompt in enumerate(prompts)
            ],
            "runs": [{"n_head": n.n_head, "name": n.name} for n in written],
            "temperature": SAMPLING.temperature,
            "tokens": SAMPLING.max_new_tokens,
        }
        sections.append(Section("samples", SAMPLED, view=view))
    return sections


def write(measurements: Measurements) -> dict[Network, dict[str, Any]]:
    """What the first network of each H writes, as sample.py draws it: of all at once. What is kept, where it is.

    prompts, the first of them ""; samples [prompt][sample].
    """
    firsts = list({n.n_head: n for n in reversed(measurements.networks)}.values())[::-1]
    settings = asdict(SAMPLING) | {"prompt": PROMPT_TOKENS, "beside": [n.name for n in firsts]}
    kept = {n: measurements.kept("samples", n, VERSION, settings) for n in firsts if n.run}
    found = {n: value for n in kept if (value := kept[n].read())}
    if len(found) == len(firsts) or measurements.quick:
        return found if len(found) == len(firsts) else {}
    tokenizer = measurements.text.tokenizer
    passage = cut(measurements.text.stream, tokenizer, 1, min(LENGTH, measurements.config.block_size))[0]
    prompts = [start_tokens(tokenizer, measurements.text.experiment), sentence(tokenizer, passage)]
    model = measurements.load(firsts, measurements.config.attention)
    drawn = [continuations(model, tokenizer, prompt, SAMPLING) for prompt in prompts]  # [prompt][run][sample]
    texts = ["", plain_text(tokenizer, prompts[1])]
    for index, network in enumerate(firsts):
        samples = [[text_of(tokenizer, sample) for sample in of_prompt[index]] for of_prompt in drawn]
        found[network] = {"prompts": texts, "samples": samples}
        if network in kept:
            kept[network].write(found[network])
    return {network: found[network] for network in firsts}


def look(measurements: Measurements, count: int, length: int) -> dict[Network, dict[str, Any]]:
    """What each network attends to: what is kept, and the rest from the networks unless `quick` is set.

    passages: token texts; patterns [passage][layer]; characters: whether a token is one. Of runs whose passages are not
    the same, those of the most count.
    """
    settings, networks = {"passages": count, "length": length}, measurements.networks
    kept = {n: measurements.kept("viewer", n, VERSION, settings) for n in networks if n.run}
    shown = {network: value for network in kept if (value := kept[network].read())}
    missing = [network for network in networks if network not in shown]
    if not missing or measurements.quick:
        return shown
    tokenizer = measurements.text.tokenizer
    passages = cut(measurements.text.stream, tokenizer, count, length)
    of_all = {
        "passages": [token_texts(tokenizer, tokens) for tokens in passages],
        "characters": tokenizer.vocab_size < 1000 and all(len(t) <= 1 for t in token_texts(tokenizer, passages[0])),
    }
    for _, group in groupby(missing, lambda n: n.n_head):
        stack = list(group)
        model = measurements.load(stack, "eager")
        found = [patterns(model, torch.from_numpy(tokens)) for tokens in passages]  # [passage][layer] (R, H, T, T)
        for index, network in enumerate(stack):
            packed = [[pack(layer[index]) for layer in of_passage] for of_passage in found]
            shown[network] = of_all | {"patterns": packed}
            if network in kept:
                kept[network].write(shown[network])
            measurements.progress(SECONDS * network.n_head * measurements.config.n_layer)
    return {network: shown[network] for network in networks}


def fit(budget: int, heads: int, limit: int) -> tuple[int, int]:
    """How many passages and how long (tokens), so that `heads` patterns of each take at most `budget` bytes in base64.

    Full length and fewer passages first, down to two; then shorter ones, down to 8 tokens, then one.
    """
    options = [(count, limit) for count in range(PASSAGES, 1, -1)] + [(2, length) for length in range(limit, 7, -1)]
    for count, length in options:
        if count * heads * (length * (length + 1) // 2) * 4 / 3 <= budget:
            return count, length
    return 1, min(limit, 8)


def cut(stream: np.ndarray, tokenizer: Tokenizer, count: int, length: int) -> list[np.ndarray]:
    """`count` passages (length,), int64, spread evenly over a text's tokens, each from the start of something.

    A text shorter than that gives fewer.
    """
    last = len(stream) - length
    if last < 0:
        return [np.asarray(stream).astype(np.int64)]
    begins = sorted({begin(stream, tokenizer, last * index // count, last) for index in range(count)})
    return [np.asarray(stream[at : at + length]).astype(np.int64) for at in begins]


def begin(stream: np.ndarray, tokenizer: Tokenizer, at: int, last: int) -> int:
    """The first start of a document, else of a line, else of a sentence near `at`, and no later than `last`."""
    if at == 0:
        return 0
    before = max(0, at - 2)
    tokens = np.asarray(stream[before : min(last, at + NEAR) + 1])
    documents = np.flatnonzero(tokens == tokenizer.eot) if tokenizer.eot is not None else []
    if len(documents):
        return before + int(documents[0])
    texts = token_texts(tokenizer, tokens)
    for ending in (r"\n\s*$", r"[.!?][\"')]*\s*$"):
        text = ""
        for index, token in enumerate(texts):
            if before + index >= at and token.strip() and re.search(ending, text):
                return before + index
            text = (text + token)[-8:]
    return at


def sentence(tokenizer: Tokenizer, passage: np.ndarray) -> list[int]:
    """The passage's first sentence, or what of it is whole words within PROMPT_TOKENS."""
    tokens = passage[: PROMPT_TOKENS + 1].tolist()
    texts = token_texts(tokenizer, tokens)
    ends = [i + 1 for i, text in enumerate(texts) if re.search(r"[.!?]\s*$|\n", text) and i > 1]
    words = [i for i, text in enumerate(texts) if i > 1 and text[:1].isspace()]
    return tokens[: (ends or words[-1:] or [len(tokens)])[0]]


def patterns(model: GPT, tokens: Tensor) -> list[Tensor]:
    """Attention of every layer of a model of R runs of one H on tokens (T,): (R, H, T, T) each, on the CPU."""
    names = hook_names(model, ["pattern"])
    with torch.no_grad():
        batch = tokens.to(model.wte.weight.device).expand(len(model.n_head), 1, -1)
        seen = run_with_cache(model, batch, names)[1]
    return [seen[name][:, 0].float().cpu() for name in names]


def pack(pattern: Tensor) -> str:
    """(H, T, T) → base64 of a byte a weight, round(255 p): the lower triangle of head 0 row by row, then head 1's, …"""
    row, column = torch.tril_indices(*pattern.shape[-2:])
    bytes_ = (pattern[:, row, column] * 255).round().clamp(0, 255).to(torch.uint8)
    return base64.b64encode(bytes_.numpy().tobytes()).decode("ascii")


def token_texts(tokenizer: Tokenizer, tokens: np.ndarray | list[int]) -> list[str]:
    """Each token's own text; end-of-text is the empty string."""
    return ["" if token == tokenizer.eot else tokenizer.decode([token]) for token in map(int, tokens)]


def plain_text(tokenizer: Tokenizer, tokens: list[int]) -> str:
    return tokenizer.decode([token for token in tokens if token != tokenizer.eot])


def side_by_side(prompt: str, texts: list[list[str]]) -> dict:
    """A prompt's samples, texts[run][sample], as rows of cells (what all share, the first word that differs, the rest).

    Where all are the same, the word and the rest are empty.
    """
    rows = []
    for sample in zip(*texts, strict=True):
        words = [re.findall(r"\s*\S+|\s+$", text) for text in sample]
        same = len(words[0]) * (len(words) == 1)
        while all(len(of) > same for of in words) and len({of[same] for of in words}) == 1:
            same += 1
        cells = [("".join(of[:same]), of[same : same + 1], "".join(of[same + 1 :])) for of in words]
        rows.append([(start, "".join(word), rest) for start, word, rest in cells])
    return {"prompt": prompt, "rows": rows}
