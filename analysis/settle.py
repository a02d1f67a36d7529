"""Train, compare, add seeds, until every pair of head counts is settled: train.py CONFIG --settle [MARGIN].

The looks are planned by the command alone: at the config's seeds, then at half as many more each time, to the most.
Every look compares at its share of the 5 % (analysis/statistics/looks.py), so that what one look settles stays settled
and all claims of all looks hold together with 95 %. A kill loses nothing: the same command makes the same looks again,
from what is trained already.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, count

from tqdm import tqdm

from analysis.collect import collect
from analysis.report.words import listed, signed
from analysis.runs import Study, by_head
from analysis.statistics import MARGIN, Losses, Pair, Verdict, compare, compare_tuned, levels, planned_looks
from errors import InputError
from experiment.config import Config
from experiment.folder import Experiment
from terminal import table, window
from training.growth import asked_for, examine, seconds_of

log = logging.getLogger("headcount")

MOST_SEEDS = 16
"""Where settling stops, unless the user says otherwise."""


def settle(
    config: Config, train: Callable[[Config], Experiment], margin: float = MARGIN, most: int = MOST_SEEDS
) -> Experiment:
    """Add seeds to all head counts until all pairs are settled, or each has `most` seeds; say so after every round.

    Args:
        train: carries out a config, and trains what of it is missing.
        margin: nats per token within which two losses are the same.

    Raises:
        InputError: there is nothing to compare, no room for a look, or no run that can be compared.
    """
    first = max(2, len(config.sweep.seed))
    if len(config.head_counts) < 2:
        raise InputError("--settle compares head counts, and there is one; give more, --sweep.n_head 1,2,4")
    if not 0 < margin < math.inf:
        raise InputError(f"--settle {margin:g}: the margin must be a number of nats per token above 0")
    if most < first:
        raise InputError(f"--max_seeds {most}: the experiment begins with {first}; give that many or more")
    looks = planned_looks(first, most)
    settled: dict[tuple, Pair] = {}
    for number, (n_seed, level) in enumerate(zip(looks, levels(looks), strict=True), 1):
        experiment = train(with_seeds(config, n_seed))
        losses = final_losses(collect([experiment.path])[0][0], with_seeds(config, n_seed))
        able = {decay: comparable(of, config.head_counts) for decay, of in losses.items()}
        if not any(able.values()):
            raise InputError(f"{config.name}: no run can be compared; every one diverged or has no validation loss")
        found = verdicts(losses, margin, level)
        pairs = {(wd, b, a): Pair((), None, n_head=b, reference=a) for wd in able for a, b in combinations(able[wd], 2)}
        pairs |= {(decay, pair.n_head, pair.reference): pair for decay, of in found.items() for pair in of.pairs}
        settled = {key: pair for key, pair in pairs.items() if pair.answer != "open"} | settled
        left = [key for key in pairs if key not in settled]
        log.info(f"\nround {number} of at most {len(looks)}, {n_seed} seeds\n{answers(pairs | settled, config)}")
        log.info(
            f"settled: {len(settled)} of {len(pairs | settled)} pairs" + f"; not settled: {named(left)}" * bool(left)
        )
        if lost := not_compared(able, config.head_counts):
            log.info(f"not compared, as runs of theirs diverged: {lost}")
        if not left:
            rest = "nothing else is left to settle" if lost else "all is settled"
            log.info(f"{rest} to within {margin:g} nats per token, with {n_seed} seeds")
            return experiment
        if n_seed < looks[-1]:
            log.info(f"next: {looks[number]} seeds, {what_is_next(experiment, with_seeds(config, looks[number]))}")
    log.info(f"not settled with {most} seeds, the most that --max_seeds allows:")
    for decay, heads, reference in left:
        pair = pairs[decay, heads, reference]
        needed = found[decay].seeds_needed(pair) if pair.tested else None
        short = "too close" if pair.tested else "not compared"
        log.info(f"  H = {heads} and H = {reference}: " + (f"about {needed} seeds would do" if needed else short))
    return experiment


def with_seeds(config: Config, n_seed: int) -> Config:
    """The config with its seeds and the smallest others, n_seed in all."""
    seeds = list(config.sweep.seed)
    others = (seed for seed in count() if seed not in seeds)
    seeds += [next(others) for _ in range(n_seed - len(seeds))]
    return replace(config, sweep=replace(config.sweep, seed=seeds))


def final_losses(study: Study, config: Config) -> dict[float, dict[float, Losses]]:
    """{weight decay: {learning rate: {n_head: {seed: final loss}}}} of the config's runs, whatever the folder holds."""
    rates = config.sweep.learning_rate or [config.train.learning_rate]
    decays = config.sweep.weight_decay or [config.train.weight_decay]
    groups = study.groups()

    def of_setting(rate: float, decay: float) -> Losses:
        runs = groups.get((rate, decay), [])
        asked = [run for run in runs if run.n_head in config.head_counts and run.seed in config.sweep.seed]
        return {heads: {run.seed: run.final_loss for run in of} for heads, of in by_head(asked).items()}

    return {decay: {rate: of_setting(rate, decay) for rate in rates} for decay in decays}


