"""What the results page says of losses, made from the studies that compare.py put into report.json: no number by hand.

Each function takes studies as report.json holds them, by name, and returns Markdown; what they lack is left out.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from analysis.report.loss import ends
from analysis.report.overview import verdict_of
from analysis.report.words import listed, number, plain, signed

Studies = Mapping[str, Mapping]
NEAR = 0.1
"""Nats per token from the floor within which a run counts as having reached it."""
CENTRE, CHECKED, LEARNED = "centre", "checked", "tales-learned"
LENGTHS = ("iterations-200", "iterations-800", CENTRE, "iterations-5000")


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


def answer(verdict: Mapping, one: int, other: int) -> str:
    """worse, better, the same to within the margin, or not settled."""
    found = difference(verdict, one, other)["verdict"]
    return {"same": f"the same to within {verdict['margin']:g}", "open": "not settled"}.get(found, found)


def with_ends(row: Mapping) -> str:
    return f"{signed(row['estimate'])} ({ends(row)})"


def verdicts_of(studies: Studies) -> dict[str, dict]:
    """The studies that are settings of the map, with what each says; the check of the centre is none."""
    return {name: found for name, study in studies.items() if name != CHECKED and (found := verdict_of(study))}


def excludes_zero(row: Mapping) -> bool:
    return row["low"] is not None and (row["low"] > 0 or row["high"] < 0)


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
    told = [text for text in (choice(studies, verdicts), trends(verdicts), gains(studies.get(LEARNED, {}))) if text]
    lines = [f"{place}. {text}" for place, text in enumerate(told, 1)]
    open_ = {name: [p for p in verdict["pairs"] if p["verdict"] == "open"] for name, verdict in verdicts.items()}
    rest = [f"{name}: {len(pairs)} of {len(verdicts[name]['pairs'])} pairs" for name, pairs in open_.items() if pairs]
    if rest:
        lines += ["", f"Not settled to within {next(iter(verdicts.values()))['margin']:g} nats: {', '.join(rest)}."]
    return "\n".join(lines)


def choice(studies: Studies, verdicts: Mapping[str, Mapping]) -> str:
    """The head counts that no study of the centre's width excludes as the best, and what others cost at the centre."""
    if CENTRE not in verdicts:
        return ""
    width = studies[CENTRE]["n_embd"]
    same = [name for name in verdicts if studies[name]["n_embd"] == width]
    shared = sorted(set.intersection(*(set(heads_of(verdicts[name])) for name in same)))
    against = {h: [name for name in same if h not in verdicts[name]["best"]] for h in shared}
    left = [str(h) for h in shared if not against[h]]
    of = f"Of H = {listed([str(h) for h in shared])} in the {len(same)} settings with D = {width}"
    never = [f"H = {listed(left)} {'is' if len(left) == 1 else 'are'} nowhere excluded as the best"] * bool(left)
    out = [f"H = {h} is excluded in {listed(names)}" for h, names in against.items() if names]
    lowest = verdicts[CENTRE]["lowest"]
    costs = [
        f"{with_ends(difference(verdicts[CENTRE], h, lowest))} at H = {h}, {answer(verdicts[CENTRE], h, lowest)}"
        for h in heads_of(verdicts[CENTRE])
        if h != lowest
    ]
    return (
        f"{of}, {'; '.join(never + out)}. At the centre, against H = {lowest}, in nats per token: {'; '.join(costs)}."
    )


def trends(verdicts: Mapping[str, Mapping]) -> str:
    """What a doubling of H does, by setting; which settings differ in that."""
    found = {name: verdict["trend"] for name, verdict in verdicts.items()}
    if not found:
        return ""
    margin = next(iter(verdicts.values()))["margin"]
    kinds: dict[str, list[str]] = {}
    for name, trend in found.items():
        kinds.setdefault(kind(trend, margin), []).append(f"{name} ({signed(trend['estimate'])})")
    order = ("rises in", "falls in", f"changes by less than {margin:g} in", "could rise or fall in")
    parts = [f"it {way} {listed(kinds[way])}" for way in order if way in kinds]
    return (
        f"For each doubling of H the loss changes by so many nats per token; by its 95 % interval {'; '.join(parts)}."
        + (beside(found) if CENTRE in found else "")
    )


