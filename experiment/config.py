"""The configuration of an experiment: typed, documented, and checked before anything is built or downloaded.

A YAML file gives the values, `--section.key value` overrides them, dataclasses hold them; a field's docstring is its
documentation in `train.py --help`.
"""

import dataclasses
import difflib
import json
import logging
import math
import re
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from data.config import DataConfig, check_data
from errors import InputError
from experiment.values import LONGEST_LIST, Count, NotNegative, Positive, Seed, shown, typed
from model.config import ModelConfig

log = logging.getLogger("headcount")

Share = Annotated[float, Field(ge=0, lt=1)]
Axis = Field(max_length=LONGEST_LIST)


@dataclass
class SweepConfig:
    """The sweep: one run for every combination. Only what leaves every parameter's shape alone can be swept."""

    n_head: Annotated[list[Count], Axis] = field(default_factory=list)
    """Head counts H, for instance 1,2,4; each must divide n_embd."""

    seed: Annotated[list[Seed], Axis] = field(default_factory=lambda: [0])
    """Seeds of initial weights and batches, 0 or more; runs of one seed start equal and see the same batches."""

    learning_rate: Annotated[list[Positive], Axis] = field(default_factory=list)
    """Learning rates, for instance 1e-3,3e-4; empty: train.learning_rate."""

    weight_decay: Annotated[list[NotNegative], Axis] = field(default_factory=list)
    """Weight decays; empty: train.weight_decay."""


@dataclass
class TrainConfig:
    """Training, the same for every run."""

    max_iters: Annotated[int, Field(gt=0, le=10**7)] = 2000
    """Training steps of each run, iterations."""

    batch_size: Annotated[int, Field(gt=0, le=2**16)] = 16
    """Sequences of block_size tokens in a batch of one run."""

    gradient_accumulation_steps: Annotated[int, Field(gt=0, le=2**16)] = 1
    """Batches whose gradients are averaged for one step."""

    learning_rate: Positive = 1e-3
    """Learning rate after the warm-up; on a command line also in place of a swept one."""

    min_lr: NotNegative | None = None
    """Learning rate at the end of the cosine decay; null: a tenth of the learning rate."""

    warmup_iters: Annotated[int, Field(ge=0)] = 100
    """Steps over which the learning rate rises linearly, iterations."""

    lr_decay_iters: Count | None = None
    """Step at which the cosine decay ends, iterations; null: max_iters."""

    weight_decay: NotNegative = 0.1
    """Decoupled weight decay (AdamW) of matrices and embeddings; norms and biases have none."""

    beta1: Share = 0.9
    """AdamW's decay of the gradient average."""

    beta2: Share = 0.99
    """AdamW's decay of the squared-gradient average."""

    grad_clip: NotNegative = 1.0
    """Largest gradient norm of a run, clipped run by run; 0: no clipping."""

    log_interval: Count = 10
    """Steps between lines of training loss in metrics.jsonl, iterations."""

    eval_interval: Count = 250
    """Steps between measurements over the whole validation split, iterations."""

    checkpoint_interval: Count = 500
    """Steps between checkpoints, iterations."""

    stack: Count | Literal["auto"] = "auto"
    """Runs that train at once as one fused model; auto: as many as fit into the device's free memory."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Matrix products in fp32 or bf16 (weights and optimizer stay fp32); auto: bf16 where the device has it."""

    compile: bool | Literal["auto"] = "auto"
    """Compile with torch.compile; auto: where training is long enough to repay the time it takes."""

    @property
    def sequences(self) -> int:
        """Sequences of a step of one run."""
        return self.batch_size * self.gradient_accumulation_steps


