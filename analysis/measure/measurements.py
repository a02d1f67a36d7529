"""All that has to run networks, taken for runs of a sweep or for a GPT-2 alike: one call a measure.

    measurements = Measurements.of_runs(experiment, runs, "cpu")
    found = measurements.take("heads")      # found.values[n_head][seed]: what measure_heads returned for that run

Networks of equal H go through a measure together, and only those whose value is not kept beside their run. Nothing
raises for what cannot be measured: `notes` say what and why.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import torch

from analysis.measure import ablation, cost, heads, relations, sampled
from analysis.measure.kept import Kept, weights_checksum
from analysis.measure.texts import CannotMeasure, StoryText, ValidationText
from data.tales import pairs, relation_floor
from errors import InputError
from experiment.config import Config
from experiment.folder import Experiment, Run
from experiment.loaded import load_stack, start_tokens
from experiment.pretrained import Pretrained
from experiment.sampling import SCORED, Sampling
from machine import pick_device
from model.config import ModelConfig
from model.describe import flops_per_token
from model.gpt import GPT

Progress = Callable[[float], object]
Values = dict[int, dict[int, dict]]
"""{n_head: {seed: value}}, both ascending."""

VERSIONS = {
    "relations": relations.VERSION,
    "texts": sampled.VERSION,
    "heads": heads.VERSION,
    "ablation": ablation.VERSION,
}
STACK_ELEMENTS = 2**27
"""Parameters of networks that are measured at once, and their attention weights in a window: half a GiB of fp32."""
FLOPS = 5e10
"""Operations a second that estimates go by: one core of a CPU."""
PATTERN_SECONDS = 1.5e-8
"""To compute an attention weight eagerly and reduce it."""


@dataclass(frozen=True)
class Network:
    """One of the networks that are measured. seed: 0 for a GPT-2; run: beside which values are kept, if any."""

    name: str
    n_head: int
    seed: int = 0
    run: Run | None = None

    @cached_property
    def weights(self) -> str:
        """Checksum of a run's weights. Raises InputError where there are none."""
        return weights_checksum(self.run)


