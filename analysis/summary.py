"""A study as one plain dictionary: what report.json holds and what the terminal shows are both this.

Losses are in nats per token, `interval` is half the width of a 95 % t interval, and None stands for what cannot be
said (no interval from one seed).
"""

import math
from collections.abc import Sequence

import numpy as np

from analysis.runs import RunCurve, Study, by_head, relation_names
from analysis.statistics import (
    MOST_SEEDS,
    Comparison,
    Difference,
    Estimate,
    compare,
    estimate,
    seeds_needed,
    smallest_detectable,
)
from errors import InputError

UNIT = "nats per token"


def summarize(study: Study, reference: int | None = None) -> dict:
    """The whole study. reference: a head count named beforehand, or None for the lowest mean final loss.

    Raises InputError where no run has the reference's head count.
    """
    present = sorted({run.n_head for run in study.runs})
    if reference is not None and reference not in present:
        there = ", ".join(map(str, present)) or "none"
        raise InputError(f"--reference {reference}: {study.name} has no run with that n_head; it has {there}")
    groups = study.groups()
    notes = list(study.notes)
    if len(groups) > 1:
        notes.append(
            f"{len(groups)} settings of learning rate and weight decay were swept: head counts are compared within "
            "each one, paired by seed, and p is corrected within each one"
        )
    return {
        "name": study.name,
        "folders": study.folders,
        "n_embd": study.n_embd,
        "n_layer": study.n_layer,
        "block_size": study.block_size,
        "parameters": study.parameters,
        "settings": study.settings,
        "notes": notes,
        "groups": [
            {"learning_rate": rate, "weight_decay": decay} | group(study, runs, reference)
            for (rate, decay), runs in groups.items()
        ],
        "runs": [run_row(run) for run in study.runs],
    }


def group(study: Study, runs: Sequence[RunCurve], reference: int | None) -> dict:
    """Rows by head count, comparisons with the reference, and what they say in words."""
    heads = by_head(runs)
    comparison = best = None
    if reference is None or reference in heads:
        comparison = compare(final_losses(heads), reference)
        best = compare({h: {run.seed: run.best[0] for run in of} for h, of in heads.items()}, comparison.reference)
    return {
        "heads": [head_row(study, h, of, relation_names(runs)) for h, of in heads.items()],
        "reference": comparison and comparison.reference,
        "chosen_by_data": reference is None,
        "comparisons": comparison and comparison.family,
        "differences": [difference_row(comparison, d) for d in comparison.differences] if comparison else [],
        "best_differences": [mean_row(d.estimate) | {"n_head": d.n_head} for d in best.differences if d.estimate]
        if best
        else [],
        "detectable": comparison and detectable_row(comparison),
        "sentence": f"At D = {study.n_embd}, {sentence(heads, comparison, reference)}{lost_heads(study, runs)}",
    }


def lost_heads(study: Study, runs: Sequence[RunCurve]) -> str:
    """A sentence on head counts of this setting none of whose runs takes part; empty where there is none."""
    setting = (runs[0].learning_rate, runs[0].weight_decay)
    swept = {run.n_head for run in study.runs if (run.learning_rate, run.weight_decay) == setting}
    lost = sorted(swept - {run.n_head for run in runs})
    if not lost:
        return ""
    of = [run for run in study.runs if run.n_head in lost and (run.learning_rate, run.weight_decay) == setting]
    diverged = all(run.diverged is not None for run in of)
    why = "every run diverged" if diverged else f"none of {'its' if len(lost) == 1 else 'their'} runs can be used"
    return f" Nothing is said of {listed([f'H = {h}' for h in lost])}: {why}."


def final_losses(heads: dict[int, list[RunCurve]]) -> dict[int, dict[int, float]]:
    """{n_head: {seed: final loss}}, as analysis.statistics.compare takes it."""
    return {h: {run.seed: run.final_loss for run in of} for h, of in heads.items()}


