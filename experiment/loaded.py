"""Runs with their networks: to sample from, to look into, to read measurements of. See `headcount.load`."""

import logging
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from data.tokenizers import Tokenizer, load_tokenizer
from errors import InputError
from experiment import checkpoint
from experiment.folder import Experiment, Run
from experiment.pretrained import Pretrained, looks_pretrained, open_pretrained, other_split, put
from experiment.sampling import Sampling
from experiment.texts import continuations, document_start, prompt_tokens, text_of
from machine import pick_device
from model.config import ModelConfig
from model.fast import kernels_for
from model.gpt import GPT
from model.hooks import run_with_cache
from terminal import table

log = logging.getLogger("headcount")

FEW_DOCUMENTS = 100
"""Below so many documents in a corpus, how one begins is hardly learned."""


def load_stack(
    sources: Sequence[Run | Pretrained], config: ModelConfig, device: torch.device, iteration: int | None = None
) -> GPT:
    """The sources' weights as one stack that drops nothing, with the attention that `config` names.

    iteration: of runs, the checkpoint of this step; None: the newest.

    Raises:
        InputError: a run has no such checkpoint, or only damaged ones; a GPT-2's weights are not what its config says.
    """
    config = replace(config, dropout=0.0)
    heads = [source.n_head for source in sources]
    model, held, tensors = None, None, {}
    for row, source in enumerate(sources):
        folder = source.path if isinstance(source, Run) else source.folder
        if folder != held:
            tensors, held = _weights(source, iteration) if isinstance(source, Run) else source.tensors(), folder
        if model is None:
            vocab_size = len(tensors["transformer.wte.weight"]) if isinstance(source, Run) else source.vocab_size
            with torch.device("meta"):  # shapes without data: what does not fit its config takes no memory
                put(folder, GPT(config, vocab_size, heads[:1]), 0, tensors)
            model = GPT(config, vocab_size, heads, kernels_for(config, device))
        put(folder, model, row, tensors)
    return model.to(device).eval()


def _weights(run: Run, iteration: int | None) -> dict[str, Tensor]:
    found = checkpoint.load_weights(run, iteration)
    if found is None:
        raise InputError(f"{run.path}: not trained yet; run train.py with its config first")
    state, tensors = found
    if state.diverged is not None:
        log.warning(f"{run.name} diverged at iteration {state.diverged}: these are its last finite weights")
    elif iteration is None and not run.finished:
        log.warning(f"{run.name} is unfinished: iteration {state.iteration} of {run.max_iters}")
    return tensors


