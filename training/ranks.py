"""The processes that torchrun started: what each of them trains, and who shares the batch of a stack.

Runs are dealt over ranks, which then do not talk while they train. Where ranks outnumber stacks, those of a stack share
its batch. The first rank reads the command line, writes the folder and speaks; the others do what it shares with them,
and each writes its own runs. They wait for each other by looking into torchrun's store, which a signal can end. Without
torchrun there is one rank, and nothing here does anything.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from errors import InputError, Interrupted

T = TypeVar("T")
LOCKSTEP = timedelta(minutes=30)
"""How long ranks that share a batch wait for each other: longer than a checkpoint or a compilation takes."""
POLL = 0.2
"""Seconds between two looks into the store."""
log = logging.getLogger("headcount")


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def leads() -> bool:
    """Whether this process is the first of torchrun's, or the only one."""
    return int(os.environ.get("RANK", 0)) == 0 or not started_by_torchrun()


@contextmanager
def talking() -> Iterator[None]:
    """Where one rank needs another. Raises Interrupted where that one, or torchrun, has ended."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:100]
        raise Interrupted(f"another rank ended ({reason}); the same command goes on from its checkpoint", 1) from None


@dataclass(frozen=True)
class Group:
    """The ranks that share the batch of one stack; the first of them writes."""

    index: int = 0
    size: int = 1
    members: Any = None  # of torch.distributed

    def slice(self, windows: Tensor) -> Tensor:
        """This rank's part of windows (R, W, T + 1), of which there are as many as ranks or more."""
        return windows.tensor_split(self.size, dim=1)[self.index]

    @talking()
    def sum(self, value: Tensor) -> Tensor:
        """Replace the tensor by its sum over the group, which has the same bits on every rank; return it."""
        if self.size > 1:
            dist.all_reduce(value, group=self.members)
        return value

    def agree(self, number: int | None) -> int | None:
        """The number of the first rank that has one; None where none has any. They wait for each other."""
        if self.size == 1:
            return number
        held = torch.zeros(self.size, dtype=torch.int64)
        held[self.index] = number or 0
        return next((n for n in self.sum(held).tolist() if n), None)


class Ranks:
    """This process among all."""

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None):
        self.rank, self.size, self.store = rank, size, store
        self.round = 0  # how often all have waited for each other
        self.shared, self.heard = count(), 0

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator["Ranks"]:
        """The ranks that torchrun's environment names, for as long as the context is open."""
        if not started_by_torchrun():
            yield cls()
            return
        store, rank, size = next(dist.rendezvous("env://"))
        ranks = cls(rank, size, store)
        if not ranks.leads:
            log.handlers = [Relay(store)]
        for handler in log.handlers:
            handler.addFilter(lambda record: Relay.is_new(store, record))
        try:
            yield ranks
        finally:
            with suppress(Interrupted):
                ranks.hear()
        if ranks.leads:
            ranks.share(None)
        if dist.is_initialized():
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """The rank's own of a machine's GPUs. Raises InputError where there are not enough."""
        if self.size == 1 or device.type == "cpu":
            return device
        local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if device.type != "cuda" or device.index is not None:
            raise InputError(f"--device {device}: every process takes a GPU of its own; give --device cuda or cpu")
        if here > (found := torch.cuda.device_count()):
            raise InputError(f"--nproc_per_node {here}: this machine has {found} GPUs; start no more processes")
        return torch.device("cuda", local)

    @talking()
    def share(self, value: T) -> T:
        """The first rank's value, of what JSON knows, for all. The others wait for it."""
        if self.size == 1:
            return value
        key = f"shared {next(self.shared)}"
        if self.leads:
            self.store.set(key, json.dumps(value))
            return value
        while not self.store.check([key]):
            time.sleep(POLL)
        return json.loads(self.store.get(key))

    def deal(self, stacks: Sequence[Sequence[T]], n_group: int, batch: int, kind: str) -> tuple[list[T], Group]:
        """What this rank trains of the stacks, each with what is left of it, and with whom.

        Args:
            n_group: groups of ranks, which take stacks in turn.
            batch: sequences of a step: at most as many ranks share them.
            kind: of device.
        """
        if n_group >= self.size:
            return [part for stack in stacks for part in stack][self.rank :: self.size], Group()
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
            store = dist.PrefixStore("groups", self.store)
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=LOCKSTEP)
        own, group = [], Group()
        for number, ranks in enumerate(np.array_split(range(self.size), n_group)):
            sharing = ranks[:batch].tolist()
            members = dist.new_group(sharing, timeout=LOCKSTEP)  # every rank has to make every group
            if self.rank in sharing:
                own = [part for stack in stacks[number::n_group] for part in stack]
                group = Group(sharing.index(self.rank), len(sharing), members)
        return own, group

    @talking()
    def steps(self, new: int) -> int:
        """Steps of all ranks since they last waited, with `new` ones of this."""
        return self.store.add(f"steps {self.round}", new) if self.size > 1 else new

    @talking()
    def hear(self) -> None:
        """On the first rank: say what the others warned of."""
        while self.size > 1 and self.leads and self.store.add("said", 0) > self.heard:
            self.heard += 1
            text = self.store.get(f"said {self.heard}").decode()
            for handler in log.handlers:
                handler.emit(log.makeRecord(log.name, logging.WARNING, "", 0, text, (), None))

    @talking()
    def wait(self, meanwhile: Callable[[], object]) -> None:
        """Wait until every rank has come here, calling `meanwhile` now and then."""
        if self.size == 1:
            return
        key = f"arrived {self.round}"
        self.store.add(key, 1)
        while self.store.add(key, 0) < self.size:
            meanwhile()
            time.sleep(POLL)
        meanwhile()
        self.round += 1


class Relay(logging.Handler):
    """Leaves warnings in the store, for the first rank to say."""

    def __init__(self, store: Any):
        super().__init__(logging.WARNING)
        self.store = store

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(RuntimeError):
            self.store.set(f"said {self.store.add('saying', 1)}", record.getMessage())
            self.store.add("said", 1)

    @staticmethod
    def is_new(store: Any, record: logging.LogRecord) -> bool:
        """Whether no rank gave this warning before; what is no warning is said in any case."""
        return record.levelno < logging.WARNING or store.add(f"warned {record.getMessage()}", 1) == 1
