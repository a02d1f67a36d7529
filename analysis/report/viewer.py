"""What does it look like? Attention patterns of validation passages and sampled text, for one run of every H.

Patterns are seen through hooks on the attention modules' point `pattern` and kept as 8 bits a weight, the lower
triangle alone, so that a page can hold them.
"""

import base64
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from analysis.runs import RunCurve, Study, by_head
from data.dataset import Dataset, prepare
from data.tales import check
from data.tokenizers import Tokenizer
from errors import InputError
from experiment.folder import Experiment, Run
from experiment.loaded import load_stack
from machine import pick_device
from model.generate import generate
from model.gpt import GPT
from model.hooks import hook_names, run_with_cache

log = logging.getLogger("headcount")

PASSAGES = 4
LENGTH = 64
"""Tokens of a passage, at most."""
SAMPLES, SAMPLE_TOKENS, TEMPERATURE, SEED = 2, 120, 0.8, 0
PROMPT_TOKENS = 12


class CannotLook(Exception):
    """The networks cannot be looked at; the message says why, in words for the report."""


def look(
    study: Study,
    experiments: Sequence[Experiment],
    budget: int,
    device: str = "auto",
) -> dict:
    """Passages, patterns and samples, plain JSON values, of one run of every H: that of the lowest seed of the setting
    with the lowest mean loss.

    Args:
        experiments: the study's, in the order of study.folders.
        budget: bytes that the patterns may take, in base64; passages get fewer and shorter to keep to it.

    Returns:
        passages: [{"tokens": texts}]; runs: [{"n_head", "seed", "name", "patterns": [passage][layer] base64 of the
        lower triangles of all heads}]; n_layer; sampling: how samples were drawn; samples: see `sampled`.

    Raises:
        CannotLook: no run is finished, or the corpus or the weights are not here.
    """
    curves = chosen(study)
    if not curves:
        raise CannotLook("No run is finished yet.")
    folders = dict(zip(study.folders, experiments, strict=True))
    runs = [next(run for run in folders[c.experiment].runs if run.name == c.name) for c in curves]
    config = experiments[0].config
    try:
        dataset = prepare(config.data)
    except InputError as error:
        raise CannotLook(f"The corpus is not here: {error}.") from None
    if dataset.hash != experiments[0].environment.get("data_hash"):
        raise CannotLook(
            "The corpus is no longer the one that was trained on; put it back to see the networks at work."
        )
    limit = min(LENGTH, config.model.block_size)
    count, length = fit(budget, sum(run.n_head for run in runs) * config.model.n_layer, limit)
    passages = cut(dataset, count, length)
    where = pick_device(device)
    prompts = sample_prompts(dataset, passages)
    shown = []
    texts: list[list[list[str]]] = [[] for _ in prompts]  # [prompt][run][sample]
    for run in runs:
        log.info(f"attention patterns and samples: {run.name}")
        model = load(run, experiments[0], where)
        found = [patterns(model, torch.from_numpy(tokens)) for tokens in passages]
        packed = [[pack(layer) for layer in of_passage] for of_passage in found]
        shown.append({"n_head": run.n_head, "seed": run.seed, "name": run.name, "patterns": packed})
        for of_prompt, (tokens, _) in zip(texts, prompts, strict=True):
            of_prompt.append(write(model, dataset.tokenizer, tokens))
    tales = config.data.source == "tales"
    return {
        "passages": [{"tokens": token_texts(dataset.tokenizer, tokens)} for tokens in passages],
        "runs": shown,
        "n_layer": config.model.n_layer,
        "sampling": {"temperature": TEMPERATURE, "tokens": SAMPLE_TOKENS},
        "samples": [sampled(prompt, of_runs, runs, tales) for (_, prompt), of_runs in zip(prompts, texts, strict=True)],
    }


def chosen(study: Study) -> list[RunCurve]:
    """The run of the lowest seed of every H, in the setting of learning rate and weight decay with the lowest loss."""
    groups = study.groups().values()
    if not groups:
        return []
    best = min(groups, key=lambda runs: sum(run.final_loss for run in runs) / len(runs))
    return [of[0] for of in by_head(best).values()]


def load(run: Run, experiment: Experiment, device: torch.device) -> GPT:
    """The run's newest weights with eager attention, whose pattern can be seen. Raises CannotLook without weights."""
    try:
        return load_stack([run], replace(experiment.config.model, attention="eager"), device)
    except InputError as error:
        raise CannotLook(f"{error}.") from None