@dataclass
class Found:
    """The values of a measure, and in `notes`, a sentence each, what could not be measured and why."""

    values: Values = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Measurements:
    """Networks of one shape, the text they are measured on, and how they are loaded."""

    networks: list[Network]
    config: ModelConfig
    vocab_size: int
    text: ValidationText | StoryText
    load: Callable[[Sequence[Network], str], GPT]
    """A stack of some of the networks, with this attention of ModelConfig's."""
    device: torch.device
    quick: bool = False
    """Run no network: only what is kept counts."""
    progress: Progress = lambda seconds: None
    """Called with estimated seconds of work done, which over a measure add up to `work`."""
    training: Config | None = None
    """What runs were trained with; None for a GPT-2."""
    bf16: bool = False
    """Whether their products were in bf16."""

    @classmethod
    def of_runs(cls, experiment: Experiment, runs: Sequence[Run], device: str, **settings: Any) -> "Measurements":
        """Runs that share the config and corpus of `experiment`, which need not be all its own.

        settings: quick, progress. Raises InputError where the device is not here.
        """
        config, where, environment = experiment.config, pick_device(device), experiment.environment

        def load(networks: Sequence[Network], attention: str) -> GPT:
            return load_stack([n.run for n in networks], replace(config.model, attention=attention), where)

        networks = sorted((Network(r.name, r.n_head, r.seed, r) for r in runs), key=lambda n: (n.n_head, n.seed))
        settings |= {"training": config, "bf16": environment.get("precision") == "bf16"}
        text = ValidationText(experiment)
        return cls(networks, config.model, environment["vocab_size"], text, load, where, **settings)

    @classmethod
    def of_pretrained(cls, source: Pretrained, device: str, **settings: Any) -> "Measurements":
        """A GPT-2 that was not trained here. Raises InputError where device or tokenizer are not here."""
        text, where = StoryText(source.tokenizer(), source.config.block_size), pick_device(device)

        def load(networks: Sequence[Network], attention: str) -> GPT:
            return load_stack([source], replace(source.config, attention=attention), where)

        networks = [Network(source.name, source.config.n_head)]
        return cls(networks, source.config, source.vocab_size, text, load, where, **settings)

    @property
    def measures(self) -> list[str]:
        """What `take` can measure of these networks."""
        texts = ["texts"] * (self.training is not None)
        return ["relations"] * self.tales + texts + ["heads", "ablation"]

    @property
    def tales(self) -> bool:
        return self.training is not None and self.training.data.source == "tales"

    @property
    def sampling(self) -> Sampling:
        """How texts are drawn: as sample.py draws those that it scores."""
        seeds = len({network.seed for network in self.networks})
        return Sampling(num_samples=-(-SCORED // seeds))

    def work(self, measure: str) -> float:
        """Estimated seconds that a measure or "cost" takes on one core, 0 for what is kept; good in proportion."""
        if self.quick:
            return 0.0
        if measure == "cost":
            return 0.0 if self._kept_cost().read() else self._seconds("cost", self.networks)
        return self._seconds(measure, self._kept_values(measure)[1])

    def take(self, measure: str) -> Found:
        """A measure of every network: one of `measures`; the values are described in the module of that name."""
        values, missing, notes = self._kept_values(measure)
        for stack in self._stacks(measure, [] if self.quick else missing):
            try:
                with self._working(self._seconds(measure, stack)) as step:
                    values |= self._measure(measure, stack, step, notes)
            except (CannotMeasure, InputError) as error:
                notes.append(f"{measure.capitalize()} could not be measured: {error}.")
        found = Found(notes=list(dict.fromkeys(notes)))
        for network in self.networks:
            if network in values:
                found.values.setdefault(network.n_head, {})[network.seed] = values[network]
        return found

    def floor(self) -> dict[str, float] | None:
        """{relation: nats} under which no network with this context and tokenizer can be; None without the corpus."""
        try:
            return relation_floor(self.text.tokenizer.encode, self.config.block_size)
        except CannotMeasure:
            return None

    def costs(self) -> tuple[dict, dict] | None:
        """measure_costs for every H and the machine it ran on; None where it is not kept and `quick` is set."""
        kept, counts = self._kept_cost(), sorted({n.n_head for n in self.networks})
        value = kept.read()
        if value is None and not self.quick:
            parts = cost.ROUNDS * len(cost.CORES) * len(counts)
            with self._working(self._seconds("cost", self.networks)) as step:
                value = cost.measure_costs(
                    self.training, self.vocab_size, counts, self.device, self.bf16, lambda n: step(n / parts)
                )
            kept.write(value)
        return value and (value, cost.machine(self.device))

    def _kept_values(self, measure: str) -> tuple[dict[Network, dict], list[Network], list[str]]:
        """What is kept of a measure, of which networks nothing is, and what is wrong with others."""
        values, missing, notes = {}, [], []
        for network in self.networks:
            try:
                value = self._kept(measure, network).read() if network.run else None
            except InputError as error:
                notes.append(f"{error}.")
                continue
            if value is None:
                missing.append(network)
            else:
                values[network] = value
        return values, missing, notes

    def _kept(self, measure: str, network: Network) -> Kept:
        if measure == "relations":
            settings = {name: getattr(relations, name) for name in ("PAIRS", "PAIR_SEED")}
        elif measure == "texts":  # which companions of its seed read
            settings = asdict(self.sampling) | {"beside": [n.name for n in self.networks if n.seed == network.seed]}
        else:
            settings = {"windows": self.text.count(measure)}
        return self.kept(measure, network, VERSIONS[measure], settings)

    def kept(self, name: str, network: Network, version: int, settings: dict) -> Kept:
        """Where a value taken of a run's weights on this text is kept. Raises InputError where it has no weights."""
        return Kept.of(network.run, network.weights, name, version, settings | self.text.settings)

    def _kept_cost(self) -> Kept:
        """Beside the first run; whatever its weights are, a machine takes as long."""
        settings = {"heads": sorted({n.n_head for n in self.networks}), "bf16": self.bf16, **cost.machine(self.device)}
        return Kept.of(self.networks[0].run, "", "cost", cost.VERSION, settings)

    def _stacks(self, measure: str, networks: Sequence[Network]) -> Iterator[list[Network]]:
        """Networks that go through a measure together, as many as there is room: those of equal H (relations: all).

        For texts all of a seed, as they read each other's.
        """
        if measure == "texts":
            for seed in sorted({network.seed for network in networks}):
                yield [network for network in self.networks if network.seed == seed]
            return
        model = self.config
        size = 12 * model.n_layer * model.n_embd**2 + (self.vocab_size + model.block_size) * model.n_embd
        for _, group in groupby(networks, key=lambda n: measure == "relations" or n.n_head):
            group = list(group)
            most = max(size, (measure == "heads") * group[0].n_head * model.block_size**2)
            room = max(1, STACK_ELEMENTS // most)
            yield from (group[first : first + room] for first in range(0, len(group), room))

    def _measure(
        self, measure: str, networks: Sequence[Network], step: Progress, notes: list[str]
    ) -> dict[Network, dict]:
        """The values of a stack, which are kept; adds to notes. Raises CannotMeasure for all, InputError."""
        model = self.load(networks, "eager" if measure == "heads" else self.config.attention)
        take = {
            "relations": self._relations,
            "texts": self._texts,
            "heads": self._heads,
            "ablation": self._ablation,
        }[measure]
        values = {}
        for network, value in zip(networks, take(model, step), strict=True):
            if not is_finite(value):
                notes.append(f"{network.name}: {measure} could not be measured: its numbers are not finite.")
                continue
            values[network] = value
            if network.run:
                self._kept(measure, network).write(value)
        return values

    def _heads(self, model: GPT, step: Progress) -> list[dict]:
        x, y = (part.to(self.device) for part in self.text.windows("heads"))
        if min(x.shape[1], self.config.block_size) < heads.SHORTEST or not (y[:, heads.FIRST_QUERY :] >= 0).any():
            raise CannotMeasure(f"it takes {heads.SHORTEST} tokens of context and of text at least")
        return heads.measure_heads(model, x, y >= 0, self.text.tokenizer.eot, lambda n: step(n / len(x)))

    def _ablation(self, model: GPT, step: Progress) -> list[dict]:
        x, y = (part.to(self.device) for part in self.text.windows("ablation"))
        passes = ablation.passes(len(model.h), model.n_head[0])
        return ablation.ablate(model, x, y, lambda n: step(n / passes))

    def _relations(self, model: GPT, step: Progress) -> list[dict]:
        asked = pairs(relations.PAIRS, relations.PAIR_SEED)
        choices = relations.forced_choice(model, self.text.tokenizer, asked, lambda n: step(n / len(asked)))
        return [{"choice": choice} for choice in choices]

    def _texts(self, model: GPT, step: Progress) -> list[dict]:
        tokenizer, sampling = self.text.tokenizer, self.sampling
        start = start_tokens(tokenizer, self.text.experiment)
        progress = lambda n: step(n / sampling.max_new_tokens)  # noqa: E731
        return sampled.measure_texts(model, tokenizer, start, sampling, self.tales, progress=progress)

    @contextmanager
    def _working(self, seconds: float) -> Iterator[Progress]:
        """Report work of so many seconds: in the shares that are called back, and the rest when it is done."""
        left = seconds

        def step(share: float) -> None:
            nonlocal left
            done = min(left, share * seconds)
            left -= done
            self.progress(done)

        try:
            yield step
        finally:
            self.progress(left)

    def _seconds(self, measure: str, networks: Sequence[Network]) -> float:
        """What `work` says, of these networks."""
        layers, length = self.config.n_layer, self.config.block_size
        flops = {
            h: sum(flops_per_token(self.config, self.vocab_size, h).values()) for h in {n.n_head for n in networks}
        }
        if measure == "cost":
            train = self.training.train
            tokens = train.batch_size * train.gradient_accumulation_steps * length
            iterations = cost.ROUNDS * (cost.LEAST + 2) * len(cost.CORES)
            work = sum(3 * tokens * each * iterations / FLOPS for each in flops.values())
            return work + cost.ROUNDS * len(cost.CORES) * cost.SECONDS * len(flops)
        if measure == "relations":
            return sum(6 * relations.PAIRS * min(length, 150) * flops[n.n_head] / FLOPS for n in networks)
        if measure == "texts":
            tokens = self.sampling.num_samples * self.sampling.max_new_tokens
            return sum(2 * tokens * flops[n.n_head] / FLOPS for n in networks)
        tokens = self.text.count(measure) * self.text.length
        if measure == "ablation":
            return sum(tokens * flops[n.n_head] / FLOPS * ablation.passes(layers, n.n_head) for n in networks)
        pattern = layers * length * PATTERN_SECONDS
        return sum(tokens * (flops[n.n_head] / FLOPS + n.n_head * pattern) for n in networks)


def is_finite(value: Any) -> bool:
    """Whether every number in plain JSON values is finite."""
    if isinstance(value, dict | list):
        return all(map(is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