def beside(trends: Mapping[str, Mapping]) -> str:
    """The settings whose trend is sure to be another than the centre's."""
    below = [name for name, trend in trends.items() if apart(trends[CENTRE], trend)]
    above = [name for name, trend in trends.items() if apart(trend, trends[CENTRE])]
    told = [f"below it, {listed(below)}"] * bool(below) + [f"above it, {listed(above)}"] * bool(above)
    if not told:
        return " All intervals overlap the centre's: that the setting matters is not shown."
    return f" Intervals that do not overlap the centre's: {'; '.join(told)}."


def by_length(studies: Studies) -> str:
    """What a doubling of H does by the length of training, where nothing else is changed; whether the sign turns."""
    verdicts = {name: verdict for name, verdict in verdicts_of(studies).items() if name in LENGTHS}
    if CENTRE not in verdicts:
        return ""
    alike = {name: but_length(studies[name]["settings"]) for name in verdicts}
    verdicts = {name: verdict for name, verdict in verdicts.items() if alike[name] == alike[CENTRE]}
    found = {studies[name]["settings"]["train.max_iters"]: verdict for name, verdict in verdicts.items()}
    if len(found) < 2:
        return ""
    told = [
        f"{with_ends(verdict['trend'])} after {iters:,} iterations, H = {verdict['lowest']} the lowest"
        for iters, verdict in sorted(found.items())
    ]
    signs = {verdict["trend"]["estimate"] > 0 for verdict in found.values() if excludes_zero(verdict["trend"])}
    turns = " The sign turns: what H does early in training is not what it does later." * (len(signs) > 1)
    return f"With nothing but the length of training changed, a doubling of H does this: {'; '.join(told)}.{turns}"


def but_length(settings: Mapping) -> dict:
    """Settings but those that say how long is trained; made on another machine or from other text, studies differ."""
    return {key: value for key, value in settings.items() if key not in ("train.max_iters", "train.warmup_iters")}


def agreement(one: Mapping, other: Mapping) -> str:
    """Whether two trends, of a study that was made twice, have the same sign; how sure that is."""
    sure = excludes_zero(one) and excludes_zero(other)
    signs = "the same sign" if one["estimate"] * other["estimate"] > 0 else "opposite signs"
    return signs if sure else f"{signs}, not sure"


def kind(trend: Mapping, margin: float) -> str:
    if excludes_zero(trend):
        return "rises in" if trend["estimate"] > 0 else "falls in"
    flat = trend["low"] is not None and max(-trend["low"], trend["high"]) < margin
    return f"changes by less than {margin:g} in" if flat else "could rise or fall in"


def gains(study: Mapping) -> str:
    """The relations whose loss changes with H by their intervals."""
    section = study.get("sections", {}).get("relations")
    found = {name: row["trend"] for name, row in (section or {}).get("verdicts", {}).items() if row["trend"]}
    found = {name: trend for name, trend in found.items() if trend["estimate"] is not None}
    if not found:
        return ""
    of = f"({LEARNED}, nats per token of the tagged words for each doubling of H)"
    clear = {name: trend for name, trend in found.items() if excludes_zero(trend)}
    if clear:
        told = [
            f"{plain(name)} words {'need more heads' if trend['estimate'] < 0 else 'want fewer heads'}, "
            f"{with_ends(trend)}"
            for name, trend in clear.items()
        ]
        return f"Where a text has the four relations {of}: {'; '.join(told)}; the other intervals hold 0."
    largest = max(found, key=lambda name: abs(found[name]["estimate"]))
    heads = listed(sorted(section.get("loss", {}).get(largest, {}), key=int))
    runs = f"; runs near its floor: {listed(near)}, at H = {heads}" if (near := near_floor(section, largest)) else ""
    return (
        f"Which of the four relations needs more heads is not settled {of}: every interval holds 0; the largest is "
        f"{plain(largest)}, {with_ends(found[largest])}{runs}."
    )


def near_floor(section: Mapping, relation: str) -> list[str]:
    """How many runs of each head count, ascending, end near the relation's floor; none where it has no floor."""
    if not section.get("floor"):
        return []
    losses = sorted(section["loss"][relation].items(), key=lambda item: int(item[0]))
    floor = section["floor"][relation]
    return [f"{sum(loss < floor + NEAR for loss in of.values())} of {len(of)}" for _, of in losses]


