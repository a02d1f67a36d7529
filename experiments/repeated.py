"""What the results page says of studies that were trained again. No number by hand.

Studies are as report.json holds them, by name, unless a function says otherwise; each returns Markdown.
"""

import math
from collections.abc import Mapping

from analysis.report.overview import verdict_of
from analysis.report.words import listed, number
from experiments.findings import (
    CENTRE,
    CHECKED,
    ELSEWHERE,
    Studies,
    alike,
    besides,
    best_rates,
    difference,
    heads_of,
    with_ends,
)


def agreement(one: Mapping, other: Mapping) -> str:
    """Whether two trends, of a study that was made twice, have the same sign; how sure that is."""
    sure = one["sure"] and other["sure"]
    signs = "the same sign" if one["estimate"] * other["estimate"] > 0 else "opposite signs"
    return signs if sure else f"{signs}, not sure"


def beside_centre(studies: Studies, name: str, *but: str) -> list[Mapping]:
    """What the centre says, and what a study of the same settings but those does; nothing where one was not tested."""
    if not {CENTRE, name} <= studies.keys() or not alike(studies[CENTRE], studies[name], *but):
        return []
    both = [verdict_of(studies[of]) for of in (CENTRE, name)]
    return both if all(verdict and verdict["trend"]["low"] is not None for verdict in both) else []


def checked(studies: Studies) -> str:
    """Whether the centre, trained again in another way, says the same."""
    if not (both := beside_centre(studies, CHECKED, "precision")):
        return ""
    first, second = (verdict["trend"] for verdict in both)
    shared = sorted(set.intersection(*(set(heads_of(verdict)) for verdict in both)))
    pairs = [
        f"H = {h} against H = {shared[0]}: {with_ends(difference(both[1], h, shared[0]))}, against "
        f"{with_ends(difference(both[0], h, shared[0]))}"
        for h in shared[1:]
    ]
    same = f" {'; '.join(pairs)}." * bool(pairs)
    left = [str(h) for h in heads_of(both[0]) if h not in shared]
    same += f" Not compared again: H = {listed(left)}." * bool(left)
    return (
        f"With seeds {listed([str(seed) for seed in second['seeds']])} in {studies[CHECKED]['settings']['precision']}, "
        f"{with_ends(second)} nats per token for each doubling of H, against {with_ends(first)} at the centre: "
        f"{agreement(first, second)}.{same}"
    )


def elsewhere(studies: Studies) -> str:
    """What another machine makes of the centre's own runs: the trend, the lowest H, pairs; how far runs are moved."""
    if not (both := beside_centre(studies, ELSEWHERE)):
        return ""
    here, there = both
    seeds, own = (set(verdict["trend"]["seeds"]) for verdict in (there, here))
    some = f", with {len(seeds)} of its {len(own)} seeds," * (seeds < own)
    told = [
        f"There{some} {with_ends(there['trend'])} nats per token for each doubling of H, against "
        f"{with_ends(here['trend'])} at the centre: {agreement(there['trend'], here['trend'])}.",
        f"The lowest loss is that of H = {there['lowest']} there{besides(there)}, and of H = {here['lowest']} at the "
        f"centre{besides(here)}.",
    ]
    shared = [h for h in heads_of(there) if h in heads_of(here)]
    pairs = [(difference(there, h, least), difference(here, h, least)) for least in shared for h in shared if h > least]
    sure = [(one, other) for one, other in pairs if {one["verdict"], other["verdict"]} <= {"better", "worse"}]
    turned = [
        f"H = {one['n_head']} against H = {one['reference']}, {with_ends(one)} there and {with_ends(other)} here"
        for one, other in sure
        if one["verdict"] != other["verdict"]
    ]
    signs = f"with opposite signs: {'; '.join(turned)}" if turned else "none with opposite signs"
    told.append(
        f"Of the {len(pairs)} pairs of head counts, sure both times: {f'{len(sure)}, {signs}' if sure else 'none'}."
    )
    if moved := rounding(studies[CENTRE], studies[ELSEWHERE]):
        spread = number(here["standard_deviation"])
        told.append(f"Training again moves a final loss by an SD of {moved}, beside a residual SD of {spread}.")
    return " ".join(told)


def rounding(one: Mapping, other: Mapping) -> str:
    """How far training again moves a final loss, as a standard deviation: that of the difference over √2.

    Of the runs that both have, each H at the learning rate that is best for it in the first.
    """
    best = best_rates(one)
    first, second = (
        {
            (run["n_head"], run["seed"]): run["val_loss"][-1]
            for run in study["runs"]
            if run["learning_rate"] == best.get(run["n_head"]) and not run["left_out"]
        }
        for study in (one, other)
    )
    differences = [first[run] - second[run] for run in first.keys() & second.keys()]
    return number(math.sqrt(sum(d**2 for d in differences) / len(differences) / 2)) if differences else ""


def again(held: Mapping[str, Mapping], before: Mapping[str, Mapping]) -> str:
    """Whether studies that were made again have the sign and the lowest H that were published; a line each."""
    mine, theirs = ({name: verdict_of(of["study"]) for name, of in each.items()} for each in (held, before))
    lines = []
    for name in mine:
        if mine[name] and theirs.get(name):
            here, there = mine[name]["trend"], theirs[name]["trend"]
            told = f"{with_ends(here)} here, {with_ends(there)} published"
            lowest = mine[name]["lowest"], theirs[name]["lowest"]
            at = f"H = {lowest[0]} the lowest" + (f", not {lowest[1]}" if lowest[0] != lowest[1] else ", as published")
            lines.append(f"{name}: {told}: {agreement(here, there)}; {at}")
    return "\n".join(lines) or "None of these studies is published."
