"""The runs of a sweep: every combination of head count, seed, learning rate and weight decay, ordered by H."""

from dataclasses import dataclass
from itertools import product

from experiment.config import Config


@dataclass(frozen=True)
class RunSpec:
    """One run: what sets it apart from its companions, and the name of its folder."""

    name: str
    n_head: int
    seed: int
    learning_rate: float
    weight_decay: float


def runs(config: Config) -> list[RunSpec]:
    """All runs of the sweep, ordered by H, then seed, learning rate and weight decay."""
    rates = config.sweep.learning_rate or [config.train.learning_rate]
    decays = config.sweep.weight_decay or [config.train.weight_decay]
    specs = []
    for heads, seed, rate, decay in product(config.head_counts, config.sweep.seed, rates, decays):
        name = f"h{heads:02d}-seed{seed}"
        name += f"-lr{rate:g}" if config.sweep.learning_rate else ""
        name += f"-wd{decay:g}" if config.sweep.weight_decay else ""
        specs.append(RunSpec(name, heads, seed, rate, decay))
    return sorted(specs, key=lambda s: (s.n_head, s.seed, s.learning_rate, s.weight_decay))
