"""The configuration of an experiment: typed, documented, and checked before anything is built or downloaded.

A YAML file gives the values, `--section.key value` overrides them, dataclasses hold them; a field's docstring is its
documentation in `train.py --help`.
"""

import dataclasses
import math
import re
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from data.config import DataConfig
from data.config import check as check_data
from errors import InputError
from experiment.shapes import require
from model.config import ModelConfig


@dataclass
class SweepConfig:
    """The sweep: one run for every combination. Only what leaves every parameter's shape alone can be swept."""

    n_head: list[int] = field(default_factory=list)
    """Head counts H, for instance 1,2,4; each must divide n_embd."""

    seed: list[int] = field(default_factory=lambda: [0])
    """Seeds of initial weights and batches, 0 or more; runs of one seed start equal and see the same batches."""

    learning_rate: list[float] = field(default_factory=list)
    """Learning rates, for instance 1e-3,3e-4; empty: train.learning_rate."""

    weight_decay: list[float] = field(default_factory=list)
    """Weight decays; empty: train.weight_decay."""


@dataclass
class TrainConfig:
    """Training, the same for every run."""

    max_iters: int = 2000
    """Training steps of each run, iterations."""

    batch_size: int = 16
    """Sequences of block_size tokens in a batch of one run."""

    gradient_accumulation_steps: int = 1
    """Batches whose gradients are averaged for one step."""

    learning_rate: float = 1e-3
    """Learning rate after the warm-up."""

    min_lr: float | None = None
    """Learning rate at the end of the cosine decay; null: a tenth of the learning rate."""

    warmup_iters: int = 100
    """Steps over which the learning rate rises linearly, iterations."""

    lr_decay_iters: int | None = None
    """Step at which the cosine decay ends, iterations; null: max_iters."""

    weight_decay: float = 0.1
    """Decoupled weight decay (AdamW) of matrices and embeddings; norms and biases have none."""

    beta1: float = 0.9
    """AdamW's decay of the gradient average."""

    beta2: float = 0.99
    """AdamW's decay of the squared-gradient average."""

    grad_clip: float = 1.0
    """Largest gradient norm of a run, clipped run by run; 0: no clipping."""

    log_interval: int = 10
    """Steps between lines of training loss in metrics.jsonl, iterations."""

    eval_interval: int = 250
    """Steps between measurements over the whole validation split, iterations."""

    checkpoint_interval: int = 500
    """Steps between checkpoints, iterations."""

    stack: int | Literal["auto"] = "auto"
    """Runs that train at once as one fused model; auto: as many as fit into the device's free memory."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Matrix products in fp32 or bf16 (weights and optimizer stay fp32); auto: what is faster on this device."""

    compile: bool | Literal["auto"] = "auto"
    """Compile with torch.compile; auto: where training is long enough to repay the time it takes."""


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


LARGEST = {
    "model.n_layer": 1000,
    "model.n_embd": 2**16,
    "model.block_size": 2**17,
    "data.vocab_size": 2**24,
    "train.batch_size": 2**16,
    "train.gradient_accumulation_steps": 2**16,
    "train.max_iters": 10**7,
}
"""Far above what anyone trains, and low enough for shapes and schedules to be worked out at once."""

LONGEST_AXIS, MOST_RUNS = 1000, 10_000
"""Values of an axis of the sweep, and runs of all of them together."""

SECTIONS = {"model": ModelConfig, "sweep": SweepConfig, "data": DataConfig, "train": TrainConfig}


def keys() -> dict[str, Any]:
    """Every key of a config as `section.key` (or `name`), with its type."""
    types = {"name": str}
    for section, cls in SECTIONS.items():
        types |= {f"{section}.{name}": hint for name, hint in typing.get_type_hints(cls).items()}
    return types


def from_dict(values: dict) -> Config:
    """The Config that `dataclasses.asdict` was taken of, as a run folder's config.yaml holds it.

    Raises ValueError, KeyError or TypeError where it is none.
    """
    for section, cls in SECTIONS.items():
        require(values[section], typing.get_type_hints(cls))
    sections = {section: cls(**values[section]) for section, cls in SECTIONS.items()}
    return Config(name=values["name"], **sections)


def check(config: Config) -> None:
    """Check values and their relations.

    Raises:
        InputError: names the key, the value and what would do.
    """
    model, sweep = config.model, config.sweep
    for key, value in _flat(config).items():
        values = value if isinstance(value, list) else [value]
        if any(isinstance(v, float) and not math.isfinite(v) for v in values):
            raise InputError(f"{key} must be finite, got {value}")
        if any(isinstance(v, int) and abs(v) >= 2**63 for v in values):
            raise InputError(f"{key} must be below 2**63, as every integer")
        if any(isinstance(v, str) and "\0" in v for v in values):
            raise InputError(f"{key} holds a NUL character; leave it out")
    positive = (
        "model.n_layer model.n_embd model.block_size train.max_iters train.batch_size "
        "train.gradient_accumulation_steps train.learning_rate train.log_interval train.eval_interval "
        "train.checkpoint_interval model.n_head train.lr_decay_iters train.stack"
    )
    for key in positive.split():
        value = _flat(config)[key]
        if isinstance(value, int | float) and value <= 0:
            raise InputError(f"{key} must be above 0, got {value}")
    for key, largest in LARGEST.items():
        if _flat(config)[key] > largest:
            raise InputError(f"{key} must be at most {largest:,}, got {shown(_flat(config)[key])}")
    for key in ("train.warmup_iters", "train.weight_decay", "train.grad_clip", "train.min_lr"):
        value = _flat(config)[key]
        if value is not None and value < 0:
            raise InputError(f"{key} must not be below 0, got {value}")
    for key in ("model.dropout", "train.beta1", "train.beta2"):
        if not 0 <= _flat(config)[key] < 1:
            raise InputError(f"{key} must be at least 0 and below 1, got {_flat(config)[key]}")
    _check_sweep(sweep, model)
    for heads in config.head_counts:
        if model.n_embd % heads:
            fitting = [h for h in range(1, model.n_embd + 1) if model.n_embd % h == 0]
            raise InputError(
                f"n_head {heads} does not divide n_embd {model.n_embd}; head counts that do: "
                + ", ".join(map(str, fitting))
            )
    check_data(config.data)
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
    if any(heads <= 0 for heads in sweep.n_head):
        raise InputError(f"sweep.n_head must be above 0, got {min(sweep.n_head)}")
    if any(not 0 <= seed < 2**32 for seed in sweep.seed):
        raise InputError("sweep.seed must be from 0 to 4294967295")
    if any(lr <= 0 for lr in sweep.learning_rate):
        raise InputError(f"sweep.learning_rate must be above 0, got {min(sweep.learning_rate)}")
    if any(decay < 0 for decay in sweep.weight_decay):
        raise InputError(f"sweep.weight_decay must not be below 0, got {min(sweep.weight_decay)}")


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
    return [f"{key}: {before[key]} → {after[key]}" for key in after if before[key] != after[key] and key not in but]


def shown(value: Any) -> str:
    """A value as an error quotes it: never longer than a line."""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")
