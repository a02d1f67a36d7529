"""What do they write? What sampled text shows of H, by the measures and tests that sample.py prints."""

from collections.abc import Mapping

from analysis.measure.measurements import Network
from analysis.report.figures import by_head_panels
from analysis.report.section import Picture, Section, Table
from analysis.report.words import percent
from analysis.sampled import outcomes, summarize_texts, tables, told
from data.config import RELATIONS
from experiment.sampling import Sampling
from terminal import counted

TITLE = "What does sampled text show?"


def texts_section(values: Mapping[Network, dict], sampling: Sampling, title: str, place: str = "") -> Section:
    """values: `measure_texts` of each network. place: which of several settings theirs is, "at learning rate 1e-3".

    Where there are several, sample.py draws something else: from each H at its own best.
    """
    measured = [{"run": n.name, "n_head": n.n_head, "seed": n.seed, **value} for n, value in values.items()]
    summary, by_head = summarize_texts(measured), outcomes(measured)
    text = (
        f"{counted(sampling.num_samples, 'text')} of each run, at most {sampling.max_new_tokens} tokens at temperature "
        f"{sampling.temperature:g}, from the same random numbers"
        f"{f', all {place}' if place else '; sample.py draws the same'}. Runs of one seed read each other's."
    )
    shown = {name.replace("_", "-"): of for name, of in by_head.items()}
    caption = (
        "Shares of relations kept (tales), different n-grams of words, and 4-grams that a text repeats, against H."
    )
    picture = Picture("texts", title, caption, lambda: by_head_panels(shown))
    return Section(
        "texts",
        TITLE,
        [text, told(summary)],
        [picture] if shown else [],
        [Table(id, said, head, rows, head) for id, said, head, rows in tables(summary)],
        {"runs": measured, "summary": summary},
        answer(measured),
    )


def answer(measured: list[dict]) -> str:
    """What H did to the text, in a sentence: the share of all relations that it keeps."""
    counts: dict[int, list[int]] = {}
    for run in measured:
        of = [run.get("relations", {}).get(name, {"kept": 0, "broken": 0}) for name in RELATIONS]
        held = counts.setdefault(run["n_head"], [0, 0])
        held[0] += sum(count["kept"] for count in of)
        held[1] += sum(count["kept"] + count["broken"] for count in of)
    low, high = min(counts), max(counts)
    if low == high or not all(total for _, total in counts.values()):
        return ""
    shares = [percent(counts[h][0] / counts[h][1]) for h in (low, high)]
    return f"Sampled text keeps {shares[0]} of its relations at H = {low} and {shares[1]} at H = {high}."