def verdicts(losses: Mapping[float, Mapping[float, Losses]], margin: float, level: float) -> dict[float, Verdict]:
    """What a look says for each weight decay, between which the level is shared; at tuned rates where rates are swept.

    losses: `final_losses`. A weight decay of which nothing can be said yet is left out.
    """
    found = {}
    for decay, rates in losses.items():
        if len(rates) > 1:
            tuned = compare_tuned(rates, margin, level=level / len(losses))
            found |= {decay: tuned.verdict} if tuned else {}
        elif of := next(iter(rates.values())):
            found[decay] = compare(of, margin, level=level / len(losses))
    return found


def comparable(rates: Mapping[float, Losses], head_counts: Sequence[int]) -> list[int]:
    """The head counts that are compared, or may be with more seeds: those with a rate that has all of their seeds."""
    seeds = {h: {seed for of in rates.values() for seed in of.get(h, {})} for h in head_counts}
    return [h for h in head_counts if seeds[h] and any(seeds[h] == set(of.get(h, {})) for of in rates.values())]


def not_compared(able: Mapping[float, Sequence[int]], head_counts: Sequence[int]) -> str:
    """The head counts that no seed makes comparable, in words; by weight decay where those are swept."""
    lost = []
    for decay, held in able.items():
        heads = [str(h) for h in head_counts if h not in held]
        where = f" at weight decay {decay:g}" if len(able) > 1 else ""
        lost += [f"H = {listed(heads)}{where}"] * bool(heads)
    return "; ".join(lost)


def answers(pairs: dict[tuple, Pair], config: Config) -> str:
    """The pairs as a table."""
    several = len(config.sweep.weight_decay) > 1
    rows = [[f"{decay:g}"] * several + list(cells(pair)) for (decay, _, _), pair in pairs.items()]
    return table(["wd"] * several + ["pair", "difference", "interval", "answer"], rows, window())


def cells(pair: Pair) -> Iterator[str]:
    """Pair, difference, interval, and the answer in words."""
    yield f"H={pair.n_head} − H={pair.reference}"
    yield "-" if pair.estimate is None else signed(pair.estimate)
    yield "-" if pair.low is None else f"{signed(pair.low)} … {signed(pair.high)}"
    yield {"open": "not settled", "same": "the same"}.get(pair.answer, f"H={pair.n_head} is {pair.answer}")


def named(keys: Sequence[tuple]) -> str:
    """Pairs in words, a few of them."""
    shown = ", ".join(f"H = {heads} and H = {reference}" for _, heads, reference in keys[:4])
    return shown + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


def what_is_next(experiment: Experiment, asked: Config) -> str:
    """The runs that a config adds, and how long they will take by the time that those of the last addition took."""
    more = sum(not run.finished for run in asked_for(examine(experiment.path, asked)[0], asked))
    told = f"{more} more run{'s' * (more != 1)}"
    for start in reversed(experiment.environment["starts"]):
        if seconds := seconds_of(experiment, start):
            return f"{told}, about {tqdm.format_interval(seconds / len(start['added']) * more)}"
    return told
