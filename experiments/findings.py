"""What the results page says of losses, made from the studies that compare.py put into report.json: no number by hand.

Each function takes studies as report.json holds them, by name, and returns Markdown; what they lack is left out.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from analysis.report.loss import ends
from analysis.report.overview import verdict_of
from analysis.report.words import listed, number, plain, signed
from analysis.sentences import rate_text
from analysis.statistics import MOST_SEEDS
from analysis.summary import told_of

Studies = Mapping[str, Mapping]
NEAR = 0.1
"""Nats per token from the floor within which a run counts as having reached it."""
KINDS = ("falls", "rises", "same", "unsure")
CENTRE, CHECKED, ELSEWHERE, LEARNED = "centre", "checked", "elsewhere", "tales-learned"
AGAIN = (CHECKED, ELSEWHERE)
"""The studies that are the centre trained again: no settings of the map."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def heads_of(verdict: Mapping) -> list[int]:
    return sorted({h for pair in verdict["pairs"] for h in (pair["n_head"], pair["reference"])})


def difference(verdict: Mapping, one: int, other: int) -> dict:
    """The pair as loss at `one` minus loss at `other`, whichever way it was compared."""
    pair = next(p for p in verdict["pairs"] if {p["n_head"], p["reference"]} == {one, other})
    if pair["n_head"] == one:
        return pair
    turned = {"worse": "better", "better": "worse"}
    ends_of = {"low": pair["high"], "high": pair["low"], "estimate": pair["estimate"]}
    return (
        pair
        | {key: None if value is None else -value for key, value in ends_of.items()}
        | {"n_head": one, "reference": other, "verdict": turned.get(pair["verdict"], pair["verdict"])}
    )


def standing(verdict: Mapping, n_head: int) -> str:
    """A head count against the one with the lowest loss: worse, the same to within the margin, or not settled."""
    if n_head == verdict["lowest"]:
        return "surely the lowest" if verdict["best"] == [n_head] else "the lowest"
    found = difference(verdict, n_head, verdict["lowest"])["verdict"]
    return {"same": f"the same to within {verdict['margin']:g}", "open": "not settled"}.get(found, found)


def with_ends(row: Mapping) -> str:
    return f"{signed(row['estimate'])} ({ends(row)})"


def verdicts_of(studies: Studies) -> dict[str, dict]:
    """The studies that are settings of the map, with what each says."""
    return {name: found for name, study in studies.items() if name not in AGAIN and (found := verdict_of(study))}


def apart(one: Mapping, other: Mapping) -> bool:
    """Whether the whole of one's interval lies above the other's."""
    return None not in (one["low"], other["high"]) and one["low"] > other["high"]


def settings(studies: Studies) -> str:
    """What was trained, a row a study; of those with an answer."""
    rows = []
    for name, study in studies.items():
        if not verdict_of(study):
            continue
        runs, of = study["runs"], study["settings"]
        heads, seeds, rates = (sorted({run[key] for run in runs}) for key in ("n_head", "seed", "learning_rate"))
        row = [name, *(f"{of[f'model.{key}']}" for key in ("n_embd", "block_size", "n_layer"))]
        row += [f"{of['data.source']}, {of['data.tokenizer']}", f"{of['train.max_iters']:,}"]
        row += [f"{of['train.batch_size'] * of['train.gradient_accumulation_steps'] * of['model.block_size']:,}"]
        row += [", ".join(map(str, values)) for values in (heads, seeds)]
        rows.append([*row, ", ".join(map(rate_text, rates)), str(of["precision"])])
    head = ["study", "D", "T", "layers", "corpus, tokenizer", "iterations", "tokens a step"]
    return markdown([*head, "H", "seeds", "learning rates", "precision"], rows) if rows else ""


