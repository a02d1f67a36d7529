"""Sampled text of all head counts: drawn at once from one stack, laid side by side, its relations counted."""

import logging
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from data.tales import Check, check
from data.tokenizers import Tokenizer, load_tokenizer
from errors import InputError
from experiment import checkpoint
from experiment.folder import Experiment, Run
from experiment.pretrained import load_pretrained, looks_pretrained, open_pretrained
from experiment.sweep import RunSpec
from machine import pick_device
from model.config import ModelConfig
from model.fast import kernels_for
from model.generate import generate
from model.gpt import GPT
from model.gpt2 import load_gpt2_tensors
from training.memory import require_room_to_sample

log = logging.getLogger("headcount")

NARROWEST = 28
"""Characters that a column of text needs; where the terminal has less for each H, the texts stand below each other."""


def load_stack(runs: Sequence[Run], config: ModelConfig, device: torch.device) -> GPT:
    """The runs' newest weights as one stack that drops nothing, with the attention that `config` names.

    Raises:
        InputError: a run has no checkpoint yet, or only damaged ones.
    """
    model = None
    for place, run in enumerate(runs):
        found = checkpoint.load_weights(run)
        if found is None:
            raise InputError(f"{run.path}: not trained yet; run train.py with its config first")
        state, tensors = found
        if state.diverged is not None:
            log.warning(f"{run.name} diverged at iteration {state.diverged}: these are its last finite weights")
        elif not run.finished:
            log.warning(f"{run.name} is unfinished: iteration {state.iteration} of {run.max_iters}")
        if model is None:
            config = replace(config, dropout=0.0)
            heads = [other.n_head for other in runs]
            model = GPT(config, len(tensors["transformer.wte.weight"]), heads, kernels_for(config, device))
        load_gpt2_tensors(model, place, tensors)
    return model.to(device).eval()


@dataclass
class Samples:
    """Texts (prompt left out) by run and sample, and how they were drawn."""

    prompt: str
    runs: list[Run]
    texts: list[list[str]]
    """texts[r][i]: sample i of run r."""
    relations: list[Check] | None
    """For tales: relations kept and broken in all samples of a run."""
    settings: dict

    @classmethod
    def draw(
        cls,
        path: str,
        *,
        n_head: Sequence[int] | None,
        run_seed: int | None,
        device: str,
        prompt: str | None,
        num_samples: int,
        max_new_tokens: int,
        progress: Callable[[int], object] = lambda n: None,
        **settings: float | None,
    ) -> "Samples":
        """Sample from the experiment in `path`: one run for each head count, that of training seed run_seed.

        `path` may be a GPT-2 in Hugging Face format too, a folder or a name on the hub: then one text for each of
        `n_head`, or its own head count's alone. A prompt of None or "" is the start of a document. `settings`:
        generate's seed, temperature, top_k, top_p, greedy. Raises InputError.
        """
        tales = False
        if looks_pretrained(path):
            source = open_pretrained(path)
            if run_seed is not None:
                raise InputError(f"--run_seed {run_seed}: {path} is one GPT-2, with no seeds to choose from")
            model = load_pretrained(source, n_head, device)
            runs = [Run(source.folder, RunSpec(source.folder.name, heads, 0, 0.0, 0.0), 0) for heads in model.n_head]
            tokenizer = source.tokenizer()
        else:
            experiment = Experiment.open(path)
            chosen = experiment.select(n_head, run_seed)
            runs = list({run.n_head: run for run in reversed(chosen)}.values())[::-1]  # the first of each head count
            model = load_stack(runs, experiment.config.model, pick_device(device))
            tokenizer = load_tokenizer(experiment.path / "tokenizer")
            tales = experiment.config.data.source == "tales"
        tokens = tokenizer.encode(prompt) if prompt else document_start(tokenizer)
        require_room_to_sample(model, num_samples, max_new_tokens)
        generated = generate(
            model, tokens, num_samples, max_new_tokens, stop=tokenizer.eot, progress=progress, **settings
        )
        texts = [[_text(tokenizer, sample) for sample in run] for run in generated.tolist()]
        relations = [_add(check((prompt or "") + text) for text in of_run) for of_run in texts] if tales else None
        settings |= {"num_samples": num_samples, "max_new_tokens": max_new_tokens}
        return cls(prompt or "", runs, texts, relations, settings)

    def as_dict(self) -> dict:
        """Plain values: prompt, settings, and for each run its n_head, seed, texts and relations."""
        return {
            "prompt": self.prompt,
            "settings": self.settings,
            "runs": [
                {
                    "name": run.name,
                    "n_head": run.n_head,
                    "seed": run.seed,
                    "texts": texts,
                    "relations": asdict(self.relations[r]) if self.relations else None,
                }
                for r, (run, texts) in enumerate(zip(self.runs, self.texts, strict=True))
            ],
        }


