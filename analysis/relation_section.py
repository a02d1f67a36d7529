"""For which relations do heads matter? Loss, forced choices and sampled text by relation and H, for tales."""

from collections.abc import Mapping, Sequence

import matplotlib

from analysis.figures import STYLE, relation_loss_by_heads
from analysis.head_figures import panels_by_head
from analysis.relations import PAIRS, SAMPLE_TOKENS, SAMPLES
from analysis.runs import RunCurve, by_head, relation_names
from analysis.section import Picture, Section, Table
from analysis.statistics import estimate
from analysis.text import interval, plus_minus

Results = Mapping[int, Mapping[int, dict]]
"""{n_head: {seed: {"choice": {relation: share}, "kept": {relation: count}, "broken": …}}}."""


def relation_section(runs: Sequence[RunCurve], results: Results | None, title: str, suffix: str = "") -> Section | None:
    """runs: one group. results: None where networks were not run. None where the runs measured no relation."""
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
    if results:
        choice = {n: {h: {s: f["choice"][n] for s, f in of.items()} for h, of in results.items()} for n in names}
        data |= {"choice": choice, "sampled": {h: dict(of) for h, of in results.items()}}
        panels = {f"{plain(n)}: right choices": choice[n] for n in names}
        caption = "Share of forced choices that a model gets right, against H; guessing gets one half."
        figure = panels_by_head(panels, f"{title}\nforced choices, {PAIRS} of each relation", columns=4)
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
        f"and {highest:.4f} at H = {high}. Relations were not tested one by one; the intervals are of each mean alone."
    )


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
