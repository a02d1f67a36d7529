"""What the results page says first: which number of heads to take, how sure that is, and what is not settled.

Each public function takes studies as report.json holds them, by name, and returns Markdown. No number by hand.
"""

import math
from collections.abc import Mapping, Sequence

from analysis.report.words import listed, number
from analysis.sentences import rate_text
from analysis.statistics import MOST_SEEDS
from analysis.statistics.power import POWER
from experiments.findings import (
    CENTRE,
    LEARNED,
    NEAR,
    Studies,
    alike,
    besides,
    best_rates,
    difference,
    heads_of,
    markdown,
    trends,
    unit,
    verdicts_of,
    with_ends,
)
from experiments.networks import gains


def practice(studies: Studies) -> str:
    """What to choose, what H does where, which words gain from heads; and what was not settled."""
    verdicts = verdicts_of(studies)
    told = [text for text in (to_take(studies, verdicts), trends(studies), gains(studies.get(LEARNED, {}))) if text]
    lines = [f"{place}. {text}" for place, text in enumerate(told, 1)]
    rest = [f"{name} ({text})" for name, verdict in verdicts.items() if (text := unsettled(verdict))]
    if rest:
        margin = next(iter(verdicts.values()))["margin"]
        chance = f"a chance of {100 * POWER:g} %"
        lines += [
            "",
            f"Not settled, which is neither surely different nor the same to within {margin:g} nats (in parentheses "
            f"the seeds in all that would settle them with {chance}, were the differences those measured): "
            f"{', '.join(rest)}.",
        ]
    return "\n".join(lines)


def unsettled(verdict: Mapping) -> str:
    """How many pairs are neither different nor the same, and the seeds that they need; nothing where none is."""
    left = [pair for pair in verdict["pairs"] if pair["verdict"] == "open" and pair["low"] is not None]
    needed = sorted(pair["seeds_needed"] or MOST_SEEDS + 1 for pair in left)
    counts = [f"{n:,}" if n <= MOST_SEEDS else f"over {MOST_SEEDS:,}" for n in dict.fromkeys(needed[:1] + needed[-1:])]
    return f"{len(left)} of {len(verdict['pairs'])} pairs, {' to '.join(counts)}" if left else ""


def choose(studies: Studies, verdicts: Mapping[str, Mapping]) -> tuple[int | None, list[int], dict[str, Mapping]]:
    """Of the head counts that all settings of the centre's width have, the one to take there; those; the settings.

    It is the one that can be the least too dear in any setting of the centre's unit (minimax regret), by the intervals;
    none where too little was tested to say so.
    """
    if CENTRE not in verdicts:
        return None, [], {}
    same = {name: of for name, of in verdicts.items() if studies[name]["n_embd"] == studies[CENTRE]["n_embd"]}
    shared = sorted(set.intersection(*(set(heads_of(verdict)) for verdict in same.values())))
    costs = {h: [regret(verdict, h) for name, verdict in same.items() if unit(studies, name)] for h in shared}
    take = min(shared, key=lambda h: max(costs[h]), default=None)
    return (take if len(shared) > 1 and math.isfinite(max(costs[take])) else None), shared, same


def regret(verdict: Mapping, n_head: int) -> float:
    """How much worse than another a head count can be, in nats per token, by the intervals; infinite without one."""
    highs = [difference(verdict, n_head, other)["high"] for other in heads_of(verdict) if other != n_head]
    return max([0.0, *(math.inf if high is None else high for high in highs)])


def to_take(studies: Studies, verdicts: Mapping[str, Mapping]) -> str:
    """Which head count to take at the centre's width, against which it is how often better, and what it may cost."""
    take, shared, same = choose(studies, verdicts)
    if take is None:
        return ""
    width, others = studies[CENTRE]["n_embd"], [h for h in shared if h != take]
    told = []
    for h in others:
        found = {name: difference(verdict, take, h) for name, verdict in same.items()}
        better, worse = ([name for name, row in found.items() if row["verdict"] == way] for way in ("better", "worse"))
        told.append(f"surely better than {h} in {len(better) or 'none'}, surely worse in {named(worse)}")
    worst = {h: max((regret(of, h), name) for name, of in same.items() if unit(studies, name)) for h in (take, *others)}
    most = [f"{number(cost)} than {h} ({name})" for h, (cost, name) in worst.items() if math.isfinite(cost)]
    rate = best_rates(studies[CENTRE]).get(take)
    at = f", learning rate {rate_text(rate)}" * bool(rate)
    return (
        f"At D = {width}, of H = {listed([str(h) for h in shared])}{untried(shared, same)}, take {take} "
        f"(d_h = {width // take}{at}; at the centre {against_others(verdicts[CENTRE], take)}), which costs the least "
        f"where it is wrong: on the centre's text another H that was trained in a setting is better, by the upper ends "
        f"of the intervals, by at most {listed(most)}. Of {len(same)} settings, {take} is {'; '.join(told)}."
        f"{other_widths(studies, verdicts)}"
    )


