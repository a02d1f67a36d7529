"""The processes that torchrun started: which stacks each of them trains, and who shares the batch of a stack.

Runs are dealt over ranks, which then do not talk while they train. Where ranks outnumber stacks, those of a stack share
its batch. Without torchrun there is one rank, and nothing here does anything. The first rank writes the folder and
speaks; each writes its own runs.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
PATIENCE = timedelta(days=30)
"""How long a rank waits for others; one that dies is torchrun's to notice."""
POLL = 0.2
"""Seconds between two looks at how far the others are."""


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def leads() -> bool:
    """Whether this process is the first of torchrun's, or the only one."""
    return int(os.environ.get("RANK", 0)) == 0 or not started_by_torchrun()


@dataclass(frozen=True)
class Group:
    """The ranks that share the batch of one stack."""

    index: int = 0
    size: int = 1
    members: Any = None  # of torch.distributed

    def slice(self, windows: Tensor) -> Tensor:
        """This rank's part of windows (R, W, T + 1); W is a multiple of the group's size."""
        return windows.chunk(self.size, dim=1)[self.index]

    def mean(self, *values: Tensor) -> None:
        """Replace each tensor by its mean over the group."""
        for value in values if self.size > 1 else ():
            dist.all_reduce(value, group=self.members)
            value.div_(self.size)

    def agree(self, number: int | None) -> int | None:
        """The largest number that a rank has; None where none has any. They wait for each other."""
        if self.size == 1:
            return number
        held = torch.tensor([number or 0])
        dist.all_reduce(held, dist.ReduceOp.MAX, group=self.members)
        return int(held) or None


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int = 0
    size: int = 1
    local: int = 0  # on its machine

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator["Ranks"]:
        """The ranks that torchrun's environment names, for as long as the context is open."""
        if not started_by_torchrun():
            yield cls()
            return
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        try:
            yield cls(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
        finally:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """The rank's own of a machine's GPUs, where `device` names none of them."""
        return torch.device("cuda", self.local) if device.type == "cuda" and self.size > 1 else device

    def in_turn(self, work: Callable[[], T]) -> T:
        """work(), by the first rank of each machine before the others: what it makes in a cache is found there."""
        made = work() if self.local == 0 else None
        if self.size > 1:
            dist.barrier()
        return made if self.local == 0 else work()

    def share(self, value: T) -> T:
        """The first rank's value, which is plain data, for all."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]

    def deal(self, stacks: Sequence[T]) -> tuple[list[T], Group]:
        """The stacks that this rank trains, and with whom: several of its own alone, or one with other ranks."""
        if self.size <= len(stacks) or not stacks:
            return list(stacks[self.rank :: self.size]), Group()
        number = self.rank % len(stacks)
        sharing = [list(range(first, self.size, len(stacks))) for first in range(len(stacks))]
        groups = [dist.new_group(members) for members in sharing]  # every rank has to make every group
        members = sharing[number]
        return [stacks[number]], Group(members.index(self.rank), len(members), groups[number])

    def steps(self, new: int) -> int:
        """Steps of all ranks since they last waited, with `new` ones of this."""
        return dist.distributed_c10d._get_default_store().add("steps", new) if self.size > 1 else new

    def wait(self, meanwhile: Callable[[], object]) -> None:
        """Wait until every rank has come here; the first calls `meanwhile` now and then."""
        if self.size == 1:
            return
        store = dist.distributed_c10d._get_default_store()
        store.add("arrived", 1)
        while self.leads and store.add("arrived", 0) % self.size:
            meanwhile()
            time.sleep(POLL)
        dist.barrier()
        if self.leads:
            store.delete_key("steps")
        dist.barrier()
