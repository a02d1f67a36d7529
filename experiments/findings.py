"""What the results page says of losses, made from the studies that compare.py put into report.json: no number by hand.

Each function takes studies as report.json holds them, by name, and returns Markdown; what they lack is left out.
"""

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
        rows.append([*row, ", ".join(f"{rate:g}" for rate in rates), str(of["precision"])])
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


def worse_in(n_head: int, verdicts: Mapping[str, Mapping]) -> dict[str, float]:
    """The settings where a head count is surely worse than the one with the lowest loss, and by how much."""
    names = [name for name, verdict in verdicts.items() if standing(verdict, n_head) == "worse"]
    return {name: difference(verdicts[name], n_head, verdicts[name]["lowest"])["estimate"] for name in names}


def choose(studies: Studies, verdicts: Mapping[str, Mapping]) -> tuple[int, list[int], dict[str, Mapping]]:
    """Of the head counts that all settings of the centre's width have, the one to take there; those; the settings.

    It is surely worse than the lowest in the fewest; of such, the lowest in the most.
    """
    width = studies[CENTRE]["n_embd"]
    same = {name: verdict for name, verdict in verdicts.items() if studies[name]["n_embd"] == width}
    shared = sorted(set.intersection(*(set(heads_of(verdict)) for verdict in same.values())))

    def rank(h: int) -> tuple:
        worse = worse_in(h, same)
        return len(worse), -sum(h == verdict["lowest"] for verdict in same.values()), CENTRE in worse

    return min(shared, key=rank), shared, same


def choice(studies: Studies, verdicts: Mapping[str, Mapping]) -> str:
    """Which head count to take at the centre's width, where it is not the best, and what it may cost there."""
    if CENTRE not in verdicts:
        return ""
    take, shared, same = choose(studies, verdicts)
    width = studies[CENTRE]["n_embd"]
    counts = {h: worse_in(h, same) for h in [take, *(h for h in shared if h != take)]}
    told = [f"{len(of)}, by {span(of)}" if of else "none" for of in counts.values()]
    others = [f"H = {h} in {text}" for h, text in list(zip(counts, told, strict=True))[1:]]
    pairs = {name: difference(of, take, of["lowest"]) for name, of in same.items() if of["lowest"] != take}
    highs = {name: pair["high"] for name, pair in pairs.items() if pair["high"] is not None}
    most = f" Where it is not the lowest it costs, by the intervals, at most {span(highs)}." * bool(highs)
    return (
        f"At D = {width}, of H = {listed([str(h) for h in shared])}{untried(shared, same)}, take {take} "
        f"(d_h = {width // take}): of {len(same)} settings it is surely worse than the lowest in "
        f"{'; '.join([told[0], *others])}.{most}{other_widths(studies, verdicts)}"
    )


def span(values: Mapping[str, float]) -> str:
    """The smallest and the largest, and where they are."""
    rows = sorted((value, name) for name, value in values.items())
    return " to ".join(f"{number(value)} ({name})" for value, name in dict.fromkeys(rows[:1] + rows[-1:]))


def by_setting(studies: Studies) -> str:
    """At the centre's width: the lowest head count, and every one against the one to take, a row a setting."""
    verdicts = verdicts_of(studies)
    if CENTRE not in verdicts:
        return ""
    take, _, same = choose(studies, verdicts)
    others = sorted({h for verdict in same.values() for h in heads_of(verdict)} - {take})
    rows = []
    for name, verdict in same.items():
        pairs = [with_ends(difference(verdict, h, take)) if h in heads_of(verdict) else "–" for h in others]
        rows.append([name, f"{verdict['lowest']}{besides(verdict)}", *pairs])
    return markdown(["study", "lowest H", *(f"H = {h} − H = {take} (95 % CI)" for h in others)], rows)


def untried(heads: Sequence[int], verdicts: Mapping[str, Mapping]) -> str:
    """The powers of two between the head counts that are not among them, and the settings that have them."""
    where: dict[str, list[str]] = {}
    for h in (2**power for power in range(heads[-1].bit_length())):
        if heads[0] < h < heads[-1] and h not in heads:
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
        but = f"H = {listed(worse)} worse than {verdicts[name]['lowest']}" * bool(worse)
        unsure.setdefault(f" (but {but})" * bool(but), []).append(name)
    if unsure:
        parts.append(f"has no sure trend in {'; in '.join(listed(of) + but for but, of in unsure.items())}")
    return (
        f"For each doubling of H the loss {'; '.join(parts)} (nats per token; sure where the 95 % interval leaves 0 "
        f"out).{bends(verdicts)}{beside(studies, verdicts)}"
    )


def bends(verdicts: Mapping[str, Mapping]) -> str:
    """In how many settings the loss surely bends upwards in log2 H, and where it is lowest there."""
    curves = [curve for verdict in verdicts.values() if (curve := verdict["curvature"]) and curve["sure"]]
    lowest = sorted(curve["lowest_at"] for curve in curves if curve["lowest_at"])
    if not lowest:
        return ""
    at = " to ".join(number(h, 1) for h in (lowest[0], lowest[-1])[: len(lowest)])
    return (
        f" In {len(lowest)} of {len(verdicts)} settings it surely bends upwards in log2 H, lowest in between: "
        f"by a parabola at H = {at}."
    )


def kind(verdict: Mapping) -> str:
    """One of KINDS: of a sure trend, of pairs that are all the same to within the margin, or of neither."""
    trend = verdict["trend"]
    if trend["sure"]:
        return "rises" if trend["estimate"] > 0 else "falls"
    return "same" if all(pair["verdict"] == "same" for pair in verdict["pairs"]) else "unsure"


def beside(studies: Studies, verdicts: Mapping[str, Mapping]) -> str:
    """The settings whose trend is sure to be another than the centre's, of those with its unit: its tokens."""
    of = {name: [studies[name]["settings"][f"data.{key}"] for key in ("source", "tokenizer")] for name in verdicts}
    found = {name: verdicts[name]["trend"] for name in verdicts if CENTRE in of and of[name] == of[CENTRE]}
    others = {name: trend for name, trend in found.items() if name != CENTRE and trend["low"] is not None}
    if not others or found[CENTRE]["low"] is None:
        return ""
    told = []
    for where, names in (
        ("above", [name for name, trend in others.items() if apart(trend, found[CENTRE])]),
        ("below", [name for name, trend in others.items() if apart(found[CENTRE], trend)]),
    ):
        of = [f"{name} ({signed(others[name]['estimate'])})" for name in names]
        told += [f"{where} it in {listed(of)}"] * bool(of)
    if not told:
        return " On the same text all intervals overlap the centre's: that the setting matters is not shown."
    at = f"the centre's trend ({signed(found[CENTRE]['estimate'])})"
    return f" On the same text, beside {at}, the whole interval lies {' and '.join(told)}."


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
    return f"With nothing but the length of training changed, a doubling of H does this: {'; '.join(told)}.{turn}"


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
    """The learning rate that all but losses is told of, where several were trained."""
    groups = study["groups"]
    return f", at learning rate {rate_text(told_of(groups)['learning_rate'])} for every H" if len(groups) > 1 else ""


def near_floor(section: Mapping, relation: str) -> list[str]:
    """How many runs of each head count, ascending, end near the relation's floor; none where it has no floor."""
    if not section.get("floor"):
        return []
    losses = sorted(section["loss"][relation].items(), key=lambda item: int(item[0]))
    floor = section["floor"][relation]
    return [f"{sum(loss < floor + NEAR for loss in of.values())} of {len(of)}" for _, of in losses]