def page(samples: Samples, width: int) -> str:
    """The samples for a terminal `width` characters wide: columns where every H has room, else one below the other."""
    n_run = len(samples.runs)
    titles = [f"H = {run.n_head}  ({run.name})" for run in samples.runs]
    column = (width - 3 * (n_run - 1)) // n_run
    parts = []
    for i in range(len(samples.texts[0])):
        texts = [samples.prompt + of_run[i] for of_run in samples.texts]
        if len(samples.texts[0]) > 1:
            parts.append(f"── sample {i + 1} " + "─" * max(0, width - 12 - len(str(i + 1))))
        if n_run > 1 and column >= NARROWEST:
            parts.append(_columns(titles, texts, column))
        else:
            parts += [f"{title}\n{_wrap(text, width)}\n" for title, text in zip(titles, texts, strict=True)]
    if samples.relations:
        parts.append("relations kept / broken, all samples of an H:")
        for title, result in zip(titles, samples.relations, strict=True):
            counts = "  ".join(f"{r.replace('_', '-')} {result.kept[r]}/{result.broken[r]}" for r in result.kept)
            parts.append(f"  {title.ljust(max(map(len, titles)))}  {counts}")
    return "\n".join(parts)


def _columns(titles: Sequence[str], texts: Sequence[str], width: int) -> str:
    blocks = [
        [title[:width], "─" * width, *_wrap(text, width).split("\n")] for title, text in zip(titles, texts, strict=True)
    ]
    height = max(map(len, blocks))
    rows = zip(*(block + [""] * (height - len(block)) for block in blocks), strict=True)
    return "\n".join(" │ ".join(cell.ljust(width) for cell in row).rstrip() for row in rows) + "\n"


def _wrap(text: str, width: int) -> str:
    """Long lines folded at spaces, the text's own line ends kept; control characters shown, not obeyed."""
    shown = "".join(
        c if c == "\n" or c.isprintable() else "·" for c in text.replace("\r\n", "\n").replace("\t", "    ")
    )
    return "\n".join(textwrap.fill(line, width, drop_whitespace=True) for line in shown.split("\n"))


def _text(tokenizer: Tokenizer, tokens: list[int]) -> str:
    """Decode up to the end-of-text token."""
    if tokenizer.eot in tokens:
        tokens = tokens[: tokens.index(tokenizer.eot)]
    return tokenizer.decode(tokens)


def document_start(tokenizer: Tokenizer) -> list[int]:
    """What a text begins with where there is no prompt: end-of-text, else a line end, as nanoGPT does, else token 0."""
    if tokenizer.eot is not None:
        return [tokenizer.eot]
    try:
        return tokenizer.encode("\n")
    except InputError:
        return [0]


def _add(checks: Iterable[Check]) -> Check:
    """The sum of several checks."""
    checks = list(checks)
    kept, broken = (
        {r: sum(getattr(c, kind)[r] for c in checks) for r in checks[0].kept} for kind in ("kept", "broken")
    )
    return Check(kept, broken)
