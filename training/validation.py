"""Validation loss: over the whole validation split, the same windows for every run."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from tqdm import tqdm

from data.batches import validation_windows
from data.config import RELATIONS
from data.dataset import Dataset
from model.gpt import GPT
from training.ranks import Group, leads

LARGEST_TENSOR = {"cpu": 2**22, "cuda": 2**27}
"""Elements of the largest tensor of a measurement: what stays in a CPU's cache, and what fills a GPU."""
SILENCE = 3
"""Seconds after which a measurement shows how far it is."""

Autocast = Callable[[], AbstractContextManager]


class Validation:
    """The whole validation split, the same windows for every run."""

    def __init__(self, dataset: Dataset, block_size: int, device: torch.device, group: Group = Group()):  # noqa: B008
        """group: the ranks that measure together, each its part of the split."""
        self.group = group
        x, y = validation_windows(dataset.val, block_size)
        self.x, self.y = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)  # (N, T)
        codes = torch.zeros_like(self.y)
        if dataset.val_relations is not None:
            codes = torch.from_numpy(validation_windows(dataset.val_relations, block_size)[1]).to(device)
        self.groups = torch.stack([self.y >= 0] + [codes == i + 1 for i in range(len(RELATIONS))]).float()  # (5, N, T)
        self.tagged = dataset.val_relations is not None

    @torch.no_grad()
    def __call__(
        self, model: GPT, autocast: Autocast, stop: Callable[[], object] = lambda: False
    ) -> tuple[list[float], list[dict[str, float]]] | None:
        """Mean loss of each of R runs, nats a token: over all tokens, and over those of each relation (tales).

        None where `stop`, asked between parts of the split, says so.
        """
        sums = [torch.zeros(len(model.n_head), len(self.groups), device=self.x.device)]
        parts = list(self._parts(model))[self.group.index :: self.group.size]
        show = None if leads() else True
        for part in tqdm(parts, "measuring", unit="part", disable=show, leave=False, delay=SILENCE, dynamic_ncols=True):
            if stop():
                break
            sums.append(self._sums(model, autocast, part))
        total = self.group.sum(torch.stack(sums).cpu().double().sum(0))  # (R, 5)
        if self.group.agree(len(sums) <= len(parts)):
            return None
        counts = self.groups.sum((1, 2), dtype=torch.float32).cpu().double()
        means = (total / counts).tolist()
        relations = [dict(zip(RELATIONS, row[1:], strict=True)) if self.tagged else {} for row in means]
        return [row[0] for row in means], relations

    @torch.no_grad()
    def seconds(self, model: GPT, autocast: Autocast) -> float:
        """How long a measurement will take, by the time of a part of it."""
        parts = list(self._parts(model))
        began = time.perf_counter()
        self._sums(model, autocast, parts[0]).cpu()
        return (time.perf_counter() - began) * len(self.x) / len(parts[0][0])

    def _parts(self, model: GPT) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(x, y, groups) of some windows, whose logits are as large a tensor as the device likes."""
        widest = max(model.vocab_size, 4 * model.config.n_embd)
        largest = LARGEST_TENSOR.get(self.x.device.type, 2**24)
        size = max(1, largest // (len(model.n_head) * self.x.shape[1] * widest))
        return zip(self.x.split(size), self.y.split(size), self.groups.split(size, dim=1), strict=True)

    def _sums(self, model: GPT, autocast: Autocast, part: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Sums of the losses of each run over the tokens of each group, (R, 5)."""
        x, y, groups = part
        n_run = len(model.n_head)
        with autocast():
            losses = model.token_losses(x.expand(n_run, -1, -1), y.expand(n_run, -1, -1))
        return torch.einsum("rnt,gnt->rg", losses.float(), groups)
