"""How text is drawn: one set of settings for sample.py, Python and the report. Light to import."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from errors import InputError
from experiment.values import Count, NotNegative, typed

SCORED = 64
"""Texts of each H, over all its seeds, that are measured."""


@dataclass(frozen=True)
class Sampling:
    """How text is drawn."""

    num_samples: Count = 1
    """Samples of each head count."""

    max_new_tokens: Count = 200
    """Longest sample, tokens."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the random numbers, the same for every run."""

    temperature: NotNegative = 0.8
    """Divides the logits: low is more certain, high more varied; 0: always the likeliest token, as greedy."""

    top_k: Count | None = None
    """Draw from the k likeliest tokens only; null: from all."""

    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draw from the likeliest tokens that together reach this probability; null: from all."""

    greedy: bool = False
    """Always the likeliest token."""

    stop: str | None = None
    """Text at which a sample ends, itself left out."""

    @property
    def certain(self) -> bool:
        """Whether every sample of a network is the same text."""
        return self.greedy or self.temperature == 0 or self.top_k == 1

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str, prefix: str = "", from_text: bool = False) -> "Sampling":
        """Settings of these values. Raises InputError naming the one that cannot be used, or that is none."""
        hints = typing.get_type_hints(cls, include_extras=True)
        if unknown := next((k for k in values if k not in hints), None):
            raise InputError(f"{where}: unknown setting {unknown}; there are {', '.join(hints)}")
        return cls(**{k: typed(prefix + k, hints[k], v, where, from_text) for k, v in values.items()})