@dataclass
class Config:
    """An experiment."""

    name: str = "experiment"
    """Name of the experiment: its folder is runs/NAME."""

    model: ModelConfig = field(default_factory=ModelConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def head_counts(self) -> list[int]:
        """The H of the experiment in increasing order: the sweep's, or the model's own."""
        return sorted(self.sweep.n_head or [self.model.n_head or 1])


MOST_RUNS = 10_000
"""Of all combinations of a sweep."""

SECTIONS = {"model": ModelConfig, "sweep": SweepConfig, "data": DataConfig, "train": TrainConfig}


def keys() -> dict[str, Any]:
    """Every key of a config as `section.key` (or `name`), with its type."""
    types = {"name": str}
    for section, cls in SECTIONS.items():
        hints = typing.get_type_hints(cls, include_extras=True)
        types |= {f"{section}.{name}": hint for name, hint in hints.items()}
    return types


def flatten(values: Any, where: str) -> dict[str, Any]:
    """A config's mapping of sections as one of dotted keys. Raises InputError where it is none."""
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: a config is a mapping of sections ({', '.join(SECTIONS)}), not {shown(values)}")
    flat = {}
    for key, value in values.items():
        if key not in SECTIONS:
            flat[str(key)] = value
        elif isinstance(value, Mapping):
            flat |= {f"{key}.{name}": held for name, held in value.items()}
        else:
            raise InputError(f"{where}: {key} must be a mapping of keys to values, not {shown(value)}")
    return flat


def checked(values: Mapping[str, Any], where: str, from_text: bool = False) -> dict[str, Any]:
    """Values by dotted key, each of its key's type; from_text: they are a command line's.

    Raises:
        InputError: names the key, says what is wrong and what would do.
    """
    types, found = keys(), {}
    for key, value in values.items():
        known(key, where)
        if (key, value) == ("model.attention", "explicit"):
            _say_renamed(where)
            value = "eager"
        found[key] = typed(key, types[key], value, where, from_text)
    return found


@cache
def _say_renamed(where: str) -> None:
    """Once, however often the config is read."""
    log.info(f"{where}: model.attention: explicit is called eager now")


def known(key: str, where: str) -> None:
    """Raises InputError, with what may have been meant, where no key has this name."""
    if key in keys():
        return
    if key in SECTIONS:
        names = list(SECTIONS[key].__dataclass_fields__)
        raise InputError(f"{where}: {key} is a section; name a key of it, such as --{key}.{names[0]}")
    if "sweep." in key and f"model.{key.removeprefix('sweep.')}" in keys():
        raise InputError(
            f"{where}: {key} cannot be swept: it changes the shapes or the data; "
            f"sweep {', '.join(SweepConfig.__dataclass_fields__)}, or write one config for each value"
        )
    near = difflib.get_close_matches(key, [*keys(), *SECTIONS], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? (train.py --help lists every key)" if near else "train.py --help lists every key"
    raise InputError(f"{where}: unknown key {shown(key)}; {hint}")


def from_values(values: Mapping[str, Any]) -> Config:
    """The Config of values by dotted key, as `checked` gives them; defaults for the others.

    Raises:
        InputError: they do not fit together.
    """
    parts: dict[str, dict] = {section: {} for section in SECTIONS}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        if section:
            parts[section][name] = value
    sections = {section: cls(**parts[section]) for section, cls in SECTIONS.items()}
    config = Config(name=values.get("name", Config.name), **sections)
    check(config)
    return config


def check(config: Config) -> None:
    """Check how the values fit together. Raises InputError naming the key, the value and what would do."""
    _check_sweep(config.sweep, config.model)
    width = config.model.n_embd
    for heads in config.head_counts:
        if width % heads:
            fitting = ", ".join(str(h) for h in range(1, width + 1) if width % h == 0)
            raise InputError(f"n_head {heads} does not divide n_embd {width}; head counts that do: {fitting}")
    check_data(config.data)
    if config.data.tokenizer == "init" and config.model.init is None:
        raise InputError("data.tokenizer: init takes the tokenizer of --init; give that, or choose bpe or char")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", config.name):
        raise InputError(f"name {shown(config.name)} cannot name a folder in runs/: use letters, digits, '.', '_', '-'")


def _check_sweep(sweep: SweepConfig, model: ModelConfig) -> None:
    if not sweep.n_head and model.n_head is None:
        raise InputError("sweep.n_head is empty and model.n_head not set; give head counts, --sweep.n_head 1,2,4")
    if sweep.n_head and model.n_head is not None:
        raise InputError("both sweep.n_head and model.n_head are set; keep one of them")
    if not sweep.seed:
        raise InputError("sweep.seed is empty; give at least one seed, --sweep.seed 0,1,2")
    for axis, values in dataclasses.asdict(sweep).items():
        repeated = sorted(v for v, count in Counter(values).items() if count > 1)
        if repeated:
            raise InputError(f"sweep.{axis} repeats {', '.join(map(str, repeated))}; name each value once")
        if len({f"{v:g}" for v in values}) < len(values) and axis in ("learning_rate", "weight_decay"):
            raise InputError(
                f"sweep.{axis} has values that differ after six digits only; their runs would share a folder"
            )
    if (count := math.prod(max(1, len(values)) for values in dataclasses.asdict(sweep).values())) > MOST_RUNS:
        raise InputError(f"the sweep has {count:,} runs; at most {MOST_RUNS:,}: name fewer values")


def _flat(config: Config) -> dict[str, Any]:
    """{section.key: value}."""
    return {
        f"{section}.{name}": value
        for section in SECTIONS
        for name, value in dataclasses.asdict(getattr(config, section)).items()
    }


def differences(old: Config, new: Config, but: Sequence[str] = ()) -> list[str]:
    """The keys in which two configs differ, each as `key: old → new`, leaving out the keys named in `but`."""
    before, after = _flat(old) | {"name": old.name}, _flat(new) | {"name": new.name}
    return [
        f"{key}: {as_yaml(before[key])} → {as_yaml(after[key])}"
        for key in after
        if before[key] != after[key] and key not in but
    ]


def as_yaml(value: Any) -> str:
    """A value as a config has it."""
    return value if isinstance(value, str) else json.dumps(value)
