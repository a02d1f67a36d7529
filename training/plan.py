"""Which runs train together, and from where. Pure: what it decides is carried out elsewhere."""

import math
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
    """The stack of these runs; none where all are done, several where they have no step in common."""
    waiting = [run for run in together if not done(run, held[run])]
    reached = {run: set(held[run]) or {0} for run in together}
    if not waiting:
        return []
    if common := set.intersection(*reached.values()):
        return [(list(together), max(common))]
    if all(len(steps) == 1 for steps in reached.values()):  # a kill while the first checkpoints were written
        return [(list(together), 0)]
    newest = {run: max(reached[run]) for run in waiting}
    return [([run for run in waiting if newest[run] == step], step) for step in sorted(set(newest.values()))]


def done(run: Run, states: Mapping[int, State]) -> bool:
    """Whether the run's last step is made and measured, by the states of its good checkpoints."""
    return run.max_iters in states and states[run.max_iters].unmeasured is None