@dataclass(eq=False)
class LoadedRun:
    """One run with its networks, each a GPT of R = 1 that is loaded when it is first asked for."""

    source: Run | Pretrained
    """A run of an experiment, or a GPT-2 that was not trained here."""
    config: ModelConfig
    tokenizer: Tokenizer
    start: list[int]
    """Tokens that an unprompted text begins after."""
    device: torch.device
    iteration: int | None = None
    """Of the checkpoint whose weights are loaded; None: the newest."""

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def n_head(self) -> int:
        return self.source.n_head

    @property
    def axes(self) -> dict[str, Any]:
        """What sets the run apart: n_head, seed, learning_rate and weight_decay; of another's GPT-2 n_head alone."""
        of_run = ("seed", "learning_rate", "weight_decay") if isinstance(self.source, Run) else ()
        return {name: getattr(self.source, name) for name in ("n_head", *of_run)}

    @property
    def setting(self) -> tuple:
        """What sets the run apart, its seed left out."""
        return tuple(value for name, value in self.axes.items() if name != "seed")

    @cached_property
    def model(self) -> GPT:
        """The weights, with eager attention, which passes every hook point."""
        return load_stack([self.source], replace(self.config, attention="eager"), self.device, self.iteration)

    @cached_property
    def fast_model(self) -> GPT:
        """The weights, with the attention of the config: what sample.py samples from."""
        return load_stack([self.source], self.config, self.device, self.iteration)

    def generate(self, prompt: str = "", max_new_tokens: int = 200, **settings: Any) -> list[str]:
        """Texts that go on from the prompt, which they begin with; as sample.py's. "" is the start of a document.

        settings: num_samples, seed, temperature, top_k, top_p, greedy, stop; see `sampling.Sampling`.

        Raises:
            errors.InputError: a setting cannot be used, the tokenizer does not know a character of the prompt, or there
                is no room for the texts.
        """
        sampling = Sampling.of({"max_new_tokens": max_new_tokens, **settings}, "generate")
        tokens = prompt_tokens(self.tokenizer, prompt, self.start)
        drawn = continuations(self.fast_model, self.tokenizer, tokens, sampling)[0]
        return [prompt + text_of(self.tokenizer, sample, sampling.stop) for sample in drawn]

    @torch.no_grad()
    def logits(self, text: str) -> Tensor:
        """Logits (T, V) after each token of the text, of which the last block_size tokens count."""
        return self.model(self._tokens(text))[0, 0]

    @torch.no_grad()
    def run_with_cache(self, text: str | Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (T, V) and every hook point of attention on a text or its token ids: {"h.0.attn.q": (H, T, d_h), …}.

        Named as in model.attention.HOOK_POINTS; scores and pattern are (H, T, T), concat and out (T, D).
        """
        logits, seen = run_with_cache(self.model, self._tokens(text))
        return logits[0, 0], {name: x[0, 0] for name, x in seen.items()}

    def metrics(self) -> list[dict]:
        """The lines of metrics.jsonl; none for a GPT-2 that was not trained here."""
        return self.source.metrics() if isinstance(self.source, Run) else []

    def _tokens(self, text: str | Sequence[int]) -> Tensor:
        """(1, 1, T): at least one token."""
        tokens = self.tokenizer.encode(text) if isinstance(text, str) else list(text)
        tokens = tokens or self.start
        return torch.tensor(tokens[-self.config.block_size :], device=self.device)[None, None]


@dataclass(eq=False, repr=False)
class Runs(Mapping[str, LoadedRun]):
    """The runs of an experiment, by name, ordered by H and seed."""

    path: Path
    runs: dict[str, LoadedRun]
    experiment: Experiment | None
    """None for a GPT-2 that was not trained here."""

    @classmethod
    def open(cls, path: str | Path, device: str = "auto", iteration: int | None = None) -> "Runs":
        """See `headcount.load`. iteration: of the checkpoints whose weights are loaded; None: the newest."""
        where = pick_device(device)
        if looks_pretrained(str(path)):
            source = open_pretrained(str(path))
            source = replace(source, name=source.folder.name if Path(path).exists() else source.name)
            if iteration is not None:
                raise InputError(f"--iter {iteration}: {path} is one GPT-2, with no iterations to choose from")
            tokenizer = source.tokenizer()
            own = source.folder.parent  # where it is a run's folder
            start = start_tokens(tokenizer, Experiment.open(own) if (own / "config.yaml").is_file() else None)
            run = LoadedRun(source, source.config, tokenizer, start, where)
            return cls(source.folder, {run.name: run}, None)
        experiment = Experiment.open(path)
        tokenizer = load_tokenizer(experiment.path / "tokenizer")
        start = start_tokens(tokenizer, experiment)
        trained = [run for run in experiment.runs if run.checkpoints()]  # of a sweep that grew, some may never be
        loaded = [
            LoadedRun(run, experiment.config.model, tokenizer, start, where, iteration)
            for run in trained or experiment.runs
        ]
        return cls(experiment.path, {run.name: run for run in loaded}, experiment)

    def __getitem__(self, name: str) -> LoadedRun:
        if name not in self.runs:
            raise KeyError(f"{self.path} has no run {name}; it has {', '.join(self.runs)}")
        return self.runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        """A table, a row a run."""
        rows = self.final()
        head = [name for name in rows[0] if any(row[name] is not None for row in rows)] if rows else ["run"]
        return table(head, [[_cell(row[name]) for name in head] for row in rows])

    def select(
        self,
        n_head: int | Iterable[int] | None = None,
        seed: int | Iterable[int] | None = None,
        learning_rate: float | Iterable[float] | None = None,
    ) -> "Runs":
        """The runs with these values, each one or several; None: all.

        Of a GPT-2 that was not trained here any head count that divides its width can be had: the same weights, split
        otherwise.

        Raises:
            errors.InputError: names what is not there, and what is.
        """
        if self.experiment is None:
            return self._splits(n_head, seed, learning_rate)
        chosen = self.runs
        for axis, wanted in (("n_head", n_head), ("seed", seed), ("learning_rate", learning_rate)):
            if wanted is None:
                continue
            held = sorted({run.axes[axis] for run in self.runs.values()})
            if isinstance(wanted, str):
                raise InputError(f"select: {axis} must be a number, or several, got {wanted!r}")
            values = list(wanted) if isinstance(wanted, Iterable) else [wanted]
            if missing := [value for value in values if value not in held]:
                lacks, has = ", ".join(map(str, missing)), ", ".join(map(str, held))
                raise InputError(f"{self.path} has no run with {axis} {lacks}; it has {has}")
            chosen = {name: run for name, run in chosen.items() if run.axes[axis] in values}
        if not chosen:
            raise InputError(f"{self.path} has no trained run with all of these values; print(load(PATH)) lists them")
        return replace(self, runs=chosen)

    def _splits(self, n_head: int | Iterable[int] | None, *others: object) -> "Runs":
        run = next(iter(self.runs.values()))
        if any(value is not None for value in others):
            raise InputError(f"{run.name} is one GPT-2, with no seeds or learning rates to choose from")
        heads = [run.n_head] if n_head is None else sorted(set(n_head)) if isinstance(n_head, Iterable) else [n_head]
        sources = [run.source.split(count) for count in heads]
        if warning := other_split(run.source, heads):
            log.warning(warning)
        return replace(self, runs={s.name: replace(run, source=s, config=s.config) for s in sources})

    def best(self) -> "Runs":
        """The runs of each head count at the learning rate and weight decay of the lowest final loss, over seeds.

        A run that diverged does not count, and settings come first that have the most runs that do.
        """
        losses: dict[tuple, list[float]] = {}
        for row, run in zip(self.final(), self.runs.values(), strict=True):
            of = losses.setdefault(run.setting, [])
            if row["val_loss"] is not None and row["diverged"] is None:
                of.append(row["val_loss"])
        order = {setting: (-len(of), statistics.fmean(of) if of else math.inf) for setting, of in losses.items()}
        chosen = {n_head: min((s for s in order if s[0] == n_head), key=order.get) for n_head, *_ in order}
        return replace(self, runs={n: run for n, run in self.runs.items() if run.setting == chosen[run.n_head]})

    def first_seeds(self) -> "Runs":
        """One run of each head count, the first."""
        firsts = {run.n_head: run for run in reversed(self.runs.values())}
        return replace(self, runs={run.name: run for run in reversed(firsts.values())})

    def stack(self) -> GPT:
        """The networks of all runs as one, with the attention of the config."""
        first = next(iter(self.runs.values()))
        return load_stack([run.source for run in self.runs.values()], first.config, first.device, first.iteration)

    def metrics(self, kind: Literal["val", "train"] = "val") -> list[dict]:
        """Measurements of the runs over their training, a plain row each, ready for a table.

        kind: val: run, n_head, seed, learning_rate, weight_decay, iter, tokens, seconds, val_loss, and for tales
        val_loss_local and so on; train: train_loss, grad_norm and lr in place of the losses of validation.
        """
        rows = []
        for run in self.runs.values():
            for line in run.metrics():
                if f"{kind}_loss" not in line:
                    continue
                relations = line.get("val_loss_by_relation") or {}
                values = {"val_loss": line.get("val_loss"), **{f"val_loss_{r}": loss for r, loss in relations.items()}}
                if kind == "train":
                    values = {name: line.get(name) for name in ("train_loss", "grad_norm", "lr")}
                shared = {name: line.get(name) for name in ("iter", "tokens", "seconds")}
                rows.append({"run": run.name, **run.axes, **shared, **values})
        return rows

    def final(self) -> list[dict]:
        """One plain row a run: what sets it apart, its last iteration, final and lowest validation loss (nats a token)
        and bits per byte, and the step at which it diverged; None where there is nothing to say."""
        bits = self.experiment.bits_per_nat if self.experiment else None
        rows = []
        for run in self.runs.values():
            lines = [line for line in run.metrics() if line.get("val_loss") is not None]
            last = lines[-1] if lines else {}
            best = min((line["val_loss"] for line in lines), default=None)
            loss = last.get("val_loss")
            of_byte = loss * bits if bits and loss is not None else None
            values = {"iter": last.get("iter"), "val_loss": loss, "best_val_loss": best, "bits_per_byte": of_byte}
            values["diverged"] = next(
                (line["diverged"] for line in reversed(run.metrics()) if "diverged" in line), None
            )
            rows.append({"run": run.name, **run.axes, **values})
        return rows


def start_tokens(tokenizer: Tokenizer, experiment: Experiment | None) -> list[int]:
    """What unprompted texts begin after: a line end where the corpus is files too few to learn how one begins."""
    files = experiment is not None and experiment.config.data.source == "text"
    return document_start(tokenizer, not files or experiment.environment.get("n_documents", 1) >= FEW_DOCUMENTS)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 0.1 else f"{value:g}"
    return "-" if value is None else str(value)
