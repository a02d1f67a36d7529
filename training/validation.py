"""Validation loss: over the whole validation split, the same windows for every run."""

from collections.abc import Callable

import torch

from data.batches import validation_windows
from data.config import RELATIONS
from data.dataset import Dataset
from model.gpt import GPT

LARGEST_TENSOR = {"cpu": 2**22, "cuda": 2**27}
"""Elements of the largest tensor of a measurement: what stays in a CPU's cache, and what fills a GPU."""


class Validation:
    """The whole validation split, the same windows for every run."""

    def __init__(self, dataset: Dataset, block_size: int, device: torch.device):
        x, y = validation_windows(dataset.val, block_size)
        self.x, self.y = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)  # (N, T)
        codes = torch.zeros_like(self.y)
        if dataset.val_relations is not None:
            codes = torch.from_numpy(validation_windows(dataset.val_relations, block_size)[1]).to(device)
        self.groups = torch.stack([self.y >= 0] + [codes == i + 1 for i in range(len(RELATIONS))]).float()  # (5, N, T)
        self.tagged = dataset.val_relations is not None

    @torch.no_grad()
    def __call__(
        self, model: GPT, autocast: Callable, stop: Callable[[], object]
    ) -> tuple[list[float], list[dict[str, float]]] | None:
        """Mean loss of each of R runs, nats a token: over all tokens, and over those of each relation (tales).

        None where `stop`, asked between parts of the split, says so.
        """
        n_run = len(model.n_head)
        widest = max(model.vocab_size, 4 * model.config.n_embd)
        size = max(1, LARGEST_TENSOR.get(self.x.device.type, 2**24) // (n_run * self.x.shape[1] * widest))
        sums = []
        for x, y, groups in zip(self.x.split(size), self.y.split(size), self.groups.split(size, dim=1), strict=True):
            if stop():
                return None
            with autocast():
                losses = model.token_losses(x.expand(n_run, -1, -1), y.expand(n_run, -1, -1))
            sums.append(torch.einsum("rnt,gnt->rg", losses.float(), groups))
        counts = self.groups.sum((1, 2), dtype=torch.float32).cpu().double()
        means = (torch.stack(sums).cpu().double().sum(0) / counts).tolist()  # (R, 5)
        relations = [dict(zip(RELATIONS, row[1:], strict=True)) if self.tagged else {} for row in means]
        return [row[0] for row in means], relations