def against_others(verdict: Mapping, n_head: int) -> str:
    """A head count against every other: than which it is surely better, against which that is not settled."""
    said = {"better": "surely better than", "worse": "surely worse than", "open": "not settled against"}
    said["same"] = f"the same to within {verdict['margin']:g} as"
    others: dict[str, list[str]] = {}
    for other in heads_of(verdict):
        if other != n_head:
            others.setdefault(difference(verdict, n_head, other)["verdict"], []).append(str(other))
    return ", ".join(f"{text} {listed(others[which])}" for which, text in said.items() if which in others)


def named(names: Sequence[str]) -> str:
    """How many, and which."""
    return f"{len(names)} ({listed(names)})" if names else "none"


def by_setting(studies: Studies) -> str:
    """At the centre's width: the lowest head count, and every one against the one to take, a row a setting."""
    take, _, same = choose(studies, verdicts_of(studies))
    if take is None:
        return ""
    others = sorted({h for verdict in same.values() for h in heads_of(verdict)} - {take})
    rows = []
    for name, verdict in same.items():
        pairs = [with_ends(difference(verdict, h, take)) if h in heads_of(verdict) else "–" for h in others]
        rows.append([name, f"{verdict['lowest']}{besides(verdict)}", number(verdict["lowest_loss"]), *pairs])
    head = ["study", "lowest H", "its loss", *(f"H = {h} − H = {take} (95 % CI)" for h in others)]
    return markdown(head, rows)


def trained_little(studies: Studies, baselines: Mapping[str, float]) -> str:
    """What counting tokens reaches on the centre's text, and the studies that end near that."""
    verdicts = verdicts_of(studies)
    if CENTRE not in verdicts or not baselines:
        return ""
    counted = listed([f"{number(loss)} with {name}s" for name, loss in baselines.items()])
    ends = {name: of["lowest_loss"] for name, of in verdicts.items() if unit(studies, name)}
    near = {kind: [name for name, end in ends.items() if abs(end - loss) < NEAR] for kind, loss in baselines.items()}
    told = [f"within {NEAR:g} of {kind}s in {listed(names)}" for kind, names in near.items() if names]
    little = f" The lowest loss ends {'; '.join(told)}: these settings say what H does after so little learning."
    return f"Counting alone reaches, on the centre's validation text, {counted}.{little * bool(told)}"


def untried(heads: Sequence[int], verdicts: Mapping[str, Mapping]) -> str:
    """The other head counts that settings have, and powers of two between all these; the settings that have them."""
    held = sorted({h for verdict in verdicts.values() for h in heads_of(verdict)})
    where: dict[str, list[str]] = {}
    for h in sorted({*held, *(2**power for power in range(held[-1].bit_length()) if 2**power > held[0])} - {*heads}):
        where.setdefault(listed([name for name, of in verdicts.items() if h in heads_of(of)]), []).append(str(h))
    told = [f"{listed(of)} {f'only in {names}' if names else 'in none'}" for names, of in where.items()]
    return f" ({'; '.join(told)})" * bool(told)


def other_widths(studies: Studies, verdicts: Mapping[str, Mapping]) -> str:
    """The lowest head count where nothing but the width is another than the centre's."""
    told = []
    for name, verdict in sorted(verdicts.items(), key=lambda item: studies[item[0]]["n_embd"]):
        if name != CENTRE and alike(studies[name], studies[CENTRE], "model.n_embd"):
            width, h = studies[name]["n_embd"], verdict["lowest"]
            told.append(f"H = {h} (d_h = {width // h}) at D = {width}{besides(verdict)}")
    return f" With nothing but the width changed, the lowest loss is that of {listed(told)}." if told else ""
