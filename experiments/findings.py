"""What the results page says of losses, made from the studies that compare.py put into report.json: no number by hand.

Each function takes studies as report.json holds them, by name, and returns Markdown; what they lack is left out.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from analysis.report.loss import ends
from analysis.report.overview import verdict_of
from analysis.report.words import listed, number, signed
from analysis.sentences import rate_text
from analysis.statistics import LEVEL

Studies = Mapping[str, Mapping]
NEAR = 0.1
"""Nats per token from a floor, or from what counting reaches, within which a run counts as having come no further."""
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


def answers(studies: Studies) -> dict[str, dict]:
    """The studies that are settings of the map, with what each says."""
    return {name: found for name, study in studies.items() if name not in AGAIN and (found := verdict_of(study))}


def verdicts_of(studies: Studies) -> dict[str, dict]:
    """Those of them that were tested, which takes two seeds."""
    return {name: of for name, of in answers(studies).items() if of["trend"]["low"] is not None}


def apart(one: Mapping, other: Mapping) -> bool:
    """Whether the whole of one's interval lies above the other's."""
    return None not in (one["low"], other["high"]) and one["low"] > other["high"]


def best_rates(study: Mapping) -> dict[int, float]:
    """The learning rate that is best for each H; none where one alone was trained."""
    return {int(h): rate for of in study.get("tuned", [])[:1] for h, rate in of["best_learning_rate"].items()}


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


def unit(studies: Studies, name: str) -> bool:
    """Whether a study's losses are of the centre's kind of token, so that their sizes compare."""
    keys = ("data.source", "data.tokenizer")
    return all(studies[name]["settings"][key] == studies[CENTRE]["settings"][key] for key in keys)


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
        f"On average over the doublings of H, the loss {'; '.join(parts)} (nats per token; sure where the "
        f"95 % interval leaves 0 out).{bends(verdicts)}{beside(studies, verdicts)}{by_rate(studies)}"
    )


def bends(verdicts: Mapping[str, Mapping]) -> str:
    """Where the loss is no line in log2 H: how often it surely bends upwards, and where the end that the trend points
    to is surely not the best."""
    curves = [curve for verdict in verdicts.values() if (curve := verdict["curvature"])]
    upwards = sum(curve["sure"] and curve["estimate"] > 0 for curve in curves)
    more = "more heads gain less and less there, or cost more and more"
    told = f" In {upwards} of {len(curves)} settings it surely bends upwards in log2 H: {more}." * bool(upwards)
    for which, end, who in (("falls", -1, "most"), ("rises", 0, "fewest")):
        of = [name for name, v in verdicts.items() if kind(v) == which and standing(v, heads_of(v)[end]) == "worse"]
        told += f" Though it {which} in {listed(of)}, the {who} heads are surely not the best there." * bool(of)
    return told


def by_rate(studies: Studies) -> str:
    """Where the trend is surely of one sign at one learning rate and of the other at another."""
    turns = {name: study["tuned"][0]["sign_turns_between"] for name, study in studies.items() if study["tuned"]}
    told = [
        f"{name} (between {rate_text(between[0])} and {rate_text(between[1])})"
        for name, between in turns.items()
        if between and name not in AGAIN
    ]
    return f" At one learning rate for every H its sign surely turns with it in {listed(told)}." * bool(told)


def corrected(studies: Studies) -> str:
    """The trends that stay sure when all settings are one family: S. Holm, Scand. J. Statistics 6 (1979)."""
    trends = {name: verdict["trend"] for name, verdict in verdicts_of(studies).items()}
    stay = []
    for place, (name, trend) in enumerate(sorted(trends.items(), key=lambda item: item[1]["p"])):
        if (len(trends) - place) * trend["p"] > LEVEL:
            break
        stay.append(name)
    kept = listed([name for name in trends if name in stay]) or "none"
    return f"Were the {len(trends)} trends corrected as one family (Holm), {kept} would stay sure." * bool(trends)


def kind(verdict: Mapping) -> str:
    """One of KINDS: of a sure trend, of pairs that are all the same to within the margin, or of neither."""
    trend = verdict["trend"]
    if trend["sure"]:
        return "rises" if trend["estimate"] > 0 else "falls"
    return "same" if all(pair["verdict"] == "same" for pair in verdict["pairs"]) else "unsure"


def beside(studies: Studies, verdicts: Mapping[str, Mapping]) -> str:
    """The settings whose trend is sure to be another than the centre's, of those with its unit: its tokens."""
    if CENTRE not in verdicts:
        return ""
    centre = verdicts[CENTRE]["trend"]
    others = {name: of["trend"] for name, of in verdicts.items() if name != CENTRE and unit(studies, name)}
    if not others:
        return ""
    above = [name for name, trend in others.items() if apart(trend, centre)]
    below = [name for name, trend in others.items() if apart(centre, trend)]
    sides = (("above", above), ("below", below))
    told = [f"{way} it in {listed(names)}" for way, names in sides if names]
    if not told:
        return " On the same text all intervals overlap the centre's: that the setting matters is not shown."
    own = f"beside the centre's interval ({ends(centre)})"
    return f" On the same text, {own}, the whole of another lies {' and '.join(told)}."


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
    changed = "In separate trainings with nothing but their length changed (and that of the warm-up)"
    return f"{changed}, each at its own best rates, a doubling of H does this: {'; '.join(told)}.{turn}"


def on_the_way(study: Mapping) -> str:
    """The mean loss over seeds at each measurement, each H at the learning rate that is best for it in the end."""
    if not (best := best_rates(study)):
        return ""
    runs = [run for run in study["runs"] if run["learning_rate"] == best.get(run["n_head"]) and not run["left_out"]]
    losses: dict[int, dict[int, list[float]]] = {}
    for run in runs:
        for iteration, loss in zip(run["iters"], run["val_loss"], strict=True):
            losses.setdefault(iteration, {}).setdefault(run["n_head"], []).append(loss)
    rows = [
        [f"{iteration:,}", *(number(sum(of[h]) / len(of[h])) if h in of else "–" for h in sorted(best))]
        for iteration, of in sorted(losses.items())
        if iteration  # at 0 every H has the same weights
    ]
    return markdown(["iteration", *(f"H = {h} ({rate_text(best[h])})" for h in sorted(best))], rows)