def practice(studies: Studies) -> str:
    """What to choose, what H does where, which words gain from heads; and what was not settled."""
    verdicts = verdicts_of(studies)
    told = [text for text in (choice(studies, verdicts), trends(studies), gains(studies.get(LEARNED, {}))) if text]
    lines = [f"{place}. {text}" for place, text in enumerate(told, 1)]
    rest = [f"{name} ({text})" for name, verdict in verdicts.items() if (text := unsettled(verdict))]
    if rest:
        margin = next(iter(verdicts.values()))["margin"]
        seeds = "in parentheses how many seeds would settle them, were the differences as large as those measured"
        lines += ["", f"Not settled to within {margin:g} nats, {seeds}: {', '.join(rest)}."]
    return "\n".join(lines)


def unsettled(verdict: Mapping) -> str:
    """How many pairs are neither different nor the same, and the seeds that they need; nothing where none is."""
    left = [pair for pair in verdict["pairs"] if pair["verdict"] == "open"]
    needed = sorted(pair["seeds_needed"] or MOST_SEEDS + 1 for pair in left)
    counts = [f"{n:,}" if n <= MOST_SEEDS else f"over {MOST_SEEDS:,}" for n in dict.fromkeys(needed[:1] + needed[-1:])]
    return f"{len(left)} of {len(verdict['pairs'])} pairs, {' to '.join(counts)}" if left else ""


def choose(studies: Studies, verdicts: Mapping[str, Mapping]) -> tuple[int | None, list[int], dict[str, Mapping]]:
    """Of the head counts that all settings of the centre's width have, the one to take there; those; the settings.

    It is the one that can be the least too dear in any setting of the centre's unit (minimax regret), by the intervals.
    """
    if CENTRE not in verdicts:
        return None, [], {}
    same = {name: of for name, of in verdicts.items() if studies[name]["n_embd"] == studies[CENTRE]["n_embd"]}
    shared = sorted(set.intersection(*(set(heads_of(verdict)) for verdict in same.values())))
    costs = {h: [regret(verdict, h) for name, verdict in same.items() if unit(studies, name)] for h in shared}
    return min(shared, key=lambda h: max(costs[h]), default=None), shared, same


def unit(studies: Studies, name: str) -> bool:
    """Whether a study's losses are of the centre's kind of token, so that their sizes compare."""
    keys = ("data.source", "data.tokenizer")
    return all(studies[name]["settings"][key] == studies[CENTRE]["settings"][key] for key in keys)


def regret(verdict: Mapping, n_head: int) -> float:
    """How much worse than another a head count can be, in nats per token, by the intervals; infinite without one."""
    highs = [difference(verdict, n_head, other)["high"] for other in heads_of(verdict) if other != n_head]
    return max([0.0, *(math.inf if high is None else high for high in highs)])


def choice(studies: Studies, verdicts: Mapping[str, Mapping]) -> str:
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
    most = [f"than {h} by over {number(cost)} ({name})" for h, (cost, name) in worst.items() if math.isfinite(cost)]
    never = f": on the centre's text, by the intervals, no other H is better {listed(most)}" * bool(most)
    return (
        f"At D = {width}, of H = {listed([str(h) for h in shared])}{untried(shared, same)}, take {take} "
        f"(d_h = {width // take}), which costs the least where it is wrong{never}. Of {len(same)} settings, {take} is "
        f"{'; '.join(told)}.{other_widths(studies, verdicts)}"
    )


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
    """What counting tokens reaches on the centre's text, and the studies that end near a bigram model."""
    verdicts = verdicts_of(studies)
    if CENTRE not in verdicts or not baselines:
        return ""
    counted = listed([f"{number(loss)} with {name}s" for name, loss in baselines.items()])
    near = [n for n, of in verdicts.items() if unit(studies, n) and of["lowest_loss"] > baselines["bigram"] - NEAR]
    little = (
        f" Within {NEAR:g} of bigrams, {listed(near)}: they have learned little more than which character follows "
        "which, and say what H does after so little training."
    )
    return f"Counting alone reaches, on the centre's validation text, {counted}.{little * bool(near)}"


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


def besides(verdict: Mapping) -> str:
    """The head counts that may have the lowest loss as well."""
    rest = [str(h) for h in verdict["best"] if h != verdict["lowest"]]
    return f" (H = {listed(rest)} not excluded)" if rest else " (surely)"


