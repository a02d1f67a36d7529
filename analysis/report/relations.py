"""For which relations do heads matter? Loss and forced choices by relation and H, for tales."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from analysis.measure.relations import PAIRS
from analysis.report.figures import by_head_panels
from analysis.report.section import Picture, Section, Table
from analysis.report.words import interval, listed, number, p_only, p_text, plain, plus_minus, signed
from analysis.runs import RunCurve, by_head, relation_names
from analysis.statistics import MARGIN, Pair, Verdict, compare_together, estimate, lowest
from analysis.summary import final_losses, verdict_row

TITLE = "For which relations?"
Losses = Mapping[str, Mapping[int, Mapping[int, float]]]
"""{relation: {n_head: {seed: value}}}."""
Results = Mapping[int, Mapping[int, dict]]
"""{n_head: {seed: {"choice": {relation: share}}}}."""


def relation_section(
    runs: Sequence[RunCurve],
    results: Results | None,
    title: str,
    floor: Mapping[str, float] | None = None,
    reference: int | None = None,
    margin: float = MARGIN,
) -> Section | None:
    """runs: one group. results: None where networks were not run. None where the runs measured no relation.

    floor: {relation: nats} that no network can be below. reference: a head count named beforehand; None for all pairs,
    shown from that of the lowest mean final loss.
    """
    names = relation_names(runs)
    if not names:
        return None
    heads = by_head(runs)
    losses = {n: {h: {r.seed: r.relations[n][-1] for r in of} for h, of in heads.items()} for n in names}
    shown = {plain(n): of for n, of in losses.items()}
    caption = "Final validation loss (nats per token) on the words that each kind of relation decides, against H."
    lines = {plain(n): nats for n, nats in (floor or {}).items() if n in names}
    under = " Dashed: the entropy that is left to who knows the grammar and sees as much." * bool(lines)
    drawn = lambda: by_head_panels(shown, 2, lines, "floor")  # noqa: E731
    pictures = [Picture("relation-losses", title, f"{caption} Scales differ.{under}", drawn)]
    tables = [relation_table("relation-losses", caption, losses, brief=True)]
    text, data = [loss_text(losses)], {"loss": losses, "floor": dict(floor or {})}
    if len(heads) > 1 and reference in {None, *heads}:
        base = lowest(final_losses(heads)) if reference is None else reference
        compared = compare_together(losses, margin, reference)
        text += [told for told in (trend_text(compared), difference_text(compared, base)) if told]
        pictures += difference_picture(losses, base, title)
        tables.append(difference_table(compared, base))
        data |= {"verdicts": {name: verdict_row(verdict) for name, verdict in compared.items()}}
    if results:
        choice = {n: {h: {s: f["choice"][n] for s, f in of.items()} for h, of in results.items()} for n in names}
        compared = compare_together(choice) if len(heads) > 1 else {}
        data |= {"choice": choice, "choice_verdicts": {name: verdict_row(v) for name, v in compared.items()}}
        caption = "Share of forced choices that a model gets right, against H; guessing gets one half."
        rights = {f"{plain(n)}: right choices": of for n, of in choice.items()}
        levels = dict.fromkeys(rights, 0.5)
        picture = Picture("choices", title, caption, lambda: by_head_panels(rights, 2, levels, "guessing"))
        pictures.append(picture)
        tables.append(relation_table("choices", caption, choice))
        text.append(
            "Forced choice: of two continuations of a story, one of which keeps the relation, which does the model "
            f"find likelier? {PAIRS} pairs of each relation from stories in no corpus, the same for every run. "
            + choice_text(compared)
        )
    return Section("relations", TITLE, text, pictures, tables, data)


def choice_text(compared: Mapping[str, Verdict]) -> str:
    """Which head counts choose right more often, by the tests of the losses (all relations are one family)."""
    told = []
    for name, verdict in compared.items():
        if sure := [pair for pair in verdict.pairs if pair.sign]:
            best = max(sure, key=lambda pair: abs(pair.estimate))
            high, low = (best.n_head, best.reference)[:: best.sign]
            more = f" (and {len(sure) - 1} more pairs)" * (len(sure) > 1)
            told.append(
                f"on {plain(name)} relations H = {high} is right in {100 * abs(best.estimate):.0f} of 100 more than "
                f"H = {low} ({p_text(best.p)}){more}"
            )
    if told:
        return f"Sure to differ: {listed(told)}."
    tested = any(verdict.tested for verdict in compared.values())
    return "On no relation do head counts differ surely." if tested else ""


def loss_text(losses: Losses) -> str:
    """Where the means differ most between head counts."""
    means = {n: {h: estimate(list(of.values())).mean for h, of in heads.items()} for n, heads in losses.items()}
    name = max(means, key=lambda n: max(means[n].values()) - min(means[n].values()))
    low, high = (choose(means[name], key=means[name].get) for choose in (min, max))
    if means[name][low] == means[name][high]:
        return "The loss on every relation is the same for every H."
    return (
        f"Mean losses differ most between head counts on {plain(name)} words: {number(means[name][low])} nats per "
        f"token at H = {low} and {number(means[name][high])} at H = {high}."
    )


def trend_text(compared: Mapping[str, Verdict]) -> str:
    """On which relations the loss changes with H, and which way."""
    told = []
    for name, verdict in compared.items():
        if verdict.trend and verdict.trend.sign:
            way = "rises" if verdict.trend.sign > 0 else "falls"
            told.append(
                f"on {plain(name)} words it {way} by {abs(verdict.trend.estimate):.4f} ({p_text(verdict.trend.p)})"
            )
    if told:
        return f"For each doubling of H the loss changes: {listed(told)}."
    tested = any(verdict.trend and verdict.trend.tested for verdict in compared.values())
    return "On no relation is a trend of the loss in H sure." if tested else ""


def difference_text(compared: Mapping[str, Verdict], base: int) -> str:
    """On which relations which head counts differ from one; no more than the tests allow."""
    questions = sum(verdict.tested for verdict in compared.values())
    if not questions:
        return "With fewer than two common seeds no relation can be tested."
    told = []
    for name, verdict in compared.items():
        for side, sign in (("worse", 1), ("better", -1)):
            sure = [pair for pair in verdict.against(base) if pair.sign == sign]
            if sure:
                head, *others = [f"H = {d.n_head} by {abs(d.estimate):.4f} ({p_text(d.p)})" for d in sure]
                words = [head.replace(" by", f" is {side} by", 1), *others]
                told.append(f"on {plain(name)} words {', '.join(words)}")
    found = "; ".join(told) if told else "on no relation does a head count differ surely from it"
    return (
        f"Compared with H = {base} within a seed (p corrected for all {questions} questions: trend, curvature and "
        f"pairs of every relation): {found}."
    )


def difference_picture(losses: Losses, base: int, title: str) -> list[Picture]:
    """Differences to the reference within each seed, a panel a relation; none where no seed has both."""
    shown = {}
    for name, of_heads in losses.items():
        at_base = of_heads[base]
        within = {h: {s: of[s] - at_base[s] for s in of if s in at_base} for h, of in of_heads.items() if h != base}
        if any(within.values()):
            shown[plain(name)] = {h: of for h, of in within.items() if of}
    caption = (
        f"Loss − loss at H = {base} (nats per token) within each seed, by relation; above 0 is worse. Each interval is "
        "of its pair alone; what the tests say of all together is in the text and the table. Scales differ."
    )

    def draw() -> Figure:
        return by_head_panels(shown, 2, dict.fromkeys(shown, 0.0), f"as H = {base}")

    return [Picture("relation-differences", title, caption, draw)] if shown else []


def difference_table(compared: Mapping[str, Verdict], base: int) -> Table:
    """A row for each relation and head count but the one that they are compared with."""
    rows = []
    for name, verdict in compared.items():
        for d in verdict.against(base):
            row = [plain(name), str(d.n_head), str(len(d.seeds)), signed(d.estimate), ends(d)]
            rows.append([*row, p_only(d.p_alone), p_only(d.p), answer(d)])
    head = ["relation", "H", "seeds", f"loss − loss at H = {base}", "95 % CI", "p of this pair alone", "p", "verdict"]
    caption = (
        "Differences in final validation loss by relation (nats per token), paired by seed; positive is worse. p and "
        "intervals are corrected for all relations together."
    )
    return Table("relation-differences", caption, head, rows)


def ends(pair: Pair) -> str:
    return "–" if pair.low is None else f"{signed(pair.low)} … {signed(pair.high)}"


def answer(pair: Pair) -> str:
    return (
        {"same": f"same to within {pair.margin:g}", "open": "not settled"}.get(pair.answer, pair.answer)
        if pair.tested
        else "–"
    )


def relation_table(id: str, caption: str, values: Losses, brief: bool = False) -> Table:
    """A row an H, two columns a relation: mean ± standard deviation over seeds, 95 % t interval."""
    head, rows = ["H", "seeds"], []
    for name in values:
        head += [plain(name), f"95 % CI of {plain(name)}"]
    for h, of in next(iter(values.values())).items():
        row = [str(h), str(len(of))]
        for of_heads in values.values():
            e = estimate(list(of_heads[h].values()))
            row += [plus_minus(e.mean, e.standard_deviation), interval(e.mean, e.half_width())]
        rows.append(row)
    return Table(id, caption, head, rows, ["H", *map(plain, values)] if brief else None)
