"""For which relations do heads matter? Loss, forced choices and sampled text by relation and H, for tales."""

from collections.abc import Mapping, Sequence

import matplotlib

from analysis.measure.relations import PAIRS, SAMPLE_TOKENS, SAMPLES
from analysis.report.figures import STYLE, relation_loss_by_heads
from analysis.report.head_figures import panels_by_head
from analysis.report.section import Picture, Section, Table
from analysis.report.terminal import interval, p_only, plus_minus, signed
from analysis.runs import RunCurve, by_head, relation_names
from analysis.statistics import Comparison, compare_together, estimate, lowest
from analysis.summary import difference_row, final_losses, p_text

Results = Mapping[int, Mapping[int, dict]]
"""{n_head: {seed: {"choice": {relation: share}, "kept": {relation: count}, "broken": …}}}."""


def relation_section(
    runs: Sequence[RunCurve], results: Results | None, title: str, reference: int | None = None, suffix: str = ""
) -> Section | None:
    """runs: one group. results: None where networks were not run. None where the runs measured no relation.

    reference: a head count named beforehand, or None for that of the lowest mean final loss.
    """
    names = relation_names(runs)
    if not names:
        return None
    losses = {n: {h: {r.seed: r.relations[n][-1] for r in of} for h, of in by_head(runs).items()} for n in names}
    with matplotlib.rc_context(STYLE):
        figure = relation_loss_by_heads(runs, title)
    caption = "Final validation loss on the words that each kind of relation decides, against H."
    pictures = [Picture(f"relation-losses{suffix}", caption, figure)]
    caption = (
        "Final validation loss by relation (nats per token): mean ± standard deviation over seeds, 95 % t interval."
    )
    tables = [relation_table(f"relation-losses-table{suffix}", caption, losses)]
    text = [loss_text(losses)]
    data = {"loss": losses}
    heads = by_head(runs)
    if len(heads) > 1 and reference in {None, *heads}:
        base = lowest(final_losses(heads)) if reference is None else reference
        compared = compare_together(losses, base, reference is None)
        text.append(difference_text(compared))
        if any(d.estimate for c in compared.values() for d in c.differences):
            pictures.append(difference_picture(losses, base, title, suffix))
        tables.append(difference_table(compared, suffix))
        rows = {n: [difference_row(c, d) for d in c.differences] for n, c in compared.items()}
        data |= {"reference": base, "comparisons": compared[names[0]].family, "differences": rows}
    if results:
        choice = {n: {h: {s: f["choice"][n] for s, f in of.items()} for h, of in results.items()} for n in names}
        data |= {"choice": choice, "sampled": {h: dict(of) for h, of in results.items()}}
        panels = {f"{plain(n)}: right choices": choice[n] for n in names}
        caption = "Share of forced choices that a model gets right, against H; guessing gets one half."
        figure = panels_by_head(panels, f"{title}\nforced choices, {PAIRS} of each relation", columns=2)
        for axes in figure.axes:
            axes.axhline(0.5, color="0.3", linewidth=1, linestyle=(0, (2, 2)))
        pictures.append(Picture(f"choices{suffix}", caption, figure))
        caption = (
            "Share of forced choices got right, by relation: mean ± standard deviation over seeds, 95 % t interval."
        )
        tables.append(relation_table(f"choices-table{suffix}", caption, choice))
        tables.append(sampled_table(results, names, suffix))
        text.append(
            f"Forced choice: of two continuations of a story, one of which keeps the relation, which does the model "
            f"find likelier? {PAIRS} pairs of each relation from stories in no corpus, the same for every run. Sampled "
            f"text: {SAMPLES} texts of at most {SAMPLE_TOKENS} tokens a run at temperature 1, the same random numbers "
            "for every run; a checker counts the places where a relation is kept or broken. Seeds are few and such "
            "counts small: intervals over seeds say how far to trust them."
        )
    return Section(f"relations{suffix}", "For which relations?", text, pictures, tables, data)


def loss_text(losses: Mapping[str, Mapping[int, Mapping[int, float]]]) -> str:
    """Where the means differ most between head counts."""
    ranges = {}
    for name, of_heads in losses.items():
        means = {h: estimate(list(of.values())).mean for h, of in of_heads.items()}
        low, high = min(means, key=means.get), max(means, key=means.get)
        ranges[name] = (means[high] - means[low], low, means[low], high, means[high])
    name = max(ranges, key=lambda n: ranges[n][0])
    size, low, lowest, high, highest = ranges[name]
    if not size:
        return "The loss on every relation is the same for every H."
    return (
        f"Mean losses differ most between head counts on {plain(name)} words: {lowest:.4f} nats per token at H = {low} "
        f"and {highest:.4f} at H = {high}."
    )


