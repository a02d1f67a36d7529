"""Training batches of a stack on its device."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data.batches import batch, offsets
from data.dataset import Dataset
from experiment.config import Config
from experiment.folder import Run

RESIDENT_SHARE = 0.1
"""The part of a GPU's free memory that the training tokens may fill."""


class Batches:
    """Batches of a stack as a function of the iteration alone, drawn once for each seed."""

    def __init__(self, dataset: Dataset, runs: Sequence[Run], config: Config, device: torch.device):
        self.tokens = dataset.train
        self.seeds = sorted({run.seed for run in runs})
        self.row = torch.tensor([self.seeds.index(run.seed) for run in runs], device=device)
        self.batch_size = config.train.sequences
        self.block_size = config.model.block_size
        self.tokens_per_step = self.batch_size * self.block_size
        self.device = device
        self.resident: Tensor | None = None  # a GPU cuts its own windows, where the tokens take little of its memory
        if device.type == "cuda" and 4 * len(self.tokens) < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.from_numpy(self.tokens.astype(np.int32)).to(device)
            self.window = torch.arange(self.block_size + 1, device=device)

    def __call__(self, iteration: int) -> Tensor:
        """Windows (R, gradient_accumulation_steps · B, T + 1), int64."""
        if self.resident is None:
            windows = batch(self.tokens, self.seeds, iteration, self.batch_size, self.block_size)
            return self._to_device(windows)[self.row]
        count = len(self.tokens) - self.block_size
        first = self._to_device(offsets(self.seeds, iteration, self.batch_size, count))[self.row]
        return self.resident[first[:, :, None] + self.window].long()

    def _to_device(self, values: np.ndarray) -> Tensor:
        """Copied while the GPU still computes, which takes memory that the system does not move."""
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)
