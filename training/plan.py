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

    The runs of each generation are cut, in their order, into stacks of nearly equal size. A stack goes on from the
    newest step of which all its runs have a good checkpoint, finished ones with their companions: bits depend on who
    trains together. Runs with no step in common are parted.
    """
    stacks = []
    for runs in generations:
        n_stack = -(-len(runs) // stack_size)
        size = -(-len(runs) // n_stack)
        for first in range(0, len(runs), size):
            stacks += go_on(runs[first : first + size], held)
    return stacks


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