def checked(studies: Studies) -> str:
    """Whether the centre, trained again in another way, says the same."""
    both = [verdict_of(studies[name]) for name in (CENTRE, CHECKED) if name in studies]
    if len(both) < 2 or None in both:
        return ""
    first, second = (verdict["trend"] for verdict in both)
    few, many = heads_of(both[1])[0], heads_of(both[1])[-1]
    pairs = [with_ends(difference(verdict, many, few)) for verdict in both]
    return (
        f"With seeds {listed([str(seed) for seed in second['seeds']])} in {studies[CHECKED]['settings']['precision']}, "
        f"{with_ends(second)} nats per token for each doubling of H, against {with_ends(first)} at the centre: "
        f"{agreement(first, second)}. H = {many} against H = {few}: {pairs[1]}, against {pairs[0]}."
    )


def one_head(studies: Studies) -> str:
    """One head, and the most heads, against the head count with the lowest loss; and against eight, where trained."""
    verdicts = verdicts_of(studies)
    if not verdicts:
        return ""
    rows, said = [], {"One head": {}, "The most heads": {}}
    for name, verdict in verdicts.items():
        heads, lowest = heads_of(verdict), verdict["lowest"]
        row = [name, str(lowest)]
        for who, h in zip(said, (heads[0], heads[-1]), strict=True):
            found = "the best" if h == lowest else answer(verdict, h, lowest)
            said[who].setdefault(found, []).append(name)
            row.append("–" if h == lowest else f"{with_ends(difference(verdict, h, lowest))}, {found}")
        eight = 8 in heads and heads[0] == 1
        rows.append([*row, with_ends(difference(verdict, 1, 8)) if eight else "–"])
    told = [
        f"{who}, against the H with the lowest loss: "
        + "; ".join(f"{found} in {listed(names)}" for found, names in kinds.items())
        + "."
        for who, kinds in said.items()
    ]
    head = ["study", "lowest H", "fewest heads − lowest (95 % CI)", "most heads − lowest (95 % CI)", "H = 1 − H = 8"]
    return "\n\n".join([" ".join(told), markdown(head, rows)])


def bottleneck(studies: Studies) -> str:
    """The most heads against the fewest, by the size d_h that a head has there, in studies that differ in D or T."""
    rows, costs = [], {}
    for name, study in sorted(studies.items(), key=lambda item: (item[1]["block_size"], item[1]["n_embd"])):
        verdict = verdict_of(study)
        if verdict is None or not (name == CENTRE or name.startswith(("width", "context", "narrow"))):
            continue
        few, many = heads_of(verdict)[0], heads_of(verdict)[-1]
        pair, width, length = difference(verdict, many, few), study["n_embd"], study["block_size"]
        if length == studies.get(CENTRE, study)["block_size"]:
            costs[f"D = {width}"] = pair
        row = [name, str(width), str(length), str(many), str(width // many), number(width / many / length, 3)]
        rows.append([*row, str(width // few), signed(pair["estimate"]), ends(pair), str(verdict["lowest"])])
    head = ["study", "D", "T", "H", "d_h = D / H", "d_h / T", "d_h at the fewest heads"]
    head += ["loss − loss at the fewest heads", "95 % CI", "lowest H"]
    return "\n\n".join([with_width(costs), markdown(head, rows)]).strip() if rows else ""


def with_width(costs: Mapping[str, Mapping]) -> str:
    """Whether the cost of the most heads falls with D; costs in the order of D."""
    if len(costs) < 2:
        return ""
    falls = [f"{a} to {b}" for a, b in combinations(costs, 2) if apart(costs[a], costs[b])]
    rises = [f"{a} to {b}" for a, b in combinations(costs, 2) if apart(costs[b], costs[a])]
    told = [f"it {way} from {listed(steps)}" for way, steps in (("falls", falls), ("rises", rises)) if steps]
    differ = " and ".join(told) or "all intervals overlap, so that a wider D takes it away is not shown"
    kinds: dict[str, list[str]] = {}
    for name, cost in costs.items():
        clear = "nothing that is sure" if not excludes_zero(cost) else "more" if cost["estimate"] > 0 else "less"
        kinds.setdefault(clear, []).append(name)
    parts = [f"{what} at {listed(kinds[what])}" for what in ("more", "less", "nothing that is sure") if what in kinds]
    return f"At the centre's T the most heads cost, by the intervals, {'; '.join(parts)}; {differ}."
