"""Which runs train together, and from where. Pure: what it decides is carried out elsewhere."""

from collections.abc import Mapping

from experiment.checkpoint import State
from experiment.folder import Run

Stacks = list[tuple[list[Run], int]]
"""Runs that train together, and the step that they go on from."""


def plan(held: Mapping[Run, Mapping[int, State]], stack_size: int) -> Stacks:
    """The unfinished stacks of runs, each with the step that it goes on from.

    Runs are cut into stacks in their order. A stack goes on from the newest step of which all its runs have a good
    checkpoint, finished ones with their companions: bits depend on who trains together. Runs with no step in common are
    parted.

    Args:
        held: every run with the states of its good checkpoints by step, none where it has not begun.
    """
    runs = list(held)
    reached = {run: set(held[run]) or {0} for run in runs}
    stacks = []
    for first in range(0, len(runs), stack_size):
        together = runs[first : first + stack_size]
        waiting = [run for run in together if not done(run, held[run])]
        if not waiting:
            continue
        if common := set.intersection(*(reached[run] for run in together)):
            stacks.append((together, max(common)))
        elif all(len(reached[run]) == 1 for run in together):  # a kill while the first checkpoints were written
            stacks.append((together, 0))
        else:
            newest = {run: max(reached[run]) for run in waiting}
            for step in sorted(set(newest.values())):
                stacks.append(([run for run in waiting if newest[run] == step], step))
    return stacks


def done(run: Run, states: Mapping[int, State]) -> bool:
    """Whether the run's last step is made and measured, by the states of its good checkpoints."""
    return run.max_iters in states and states[run.max_iters].unmeasured is None
