"""A study as one plain dictionary: what report.json holds and what page and terminal show are both this.

Losses are in nats per token, `interval` is half the width of a 95 % t interval, `low` and `high` are the ends of a
simultaneous one, and None stands for what cannot be said (no interval from one seed). docs/formats.md has the keys.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from analysis import sentences as words
from analysis.report.words import listed
from analysis.runs import RunCurve, Study, by_head, relation_names
from analysis.statistics import (
    LEVEL,
    MARGIN,
    METHOD,
    SOURCE,
    Estimate,
    Interaction,
    Losses,
    Pair,
    Test,
    Tuned,
    Verdict,
    compare,
    compare_tuned,
    estimate,
    interaction,
    mean_losses,
)
from errors import InputError


def summarize(study: Study, reference: int | None = None, margin: float = MARGIN, level: float = LEVEL) -> dict:
    """The whole study.

    reference: a head count named beforehand, or None for all pairs. margin: nats per token within which losses are the
    same. level: the chance of any false claim, lower where an experiment is looked at repeatedly (statistics.levels).
    Raises InputError where no run has the reference's head count.
    """
    present = sorted({run.n_head for run in study.runs})
    if reference is not None and reference not in present:
        there = ", ".join(map(str, present)) or "none"
        raise InputError(f"--reference {reference}: {study.name} has no run with that n_head; it has {there}")
    groups = study.groups()
    told = [
        {"learning_rate": rate, "weight_decay": decay} | group(study, runs, reference, margin, level)
        for (rate, decay), runs in groups.items()
    ]
    tuned = tuned_rows(study, groups, reference, margin, level)
    notes = list(study.notes)
    if len(groups) > 1:
        swept = {(run.learning_rate, run.weight_decay) for run in study.runs}
        used = " that has runs to compare" * (len(swept) > len(groups))
        notes.append(
            f"{len(swept)} settings of learning rate and weight decay were swept: head counts are compared within "
            f"each one{used}, each comparison with 5 % of its own"
            + ("; the answer is the one with tuned rates" if tuned else "")
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
        "answer": [" ".join(row["sentences"]) for row in tuned or told],
        "tuned": tuned,
        "groups": told,
        "runs": [run_row(run) for run in study.runs],
    }


def told_of(groups: Sequence[dict]) -> dict:
    """The row of `summarize`'s groups that all else is told of, where the answer is not the tuned one.

    It has the most head counts and, of those, the most runs, so that one at which runs diverged does not win by what is
    left; then the lowest loss, the mean over head counts.
    """

    def place(row: dict) -> tuple[int, int, float]:
        heads = row["heads"]
        runs = sum(len(head["seeds"]) for head in heads)
        return -len(heads), -runs, sum(head["final_loss"]["mean"] for head in heads) / len(heads)

    return min(groups, key=place)


def setting_text(study: Study, setting: tuple[float, float]) -> str:
    """The learning rate of a setting (learning_rate, weight_decay), and its weight decay where several were swept."""
    rate, decay = setting
    several = len({run.weight_decay for run in study.runs}) > 1
    return f"learning rate {words.rate_text(rate)}" + f" with weight decay {decay:g}" * several


def group(
    study: Study, runs: Sequence[RunCurve], reference: int | None, margin: float = MARGIN, level: float = LEVEL
) -> dict:
    """One setting of learning rate and weight decay: rows by head count, the verdict, and what it says in words."""
    heads = by_head(runs)
    place = f"D = {study.n_embd} and {setting_text(study, (runs[0].learning_rate, runs[0].weight_decay))}"
    told = {"heads": [head_row(study, h, of, relation_names(runs)) for h, of in heads.items()]}
    if reference is not None and reference not in heads:
        said = [f"At {place}, nothing is compared: every run with H = {reference}, the reference, was left out."]
        return told | {"verdict": None, "sentences": said}
    losses = final_losses(heads)
    verdict = compare(losses, margin, reference, level)
    said = words.sentences(verdict, mean_losses(losses)[verdict.lowest], place)
    setting = (runs[0].learning_rate, runs[0].weight_decay)
    lost = lost_heads([run for run in study.runs if (run.learning_rate, run.weight_decay) == setting], heads)
    row = verdict_row(verdict) | {"lowest_loss": mean_losses(losses)[verdict.lowest]}
    return told | {"verdict": row, "sentences": said + [lost] * bool(lost)}


def tuned_rows(
    study: Study,
    groups: Mapping[tuple[float, float], Sequence[RunCurve]],
    reference: int | None,
    margin: float,
    level: float,
) -> list[dict]:
    """The comparison with each head count at its own learning rate, for each weight decay that has several rates."""
    rows = []
    for decay in sorted({decay for _, decay in groups}):
        rates = {run.learning_rate for run in study.runs if run.weight_decay == decay}
        losses = {rate: final_losses(by_head(groups.get((rate, decay), []))) for rate in sorted(rates)}
        tuned = compare_tuned(losses, margin, reference, level) if sum(map(bool, losses.values())) > 1 else None
        if tuned is not None:
            kept = {rate: {h: of for h, of in heads.items() if h in tuned.best} for rate, heads in losses.items()}
            rows.append(tuned_row(study, decay, tuned, interaction(kept, level), losses))
    return rows


def tuned_row(
    study: Study, decay: float, tuned: Tuned, found: Interaction | None, losses: Mapping[float, Losses]
) -> dict:
    """The tuned comparison of a weight decay: rates, verdict, the trend at each rate, and what they say in words."""
    verdict = tuned.verdict
    own = {h: {seed: losses[rate][h][seed] for seed, rate in of.items()} for h, of in tuned.chosen.items()}
    place = f"D = {study.n_embd} and {words.tuned_place(tuned)}"
    if len({run.weight_decay for run in study.runs}) > 1:
        place += f" with weight decay {decay:g}"
    said = words.sentences(verdict, mean_losses(own)[verdict.lowest], place)
    more = [
        words.not_open(tuned, diverged(study, decay, tuned)),
        words.turning(found, verdict.n_head),
        words.edges(tuned, sorted(losses)),
        lost_heads([run for run in study.runs if run.weight_decay == decay], tuned.best),
    ]
    return {
        "weight_decay": decay,
        "learning_rates": sorted(losses),
        "best_learning_rate": tuned.best,
        "chosen": tuned.chosen,
        "add_learning_rates": tuned.edges,
        "left_out": tuned.left_out,
        "verdict": verdict_row(verdict) | {"lowest_loss": mean_losses(own)[verdict.lowest]},
        "trends": [{"learning_rate": rate} | test_row(test) for rate, test in found.trends.items()] if found else [],
        "trend_differences": [{"learning_rates": pair} | test_row(t) for pair, t in found.differences.items()]
        if found
        else [],
        "sign_turns_between": found and found.turns,
        "sentences": said + [text for text in more if text],
    }


def diverged(study: Study, decay: float, tuned: Tuned) -> set[tuple[int, float]]:
    """(H, learning rate) where a run that the choice of the rate lacks cannot be had by training on."""
    return {
        (run.n_head, run.learning_rate)
        for run in study.runs
        if run.weight_decay == decay and run.seed in tuned.chosen.get(run.n_head, ())
        if run.left_out() and (run.finished or run.diverged is not None)
    }


def verdict_row(verdict: Verdict) -> dict:
    """The answers of one table of losses, with what they rest on."""
    counts = [len(pair.seeds) for pair in verdict.pairs if pair.tested]
    seeds = min(counts, default=0)
    ahead = sorted({n for n in (2, 3, 4, 5, 6, 8, 12, 16, 24, 32) if n > seeds} | {seeds}) if counts else []
    return {
        "reference": verdict.reference,
        "lowest": verdict.lowest,
        "best": list(verdict.best),
        "margin": verdict.margin,
        "level": verdict.level,
        "questions": verdict.tested,
        "method": METHOD,
        "source": SOURCE,
        "standard_deviation": verdict.deviation,
        "trend": verdict.trend and test_row(verdict.trend),
        "curvature": verdict.curvature and test_row(verdict.curvature) | {"lowest_at": verdict.turn},
        "pairs": [pair_row(verdict, pair) for pair in verdict.pairs],
        "open": len(verdict.open),
        "detectable": [{"seeds": n, "difference": verdict.detectable(n)} for n in ahead],
        "seeds": seeds,
    }


def test_row(test: Test) -> dict:
    """One question; low and high are simultaneous, p is corrected for the family."""
    keys = ("estimate", "low", "high", "p", "p_alone", "p_seeds", "standard_error", "df")
    return {"seeds": list(test.seeds)} | {key: getattr(test, key) for key in keys} | {"sure": bool(test.sign)}


def pair_row(verdict: Verdict, pair: Pair) -> dict:
    """Loss at n_head minus loss at reference: positive is worse."""
    return {
        "n_head": pair.n_head,
        "reference": pair.reference,
        "verdict": pair.answer,
        **test_row(pair),
        "within_margin": pair.within_margin,
        "p_same": pair.p_same,
        "seeds_needed": verdict.seeds_needed(pair) if pair.answer == "open" else None,
    }


def lost_heads(swept: Sequence[RunCurve], told: Collection[int]) -> str:
    """A sentence on head counts of runs that were swept of which nothing is told; empty where there is none."""
    of = [run for run in swept if run.n_head not in told]
    if not of:
        return ""
    lost = sorted({run.n_head for run in of})
    its = "its" if len(lost) == 1 else "their"
    if all(run.diverged is not None for run in of):
        why = "every run diverged"
    elif all(run.left_out() for run in of):
        why = f"none of {its} runs can be used"
    else:
        why = f"no learning rate has all of {its} seeds, two or more"
    return f"Nothing is said of {listed([f'H = {h}' for h in lost])}: {why}."


def final_losses(heads: Mapping[int, Sequence[RunCurve]]) -> dict[int, dict[int, float]]:
    """{n_head: {seed: final loss}}, as analysis.statistics.compare takes it."""
    return {h: {run.seed: run.final_loss for run in of} for h, of in heads.items()}


def head_row(study: Study, n_head: int, runs: Sequence[RunCurve], relations: Sequence[str]) -> dict:
    """What one head count reached, over its seeds: nats per token, bits per byte, the perplexity of the mean loss."""
    row = {"n_head": n_head, "head_size": study.n_embd // n_head, "seeds": [run.seed for run in runs]}
    settings = (n_head, runs[0].learning_rate, runs[0].weight_decay)
    alike = [run for run in study.runs if (run.n_head, run.learning_rate, run.weight_decay) == settings]
    row["left_out"] = sum(run.left_out() is not None for run in alike)
    per_byte = study.tokens_per_byte
    for kind, losses in (("final", [run.final_loss for run in runs]), ("best", [run.best[0] for run in runs])):
        row[f"{kind}_loss"] = mean_row(estimate(losses))
        row[f"{kind}_perplexity"] = math.exp(min(estimate(losses).mean, 700))  # of the mean; a float ends near e^709
        bits = np.array(losses) / math.log(2) * per_byte if per_byte else None
        row[f"{kind}_bits_per_byte"] = None if bits is None else mean_row(estimate(bits))
    iters = [run.best[1] for run in runs]
    row["best_iters"] = [min(iters), max(iters)]
    row["relations"] = {name: mean_row(estimate([run.relations[name][-1] for run in runs])) for name in relations}
    return row


def mean_row(e: Estimate) -> dict:
    return {"mean": e.mean, "standard_deviation": e.standard_deviation, "interval": e.half_width()}


def finite(losses: Sequence[float]) -> list[float | None]:
    return [loss if math.isfinite(loss) else None for loss in losses]


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
        "val_loss": finite(run.val_loss),
        "val_loss_by_relation": {name: finite(losses) for name, losses in run.relations.items()},
    }