def fit(budget: int, heads: int, limit: int) -> tuple[int, int]:
    """How many passages and how long (tokens), so that `heads` patterns of each take at most `budget` bytes in base64.

    Full length and fewer passages first, down to two; then shorter ones, down to 8 tokens, then one.
    """
    for count, length in [
        *((count, limit) for count in range(PASSAGES, 1, -1)),
        *((2, length) for length in range(limit, 7, -1)),
    ]:
        if count * heads * (length * (length + 1) // 2) * 4 / 3 <= budget:
            return count, length
    return 1, min(limit, 8)


def cut(dataset: Dataset, count: int, length: int) -> list[np.ndarray]:
    """`count` passages (length,), int64, spread evenly over the validation split; documents' starts where there are.

    A split shorter than that gives fewer.
    """
    tokens, eot = np.asarray(dataset.val), dataset.tokenizer.eot
    last = len(tokens) - length
    if last < 0:
        return [tokens.astype(np.int64)]
    starts = np.arange(last + 1)
    if eot is not None:
        at_start = np.flatnonzero(tokens[: last + 1] == eot)
        starts = at_start if len(at_start) else starts
    places = sorted({int(starts[len(starts) * i // count]) for i in range(count)})
    return [tokens[place : place + length].astype(np.int64) for place in places]


@torch.no_grad()
def patterns(model: GPT, tokens: Tensor) -> list[Tensor]:
    """Attention of every layer of a model of one run on tokens (T,): (H, T, T) each, on the CPU."""
    names = hook_names(model, ["pattern"])
    seen = run_with_cache(model, tokens.to(model.wte.weight.device)[None, None], names)[1]
    return [seen[name][0, 0].float().cpu() for name in names]


def pack(pattern: Tensor) -> str:
    """(H, T, T) → base64 of a byte a weight, round(255 p): the lower triangle of head 0 row by row, then head 1's, …"""
    row, column = torch.tril_indices(*pattern.shape[-2:])
    bytes_ = (pattern[:, row, column] * 255).round().clamp(0, 255).to(torch.uint8)
    return base64.b64encode(bytes_.numpy().tobytes()).decode("ascii")


def token_texts(tokenizer: Tokenizer, tokens: np.ndarray) -> list[str]:
    """Each token's own text; end-of-text is the empty string."""
    return ["" if token == tokenizer.eot else tokenizer.decode([token]) for token in tokens.tolist()]


def sample_prompts(dataset: Dataset, passages: Sequence[np.ndarray]) -> list[tuple[list[int], str]]:
    """Two prompts as (tokens, text): a document's start, where that is a token, and the first words of a passage."""
    eot, decode = dataset.tokenizer.eot, dataset.tokenizer.decode
    prompts = [] if eot is None else [([eot], "")]
    for passage in passages[:: max(1, len(passages) - 1)][::-1]:
        tokens = passage[: PROMPT_TOKENS + (passage[0] == eot)].tolist()
        prompts.append((tokens, decode([token for token in tokens if token != eot])))
    return prompts[:2]


def write(model: GPT, tokenizer: Tokenizer, prompt: list[int]) -> list[str]:
    """Samples after the prompt, up to the end of the text."""
    drawn = generate(
        model, prompt, SAMPLES, SAMPLE_TOKENS, seed=SEED, temperature=TEMPERATURE, stop=tokenizer.eot
    )  # (1, SAMPLES, ≤ SAMPLE_TOKENS)
    texts = [
        sample[: sample.index(tokenizer.eot)] if tokenizer.eot in sample else sample for sample in drawn[0].tolist()
    ]
    return [tokenizer.decode(text) for text in texts]


def sampled(prompt: str, texts: list[list[str]], runs: Sequence[Run], tales: bool) -> dict:
    """One prompt's samples: texts[run][sample]; for tales with the relations kept and broken in all of a run's."""
    rows = []
    for run, of_run in zip(runs, texts, strict=True):
        row = {"n_head": run.n_head, "name": run.name, "texts": of_run}
        if tales:
            counts = [asdict(check(prompt + text)) for text in of_run]
            row |= {kind: sum(sum(c[kind].values()) for c in counts) for kind in ("kept", "broken")}
        rows.append(row)
    return {"prompt": prompt, "runs": rows}