def difference_text(compared: Mapping[str, Comparison]) -> str:
    """Which relations tell which head counts apart from the reference; no more than the tests allow."""
    first = next(iter(compared.values()))
    if not first.family:
        return "With fewer than two common seeds no relation can be tested."
    told = []
    for name, comparison in compared.items():
        for side, sign in (("worse", 1), ("better", -1)):
            sure = [d for d in comparison.differences if d.different and d.estimate.mean * sign > 0]
            if sure:
                head, *others = [f"H = {d.n_head} by {abs(d.estimate.mean):.4f} ({p_text(d.p_holm)})" for d in sure]
                words = [head.replace(" by", f" is {side} by", 1), *others]
                told.append(f"on {plain(name)} words {', '.join(words)}")
    pairs = "every pair of head counts of every relation" if first.chosen_by_data else "every relation and head count"
    found = "; ".join(told) if told else "no relation tells a head count apart from it"
    return (
        f"Compared with H = {first.reference} within a seed (paired t-test, corrected by Holm's method for all "
        f"{first.family} tests: {pairs}): {found}."
    )


def difference_picture(
    losses: Mapping[str, Mapping[int, Mapping[int, float]]], base: int, title: str, suffix: str
) -> Picture:
    """Differences to the reference within each seed, a panel a relation."""
    panels = {}
    for name, of_heads in losses.items():
        at_base = of_heads[base]
        within = {h: {s: of[s] - at_base[s] for s in of if s in at_base} for h, of in of_heads.items() if h != base}
        panels[plain(name)] = {h: of for h, of in within.items() if of}
    heading = f"{title}\nloss − loss at H = {base} (nats per token), by relation; scales differ"
    figure = panels_by_head(panels, heading, columns=2)
    for axes in figure.axes:
        axes.axhline(0, color="0.3", linewidth=1)
    caption = (
        "Differences in final validation loss to the reference within each seed, by relation; above 0 is worse. Each "
        "interval is of its pair alone; what the tests say of all together is in the text and the table."
    )
    return Picture(f"relation-differences{suffix}", caption, figure)


def difference_table(compared: Mapping[str, Comparison], suffix: str) -> Table:
    """A row for each relation and head count but the reference."""
    first = next(iter(compared.values()))
    rows = []
    for name, comparison in compared.items():
        for d in comparison.differences:
            e, tested = d.estimate, d.p_holm is not None
            row = [plain(name), str(d.n_head), str(len(d.seeds)), signed(e and e.mean)]
            row += [interval(e and e.mean, e and e.half_width(), signed), p_only(e and e.p_value), p_only(d.p_holm)]
            rows.append([*row, ("yes" if d.different else "no") if tested else "–"])
    head = ["relation", "H", "seeds", f"loss − loss at H = {first.reference}", "95 % CI of this pair", "p"]
    head += [f"p (Holm, {first.family} tests)" if first.family else "p (Holm)", "told apart"]
    caption = "Differences in final validation loss by relation (nats per token), paired by seed; positive is worse."
    return Table(f"relation-differences-table{suffix}", caption, head, rows)


def relation_table(id: str, caption: str, values: Mapping[str, Mapping[int, Mapping[int, float]]]) -> Table:
    """A row an H, two columns a relation; values: {relation: {n_head: {seed: value}}}."""
    head, rows = ["H", "seeds"], []
    for name in values:
        head += [plain(name), "95 % CI"]
    for h, of in next(iter(values.values())).items():
        row = [str(h), str(len(of))]
        for of_heads in values.values():
            e = estimate(list(of_heads[h].values()))
            row += [plus_minus(e.mean, e.standard_deviation), interval(e.mean, e.half_width())]
        rows.append(row)
    return Table(id, caption, head, rows)


def sampled_table(results: Results, names: Sequence[str], suffix: str = "") -> Table:
    """Kept and broken over all seeds of an H, and the share kept with its interval over seeds."""
    head, rows = ["H"], []
    for name in names:
        head += [f"{plain(name)}, kept / broken", "share kept, 95 % CI over seeds"]
    for h, of in results.items():
        row = [str(h)]
        for name in names:
            counts = [(found["kept"][name], found["broken"][name]) for found in of.values()]
            kept, broken = map(sum, zip(*counts, strict=True))
            shares = [k / (k + b) for k, b in counts if k + b]
            e = estimate(shares) if shares else None
            row += [f"{kept} / {broken}", share(e.mean, e.half_width()) if e else "–"]
        rows.append(row)
    return Table(f"sampled{suffix}", "Relations kept and broken in sampled text, all seeds of an H.", head, rows)


def share(mean: float, half_width: float | None) -> str:
    """A share and its interval within 0 and 1."""
    if half_width is None:
        return f"{mean:.2f}"
    return f"{mean:.2f} ({max(0.0, mean - half_width):.2f} … {min(1.0, mean + half_width):.2f})"


def plain(relation: str) -> str:
    return relation.replace("_", "-")
