"""Which runs train together, and from where. Pure: what it decides is carried out elsewhere."""

from collections.abc import Mapping, Sequence

from experiment.checkpoint import State
from experiment.folder import Run

Stacks = list[tuple[list[Run], int]]
"""Runs that train together, and the step that they go on from."""
Held = Mapping[Run, Mapping[int, State]]
"""Runs with the states of their good checkpoints by step; none where one has not begun."""


def plan(generations: Sequence[Sequence[Run]], held: Held, stack_size: int) -> Stacks:
    """The unfinished stacks of runs, each with the step that it goes on from.

    The runs of each generation are dealt, in their order, into stacks of nearly equal work. A stack goes on from the
    newest step of which all its runs have a good checkpoint, finished ones with their companions: bits depend on who
    trains together. Runs with no step in common are parted.
    """
    stacks = []
    for runs in generations:
        n_stack = -(-len(runs) // stack_size)
        for first in range(n_stack):
            stacks += go_on(runs[first::n_stack], held)
    return stacks


def stack_size(n_run: int, n_rank: int, largest: int, batch: int) -> int:
    """Runs of a stack, `largest` at most, when n_run are dealt over n_rank processes.

    A stack for each rank, which then has nobody to wait for; fewer stacks, whose ranks share their batches, where that
    takes a quarter less time. batch: sequences that the ranks of a stack have to share evenly.
    """
    if n_rank == 1:
        return largest

    def time(count: int) -> float:
        return max(len(range(i, n_run, count)) / len(range(i, n_rank, count)) for i in range(count))

    apart = min(n_run, n_rank)
    counts = [
        count
        for count in range(apart, 0, -1)
        if -(-n_run // count) <= largest and not any(batch % len(range(i, n_rank, count)) for i in range(count))
    ] or [apart]
    count = min(counts, key=time)
    return min(largest, -(-n_run // (count if time(count) < 0.75 * time(counts[0]) else counts[0])))


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