def alike(one: Mapping, other: Mapping, *but: str) -> bool:
    """Whether two studies have the same settings but those: text and precision, too."""
    held, theirs = one["settings"], other["settings"]
    return all(held.get(key) == theirs.get(key) for key in {*held, *theirs} - {*but})


def trends(studies: Studies) -> str:
    """What a doubling of H does, by setting; which settings differ in that."""
    verdicts = verdicts_of(studies)
    if not verdicts:
        return ""
    names = {which: [name for name in verdicts if kind(verdicts[name]) == which] for which in KINDS}
    parts = []
    for which in ("falls", "rises"):
        of = [f"{name} ({signed(verdicts[name]['trend']['estimate'])})" for name in names[which]]
        parts += [f"surely {which} in {listed(of)}"] * bool(of)
    if names["same"]:
        margin = next(iter(verdicts.values()))["margin"]
        parts.append(f"does not differ between any two head counts by {margin:g} in {listed(names['same'])}")
    unsure: dict[str, list[str]] = {}
    for name in names["unsure"]:
        worse = [str(h) for h in heads_of(verdicts[name]) if standing(verdicts[name], h) == "worse"]
        verb = "are" if len(worse) > 1 else "is"
        but = f"H = {listed(worse)} {verb} surely worse than {verdicts[name]['lowest']}" * bool(worse)
        unsure.setdefault(but, []).append(name)
    if unsure:
        where = {but: ", where " if len(of) == 1 else ", in each of which " for but, of in unsure.items()}
        of = [f"{listed(held)}{(where[but] + but) * bool(but)}" for but, held in unsure.items()]
        parts.append(f"has no sure trend in {'; '.join(of)}")
    return (
        f"For each doubling of H the loss {'; '.join(parts)} (nats per token; sure where the 95 % interval leaves 0 "
        f"out).{bends(verdicts)}{beside(studies, verdicts)}"
    )


def bends(verdicts: Mapping[str, Mapping]) -> str:
    """In how many of the settings with three head counts or more the loss surely bends upwards in log2 H."""
    curves = [curve for verdict in verdicts.values() if (curve := verdict["curvature"])]
    upwards = sum(curve["sure"] and curve["estimate"] > 0 for curve in curves)
    more = "more heads gain less and less there, or cost more and more"
    return f" In {upwards} of {len(curves)} settings it surely bends upwards in log2 H: {more}." * bool(upwards)


def kind(verdict: Mapping) -> str:
    """One of KINDS: of a sure trend, of pairs that are all the same to within the margin, or of neither."""
    trend = verdict["trend"]
    if trend["sure"]:
        return "rises" if trend["estimate"] > 0 else "falls"
    return "same" if all(pair["verdict"] == "same" for pair in verdict["pairs"]) else "unsure"


def beside(studies: Studies, verdicts: Mapping[str, Mapping]) -> str:
    """The settings whose trend is sure to be another than the centre's, of those with its unit: its tokens."""
    if CENTRE not in verdicts or (centre := verdicts[CENTRE]["trend"])["low"] is None:
        return ""
    others = {name: of["trend"] for name, of in verdicts.items() if name != CENTRE and unit(studies, name)}
    above = [name for name, trend in others.items() if apart(trend, centre)]
    below = [name for name, trend in others.items() if apart(centre, trend)]
    told = [f"{way} it in {listed(names)}" for way, names in (("above", above), ("below", below)) if names]
    if not others or not told:
        return " On the same text all intervals overlap the centre's: that the setting matters is not shown." * bool(
            others
        )
    return f" On the same text, beside the centre's interval ({ends(centre)}), a setting's lies {' and '.join(told)}."


