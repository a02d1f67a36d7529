"""An experiment's runs from Python: weights, tokenizer, text and measurements. See `headcount.load`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from data.tokenizers import Tokenizer, load_tokenizer
from experiment.folder import Experiment, Run
from experiment.pretrained import Pretrained, load_pretrained, looks_pretrained, open_pretrained
from experiment.samples import document_start, load_stack
from machine import pick_device
from model.config import ModelConfig
from model.generate import generate
from model.gpt import GPT
from model.hooks import run_with_cache
from training.memory import require_room_to_sample


@dataclass(eq=False)
class LoadedRun:
    """One run with its network: a GPT of R = 1, loaded when it is first asked for."""

    name: str
    n_head: int
    seed: int | None
    """None for a GPT-2 that was not trained here."""
    config: ModelConfig
    device: torch.device
    source: Run | Pretrained
    tokenizer: Tokenizer

    @cached_property
    def model(self) -> GPT:
        """The newest weights, with eager attention, which passes every hook point."""
        return self._load("eager")

    @cached_property
    def fast_model(self) -> GPT:
        """The newest weights, with the attention of the config: what sample.py samples from."""
        return self._load(self.config.attention)

    def _load(self, attention: str) -> GPT:
        if isinstance(self.source, Pretrained):
            return load_pretrained(self.source, [self.n_head], str(self.device), attention)
        return load_stack([self.source], replace(self.config, attention=attention), self.device)

    def generate(
        self,
        prompt: str = "",
        max_new_tokens: int = 200,
        *,
        num_samples: int = 1,
        seed: int = 0,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        greedy: bool = False,
    ) -> list[str]:
        """Texts that go on from the prompt, which they begin with; as sample.py's. "" is the start of a document.

        Raises:
            errors.InputError: the tokenizer does not know a character of the prompt, or there is no room for the texts.
        """
        tokens = self.tokenizer.encode(prompt) if prompt else document_start(self.tokenizer)
        settings = {"seed": seed, "temperature": temperature, "top_k": top_k, "top_p": top_p, "greedy": greedy}
        require_room_to_sample(self.fast_model, num_samples, max_new_tokens)
        found = generate(self.fast_model, tokens, num_samples, max_new_tokens, stop=self.tokenizer.eot, **settings)
        return [prompt + self.tokenizer.decode(_before(text, self.tokenizer.eot)) for text in found[0].tolist()]

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
        return [] if isinstance(self.source, Pretrained) else self.source.metrics()

    def _tokens(self, text: str | Sequence[int]) -> Tensor:
        """(1, 1, T): at least one token."""
        tokens = self.tokenizer.encode(text) if isinstance(text, str) else list(text)
        tokens = tokens or document_start(self.tokenizer)
        return torch.tensor(tokens[-self.config.block_size :], device=self.device)[None, None]


@dataclass(eq=False)
class Runs(Mapping[str, LoadedRun]):
    """The runs of an experiment, by name, ordered by H and seed."""

    path: Path
    runs: dict[str, LoadedRun]
    experiment: Experiment | None
    """None for a GPT-2 that was not trained here."""

    @classmethod
    def open(cls, path: str | Path, device: str = "auto") -> "Runs":
        """See `headcount.load`."""
        where = pick_device(device)
        if looks_pretrained(str(path)):
            source = open_pretrained(str(path))
            name = source.folder.name if Path(path).exists() else str(path)
            run = LoadedRun(name, source.config.n_head, None, source.config, where, source, source.tokenizer())
            return cls(source.folder, {name: run}, None)
        experiment = Experiment.open(path)
        tokenizer = load_tokenizer(experiment.path / "tokenizer")
        config = experiment.config.model
        return cls(
            experiment.path,
            {r.name: LoadedRun(r.name, r.n_head, r.seed, config, where, r, tokenizer) for r in experiment.runs},
            experiment,
        )

    def __getitem__(self, name: str) -> LoadedRun:
        if name not in self.runs:
            raise KeyError(f"{self.path} has no run {name}; it has {', '.join(self.runs)}")
        return self.runs[name]

    def __contains__(self, name: object) -> bool:
        return name in self.runs

    def __iter__(self) -> Iterator[str]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def metrics(self) -> list[dict]:
        """One row for every line that a run logged, ready for a table: run, n_head, seed, and the line's values.

        Losses by relation have columns of their own, such as val_loss_local.
        """
        return [
            {"run": run.name, "n_head": run.n_head, "seed": run.seed} | _flat(line)
            for run in self.runs.values()
            for line in run.metrics()
        ]


def _flat(line: dict) -> dict:
    relations = line.get("val_loss_by_relation") or {}
    plain = {key: value for key, value in line.items() if key != "val_loss_by_relation"}
    return plain | {f"val_loss_{relation}": loss for relation, loss in relations.items()}


def _before(tokens: list[int], eot: int | None) -> list[int]:
    """The tokens up to end-of-text."""
    return tokens[: tokens.index(eot)] if eot in tokens else tokens
