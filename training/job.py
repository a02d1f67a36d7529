"""What every part of a training shares."""

from dataclasses import dataclass, field

import torch

from data.dataset import Dataset
from experiment.config import Config
from experiment.folder import Experiment
from training.loggers import Loggers
from training.memory import bytes_of_a_run
from training.ranks import Ranks
from training.settings import ExecutionSettings


@dataclass(frozen=True)
class Job:
    """An experiment as it is carried out here: its folder, its data, and how it is computed and shown."""

    experiment: Experiment
    dataset: Dataset
    device: torch.device
    settings: ExecutionSettings
    loggers: Loggers = field(default_factory=Loggers)
    ranks: Ranks = field(default_factory=Ranks)
    """The processes that carry it out together."""

    @property
    def config(self) -> Config:
        return self.experiment.config

    @property
    def vocab_size(self) -> int:
        return self.dataset.tokenizer.vocab_size

    def bytes_of_a_run(self) -> int:
        """Memory that training the largest run alone needs."""
        return bytes_of_a_run(self.config, self.vocab_size, self.config.head_counts[-1])