def by_length(studies: Studies) -> str:
    """What a doubling of H does by the length of training, where nothing else is changed; whether the sign turns."""
    verdicts = verdicts_of(studies)
    if CENTRE not in verdicts:
        return ""
    found = {
        studies[name]["settings"]["train.max_iters"]: verdict
        for name, verdict in verdicts.items()
        if alike(studies[name], studies[CENTRE], "train.max_iters", "train.warmup_iters")
    }
    if len(found) < 2:
        return ""
    told = [
        f"{with_ends(verdict['trend'])} after {iters:,} iterations, "
        f"H = {verdict['lowest']} the lowest{besides(verdict)}"
        for iters, verdict in sorted(found.items())
    ]
    sure = [(iters, verdict["trend"]) for iters, verdict in sorted(found.items()) if verdict["trend"]["sure"]]
    turns = [
        f"between {before:,} and {after:,} iterations"
        for (before, one), (after, other) in pairwise(sure)
        if one["estimate"] * other["estimate"] < 0
    ]
    turn = f" The sign turns {' and again '.join(turns)}." * bool(turns)
    changed = "With nothing but the length of training changed (and of its warm-up)"
    return f"{changed}, a doubling of H does this: {'; '.join(told)}.{turn}"


def on_the_way(study: Mapping) -> str:
    """The mean loss over seeds at each measurement, each H at the learning rate that is best for it in the end."""
    if not study.get("tuned"):
        return ""
    best = {int(h): rate for h, rate in study["tuned"][0]["best_learning_rate"].items()}
    runs = [run for run in study["runs"] if run["learning_rate"] == best.get(run["n_head"]) and not run["left_out"]]
    losses: dict[int, dict[int, list[float]]] = {}
    for run in runs:
        for iteration, loss in zip(run["iters"], run["val_loss"], strict=True):
            losses.setdefault(iteration, {}).setdefault(run["n_head"], []).append(loss)
    rows = [
        [f"{iteration:,}", *(number(sum(of[h]) / len(of[h])) if h in of else "–" for h in sorted(best))]
        for iteration, of in sorted(losses.items())
    ]
    return markdown(["iteration", *(f"H = {h}" for h in sorted(best))], rows)


def gains(study: Mapping) -> str:
    """The relations whose loss changes with H by their intervals."""
    section = study.get("sections", {}).get("relations")
    found = {name: row["trend"] for name, row in (section or {}).get("verdicts", {}).items() if row["trend"]}
    found = {name: trend for name, trend in found.items() if trend["low"] is not None}
    if not found:
        return ""
    heads = listed(sorted(next(iter(section["loss"].values()), {}), key=int))
    near = {name: of for name in found if (of := near_floor(section, name))}
    ends_near = {name: f", with {listed(of)} runs near its floor at H = {heads}" for name, of in near.items()}
    of = f"({LEARNED}{at_rate(study)}, nats per token of the tagged words for each doubling of H)"
    clear = {name: trend for name, trend in found.items() if trend["sure"]}
    if clear:
        told = [
            f"{'falls' if trend['estimate'] < 0 else 'rises'} for {plain(name)} words, "
            f"{with_ends(trend)}{ends_near.get(name, '')}"
            for name, trend in clear.items()
        ]
        rest = [plain(name) for name in found if name not in clear]
        unsure = f"; not sure for {listed(rest)} ones" * bool(rest)
        return f"Where a text has the four relations {of}, the loss {'; '.join(told)}{unsure}."
    largest = max(found, key=lambda name: abs(found[name]["estimate"]))
    return (
        f"Which of the four relations needs more heads is not settled {of}: every interval holds 0; the largest is "
        f"{plain(largest)}, {with_ends(found[largest])}{ends_near.get(largest, '')}."
    )


def at_rate(study: Mapping) -> str:
    """The learning rate that all but losses is told of."""
    return f", at learning rate {rate_text(told_of(study['groups'])['learning_rate'])} for every H"


def near_floor(section: Mapping, relation: str) -> list[str]:
    """How many runs of each head count, ascending, end near the relation's floor; none where it has no floor."""
    if not section.get("floor"):
        return []
    losses = sorted(section["loss"][relation].items(), key=lambda item: int(item[0]))
    floor = section["floor"][relation]
    return [f"{sum(loss < floor + NEAR for loss in of.values())} of {len(of)}" for _, of in losses]
