"""The text that networks are measured on: windows of their own validation split, or stories that a GPT-2 can read."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from data.batches import validation_windows
from data.dataset import Dataset, prepare
from data.tales import stories
from data.tokenizers import Tokenizer, load_tokenizer
from errors import InputError
from experiment.folder import Experiment


class CannotMeasure(Exception):
    """A measure cannot be taken; the message says why, in words for the report."""


@dataclass
class ValidationText:
    """Windows spread evenly over the validation split that runs were trained beside; the whole split where it is small.

    Reading the corpus waits until windows or tokenizer are asked for, which raise CannotMeasure where it is gone.
    """

    experiment: Experiment
    TOKENS: ClassVar = {"heads": 2**14, "ablation": 2**12}  # that a measure is taken over, at most

    @property
    def settings(self) -> dict:
        """What tells this text from another."""
        return {"data": self.experiment.environment["data_hash"]}

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.experiment.config.model.block_size

    def count(self, measure: str) -> int:
        """Windows that a measure is taken over."""
        return min(self._all, max(1, self.TOKENS[measure] // self.length))

    @property
    def _all(self) -> int:
        return -(-(self.experiment.environment["val_tokens"] - 1) // self.length)

    def words(self, measure: str) -> str:
        if self.count(measure) == self._all:
            tokens = self.experiment.environment["val_tokens"]
            return f"the whole validation split ({tokens:,} tokens in windows of {self.length})"
        return (
            f"{self.count(measure)} windows of {self.length} tokens spread evenly over the validation split "
            f"({self._all} windows)"
        )

    def windows(self, measure: str) -> tuple[Tensor, Tensor]:
        """Inputs and targets (N, T), a target of -1 where the text is over."""
        x, y = validation_windows(self._dataset.val, self.length)
        chosen = torch.arange(self.count(measure)) * len(x) // self.count(measure)
        return torch.from_numpy(x)[chosen], torch.from_numpy(y)[chosen]

    @property
    def stream(self) -> np.ndarray:
        """All tokens of the text, one after the other."""
        return self._dataset.val

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The experiment's own; raises CannotMeasure where it is damaged."""
        try:
            return load_tokenizer(self.experiment.path / "tokenizer")
        except InputError as error:
            raise CannotMeasure(str(error)) from None

    @cached_property
    def _dataset(self) -> Dataset:
        try:
            dataset = prepare(self.experiment.config.data, given=self.tokenizer)
        except InputError as error:
            raise CannotMeasure(f"the corpus is not here: {error}") from None
        if dataset.hash != self.experiment.environment["data_hash"]:
            raise CannotMeasure("the corpus is no longer the one that was trained on; put it back")
        return dataset


@dataclass
class StoryText:
    """Tales' stories, which need no download, without the characters that the tokenizer does not know; a row each."""

    tokenizer: Tokenizer
    block_size: int
    experiment = None
    STORIES: ClassVar = {"heads": 16, "ablation": 4}
    LONGEST: ClassVar = 256

    @property
    def settings(self) -> dict:
        return {"stories": self.STORIES["heads"]}

    @property
    def length(self) -> int:
        return min(self.LONGEST, self.block_size)

    def count(self, measure: str) -> int:
        return self.STORIES[measure]

    def words(self, measure: str) -> str:
        tokens = sum(map(len, self.rows[: self.count(measure)]))
        return f"{self.count(measure)} short stories of this project's tales ({tokens:,} tokens)"

    def windows(self, measure: str) -> tuple[Tensor, Tensor]:
        """Inputs and targets (N, T); what fills a row up stands after the text, where no token of it sees it."""
        rows = self.rows[: self.count(measure)]
        longest = max(map(len, rows)) - 1
        if longest < 1:
            raise CannotMeasure("the tokenizer does not know the characters of the stories that heads are measured on")
        x = torch.tensor([row[:-1] + [0] * (longest + 1 - len(row)) for row in rows])
        y = torch.tensor([row[1:] + [-1] * (longest + 1 - len(row)) for row in rows])
        return x, y

    @property
    def stream(self) -> np.ndarray:
        """All tokens of the stories, one after the other, with an end-of-text token between them where there is one."""
        eot = [] if self.tokenizer.eot is None else [self.tokenizer.eot]
        return np.concatenate([np.array(row + eot, dtype=np.int64) for row in self.rows])

    @cached_property
    def rows(self) -> list[list[int]]:
        """Token ids of the stories, a window and what follows each."""
        texts = [story.text for story in stories(self.STORIES["heads"], seed=1)]
        unknown = dict.fromkeys((ord(c) for c in sorted(set("".join(texts))) if not knows(self.tokenizer, c)), "")
        return [self.tokenizer.encode(text.translate(unknown))[: self.length + 1] for text in texts]


def knows(tokenizer: Tokenizer, character: str) -> bool:
    """Whether the character comes back from the tokenizer."""
    try:
        return character in tokenizer.decode(tokenizer.encode(character))
    except Exception:  # InputError, or a plain one of the tokenizers library
        return False
