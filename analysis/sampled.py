"""What H did to the text: the measures of `measure.sampled` by head count, with intervals and tests, as plain values
and as tables. sample.py prints it and the report shows the same."""

import textwrap
from collections.abc import Iterator, Sequence
from statistics import fmean

from scipy.stats import binomtest

from analysis.measure.sampled import REPEATED
from analysis.statistics import compare_together, estimate
from data.config import RELATIONS
from terminal import table

Values = dict[int, dict[int, float]]
"""{n_head: {seed: value}}"""


def outcomes(measured: Sequence[dict]) -> dict[str, Values]:
    """Every number that H may change, by name: shares of relations kept, distinct-n, repetition-n."""
    found: dict[str, Values] = {}
    for run in measured:
        values = {
            name: counts["kept"] / total
            for name in RELATIONS
            if (counts := run.get("relations", {}).get(name)) and (total := counts["kept"] + counts["broken"])
        }
        values |= {f"distinct-{n}": share for n, share in run["distinct"].items() if share is not None}
        values |= {f"repetition-{REPEATED}": run["repetition"]} if run["repetition"] is not None else {}
        for name, value in values.items():
            found.setdefault(name, {}).setdefault(run["n_head"], {})[run.get("seed") or 0] = value
    return {name: found[name] for name in sorted(found, key=[*RELATIONS, *found].index)}


def summarize_texts(measured: Sequence[dict]) -> dict:
    """By head count: each outcome's mean and 95 % interval, the log-likelihood of each H's texts under each H, and
    which head counts differ.

    Over several seeds an interval is Student's. Of one seed, or where all seeds agree, it is Wilson's of the relations
    counted, which says how sure the share is for these runs and nothing of H; of one seed nothing is tested. Tests are
    `statistics.compare_together`: all outcomes and pairs are one family with a 5 % chance of any false claim.
    """
    values = outcomes(measured)
    heads = sorted({run["n_head"] for run in measured})
    by_head = {
        name: {h: _interval(list(of[h].values()), name, [r for r in measured if r["n_head"] == h]) for h in sorted(of)}
        for name, of in values.items()
    }
    several = {name: of for name, of in values.items() if len(of) > 1 and max(map(len, of.values())) > 1}
    verdicts = compare_together(several) if several else {}
    differ = {}
    for name, verdict in verdicts.items():
        for pair in filter(lambda pair: pair.sign, verdict.pairs):
            ends = [pair.reference, pair.n_head]  # the lower one, the higher one
            differ.setdefault(name, []).append(ends if pair.sign > 0 else ends[::-1])
    read = {writer: _mean([r["log_likelihood"] for r in measured if r["n_head"] == writer]) for writer in heads}
    seeds = len({run.get("seed") for run in measured})
    return {
        "texts_of_a_run": measured[0]["texts"],
        "seeds": seeds,
        "by_head": by_head,
        "log_likelihood": read,
        "tested": sorted(verdicts),
        "differ": differ,  # [lower, higher] head counts
    }


def _mean(tables: Sequence[dict[str, float]]) -> dict[int, float]:
    """Of {n_head: value}, one a seed: the mean of each head count's values."""
    heads = sorted({int(h) for of in tables for h in of})
    return {h: fmean(of[str(h)] for of in tables if str(h) in of) for h in heads}


def _interval(values: list[float], name: str, runs: list[dict]) -> dict:
    """mean, low, high of values, one a seed; low and high are None where nothing says how sure the mean is."""
    of = estimate(values)
    half, low, high = of.half_width(), None, None
    counts = [run["relations"][name] for run in runs if name in run.get("relations", {})]
    if half:
        low, high = max(0.0, of.mean - half), min(1.0, of.mean + half)
    if not half and counts:
        kept, broken = (sum(count[kind] for count in counts) for kind in ("kept", "broken"))
        found = binomtest(kept, kept + broken).proportion_ci(method="wilson")
        low, high = float(found.low), float(found.high)
    return {"mean": of.mean, "low": low, "high": high}


def tables(summary: dict) -> Iterator[tuple[str, str, list[str], list[list[str]]]]:
    """The summary as (id, title, head, rows): shares of relations kept, n-grams, and who finds whose texts likely."""
    by_head, seeds = summary["by_head"], summary["seeds"]
    others = [name for name in by_head if name.startswith(("distinct-", "repetition-"))]
    over = f"over {seeds} seeds" if seeds > 1 else "for these texts of one run each"
    for id, title, names in (
        ("texts-relations", "share of relations kept", [name for name in by_head if name not in others]),
        ("texts-words", "different n-grams of words, and those that a text repeats", others),
    ):
        if names:
            heads = sorted({h for name in names for h in by_head[name]})
            rows = [[str(h), *(_cell(by_head[name].get(h)) for name in names)] for h in heads]
            yield id, f"{title} (95 % interval {over})", ["H", *(n.replace("_", "-") for n in names)], rows
    read = summary["log_likelihood"]
    if len(read) > 1:
        head = ["texts of", *(f"H={reader}" for reader in read)]
        rows = [[f"H={w}", *(f"{of[r]:.3f}" if r in of else "-" for r in read)] for w, of in read.items()]
        yield (
            "texts-likelihood",
            "log-likelihood of each H's texts under the networks of each H, nats a token",
            head,
            rows,
        )


def texts_report(summary: dict, width: int) -> str:
    """The summary for a terminal."""
    parts = [f"{textwrap.fill(title, width)}\n{table(head, rows, width)}" for _, title, head, rows in tables(summary)]
    return "\n\n".join([*parts, textwrap.fill(told(summary), width)])


def told(summary: dict) -> str:
    """Which head counts differ, in words."""
    if not summary["tested"]:
        return "One seed says nothing of H: train more of them, and sample again, to see which head counts differ."
    if not summary["differ"]:
        return f"No head counts differ for sure in any of these with {summary['seeds']} seeds."
    parts = []
    for name, pairs in summary["differ"].items():
        below: dict[int, list[int]] = {}
        for low, high in pairs:
            below.setdefault(low, []).append(high)
        said = "; ".join(f"H = {h} below H = {', '.join(map(str, sorted(of)))}" for h, of in below.items())
        parts.append(f"{name.replace('_', '-')}: {said}")
    return "These differ for sure (5 % chance of any false claim): " + ". ".join(parts) + "."


def _cell(value: dict | None) -> str:
    if value is None:
        return "-"
    if value["low"] is None:
        return f"{value['mean']:.2f}"
    return f"{value['mean']:.2f} ({value['low']:.2f}–{value['high']:.2f})"
