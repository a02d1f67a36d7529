"""Which runs train together, and from where. Pure: what it decides is carried out elsewhere."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from experiment.checkpoint import State
from experiment.folder import Run

Stacks = list[tuple[list[Run], int]]
"""Runs that train together, and the step that they go on from."""
Held = Mapping[Run, Mapping[int, State]]
"""Runs with the states of their good checkpoints by step; none where one has not begun."""


def plan(runs: Sequence[Run], held: Held, n_stack: int) -> list[Stacks]:
    """The runs, dealt in their order into n_stack stacks of nearly equal work: for each, what is left of it.

    A stack goes on from the newest step of which all its runs have a good checkpoint, finished ones with their
    companions: bits depend on who trains together. Runs with no step in common are parted.
    """
    return [go_on(runs[first::n_stack], held) for first in range(n_stack)]


def cut(n_run: int, largest: int, n_rank: int = 1, batch: int = 1) -> tuple[int, int]:
    """(stacks, groups of ranks that take them in turn) for n_run runs, of which `largest` fit into a stack.

    A group is one rank, which has nobody to wait for; more share their batches, of `batch` sequences, where that takes
    a fifth less time. By the sizes alone, and not by what is left to do, so that going on gives the same bits.
    """

    def time(n_group: int) -> float:
        return math.ceil(n_run / n_group) / min(n_rank // n_group, batch)

    groups = range(min(n_run, n_rank), 0, -1)
    n_group = next(n for n in groups if time(n) <= 1.25 * min(map(time, groups)))
    in_turn = math.ceil(math.ceil(n_run / n_group) / largest)  # stacks of a group
    return min(n_run, n_group * in_turn), n_group


def go_on(together: Sequence[Run], held: Held) -> Stacks:
    """The stack of these runs; none where all are done, several where they have no step in common.

    A kill, or the death of a rank, can leave them at unlike steps. Each part is as many as share a step, at the newest
    such step. A run with a single checkpoint, its first, may also begin again, to keep its companions.
    """
    reached = {run: set(held[run]) | {0} if len(held[run]) < 2 else set(held[run]) for run in together}
    parts, rest = [], list(together)
    while rest:
        shared = Counter(step for run in rest for step in reached[run])
        step = max(shared, key=lambda step: (shared[step], step))
        part = [run for run in rest if step in reached[run]]
        rest = [run for run in rest if step not in reached[run]]
        if not all(done(run, held[run]) for run in part):
            parts.append((part, step))
    return sorted(parts, key=lambda part: part[1])


def done(run: Run, states: Mapping[int, State]) -> bool:
    """Whether the run's last step is made and measured, by the states of its good checkpoints."""
    return run.max_iters in states and states[run.max_iters].unmeasured is None