def head_row(study: Study, n_head: int, runs: Sequence[RunCurve], relations: Sequence[str]) -> dict:
    """What one head count reached, over its seeds: nats per token, and run by run the perplexity and bits per byte."""
    row = {"n_head": n_head, "head_size": study.n_embd // n_head, "seeds": [run.seed for run in runs]}
    settings = (n_head, runs[0].learning_rate, runs[0].weight_decay)
    alike = [run for run in study.runs if (run.n_head, run.learning_rate, run.weight_decay) == settings]
    row["left_out"] = sum(run.left_out() is not None for run in alike)
    per_byte = study.tokens_per_byte
    for kind, losses in (("final", [run.final_loss for run in runs]), ("best", [run.best[0] for run in runs])):
        row[f"{kind}_loss"] = mean_row(estimate(losses))
        row[f"{kind}_perplexity"] = mean_row(estimate(np.exp(losses)))
        bits = np.array(losses) / math.log(2) * per_byte if per_byte else None
        row[f"{kind}_bits_per_byte"] = None if bits is None else mean_row(estimate(bits))
    iters = [run.best[1] for run in runs]
    row["best_iters"] = [min(iters), max(iters)]
    row["relations"] = {name: mean_row(estimate([run.relations[name][-1] for run in runs])) for name in relations}
    return row


def mean_row(e: Estimate) -> dict:
    return {"mean": e.mean, "standard_deviation": e.standard_deviation, "interval": e.half_width()}


def difference_row(comparison: Comparison, d: Difference) -> dict:
    """A head count against the reference; positive is worse. `interval` is simultaneous where the data chose."""
    e = d.estimate
    return {
        "n_head": d.n_head,
        "seeds": list(d.seeds),
        "mean": e and e.mean,
        "standard_deviation": e and e.standard_deviation,
        "interval": comparison.half_width(d),
        "interval_of_this_pair_alone": e and e.half_width(),
        "p": e and e.p_value,
        "p_holm": d.p_holm,
        "different": d.different,
        "seeds_needed": None if d.different or d.p_holm is None else needed(comparison, d),
    }


def needed(comparison: Comparison, d: Difference) -> int | None:
    """Seeds that would find a difference of the size measured with a chance of 80 %; None for over 1,000.

    The scatter is taken to be the pooled one: that of a single pair, from two or three seeds, says next to nothing.
    """
    count = seeds_needed(d.estimate.mean, comparison.standard_deviation, comparison.family)
    return count and max(count, d.estimate.count + 1)


def detectable_row(comparison: Comparison) -> dict | None:
    """The smallest difference that this experiment finds with a chance of 80 %; None where nothing can be tested."""
    if comparison.count is None:
        return None
    deviation, count = comparison.standard_deviation, comparison.count
    return {
        "difference": smallest_detectable(deviation, count, comparison.family),
        "seeds": count,
        "standard_deviation": deviation,
        "comparisons": comparison.family,
    }


def run_row(run: RunCurve) -> dict:
    why = run.left_out()
    return {
        "folder": run.experiment,
        "name": run.name,
        "n_head": run.n_head,
        "seed": run.seed,
        "learning_rate": run.learning_rate,
        "weight_decay": run.weight_decay,
        "left_out": why,
        "iters": run.iters,
        "val_loss": [loss if math.isfinite(loss) else None for loss in run.val_loss],
    }


def sentence(heads: dict[int, list[RunCurve]], comparison: Comparison | None, named: int | None) -> str:
    """The comparison in plain words, to follow "At D = 128, ". Says no more than the test allows."""
    if comparison is None:
        return f"nothing is compared: every run with H = {named}, the reference, was left out."
    reference = f"H = {comparison.reference}"
    if len(heads) == 1:
        return f"only {reference} was run: there is nothing to compare."
    mean = estimate([run.final_loss for run in heads[comparison.reference]]).mean
    which = "the lowest final validation loss," if comparison.chosen_by_data else "a final validation loss of"
    level = f"{reference} has {which} {mean:.4f} {UNIT}"
    if not comparison.family:
        count = max(len(d.seeds) for d in comparison.differences)
        why = "one common seed" if count else "no common seed"
        return f"{level}, but nothing can be concluded from {why}: train with five or so (--sweep.seed 0,1,2,3,4)."
    told = []
    for side, sign in (("worse", 1), ("better", -1)):
        sure = [d for d in comparison.differences if d.different and d.estimate.mean * sign > 0]
        by = [f"by {abs(d.estimate.mean):.4f} ± {comparison.half_width(d):.4f} ({p_text(d.p_holm)})" for d in sure]
        if sure:
            first, *others = [f"H = {d.n_head} {size}" for d, size in zip(sure, by, strict=True)]
            told.append(", ".join([first.replace(" by", f" is {side} by", 1), *others]))
    open_ = [d for d in comparison.differences if not d.different and d.p_holm is not None]
    for count in sorted({len(d.seeds) for d in open_}):
        names = listed([f"H = {d.n_head}" for d in open_ if len(d.seeds) == count])
        told.append(f"{names} cannot be told apart from it with these {count} seeds")
        told.append(advice([needed(comparison, d) for d in open_ if len(d.seeds) == count]))
    untested = [f"H = {d.n_head}" for d in comparison.differences if d.p_holm is None]
    if untested:
        told.append(f"{listed(untested)} not tested: fewer than two common seeds")
    return f"{level}: {'; '.join(told)}."


def advice(counts: Sequence[int | None]) -> str:
    """How many seeds would settle it, a number for each head count; None is over MOST_SEEDS."""
    told = [f"over {MOST_SEEDS:,}" if count is None else f"{count:,}" for count in counts]
    if set(counts) == {None}:
        return f"{MOST_SEEDS:,} seeds would not settle it"
    return f"about {told[0] if len(set(told)) == 1 else listed(told)} seeds would settle it"


def listed(words: Sequence[str]) -> str:
    """a, b and c"""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"
