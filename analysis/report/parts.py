"""A study, or a GPT-2 of another maker, as a part of a report: which sections it has, in the order of reading.

A part is planned before it is made, so that one bar can say how far all of them are. A section that fails says why in
its place, and the rest appears.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from analysis.measure.measurements import Measurements
from analysis.report import cost, curves, heads, loss, opening, relations, texts, tuned, viewer
from analysis.report.section import Part, Section, attempt, placed
from analysis.runs import Study, by_head
from analysis.statistics import MARGIN
from analysis.summary import final_losses, setting_text, summarize, told_of
from experiment.config import Config
from experiment.folder import Experiment
from experiment.pretrained import Pretrained
from terminal import counted

QUICK = "--quick runs no network: shown is what was measured before. Without it, the rest is measured."


@dataclass
class Plan:
    """A part that can be made."""

    measurements: Measurements | None
    """Of the networks that it looks into; None where no run is finished."""
    make: Callable[[], Part]

    def work(self) -> float:
        """Estimated seconds of all measurements."""
        found = self.measurements
        if not found or found.quick:
            return 0.0
        steps = sum(map(found.work, [*found.measures, *(["cost"] if found.training else [])]))
        return steps + viewer.work(found)


def make_parts(plans: Sequence[Plan]) -> list[Part]:
    """Carry out the plans, with one bar over all measurements on a terminal."""
    total = sum(plan.work() for plan in plans)
    line = "{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
    with tqdm(desc="measuring", total=total, disable=None if total else True, leave=False, bar_format=line) as bar:
        for plan in plans:
            if plan.measurements:
                plan.measurements.progress = bar.update
        return [plan.make() for plan in plans]


def study_plan(
    study: Study,
    experiments: Sequence[Experiment],
    reference: int | None,
    quick: bool,
    device: str,
    shares: int = 1,
    margin: float = MARGIN,
) -> Plan:
    """What a study's runs answer. Where learning rate or weight decay were swept, the losses are told for each setting,
    and all else for one of them (summary.told_of).

    Args:
        experiments: the study's, in the order of study.folders.
        reference: a head count named beforehand, or None for that of the lowest mean final loss.
        quick: show what has to run the networks only as far as it was measured before.
        device: where networks run, as for train.py.
        shares: parts that share the page.
        margin: nats per token within which losses are called the same.

    Raises:
        InputError: the device or the reference is not here.
    """
    first, groups = experiments[0], study.groups()
    summary = summarize(study, reference, margin)
    measurements, row, chosen, best = None, {}, None, []
    if groups:
        row = told_of(summary["groups"])
        chosen = row["learning_rate"], row["weight_decay"]
        best = groups[chosen]
        folders = dict(zip(study.folders, experiments, strict=True))
        runs = [next(r for r in folders[c.experiment].runs if r.name == c.name) for c in best]
        measurements = Measurements.of_runs(first, runs, device, quick=quick)

    def sections() -> list[Section]:
        found = []
        for told in summary["tuned"]:
            decay = f"weight decay {told['weight_decay']:g}" * (len(summary["tuned"]) > 1)
            title = study.title() + f"\n{decay}" * bool(decay)
            make = lambda r=told, t=title: tuned.tuned_section(r, groups, t)  # noqa: E731
            found += placed(attempt("tuned", tuned.TITLE, make), decay and f"with {decay}")
        several = len(groups) > 1
        titles = {setting: study.title(setting if several else None) for setting in groups}
        places = {setting: f"at {setting_text(study, setting)}" * several for setting in groups}
        for setting, runs in groups.items():
            make = lambda r=runs, t=titles[setting]: loss.loss_section(study, r, t, reference, margin)  # noqa: E731
            found += placed(attempt("loss", loss.TITLE, make), places[setting])
        if measurements:
            title, place, lost = titles[chosen], places[chosen], []
            relation = take(measurements, "relations", lost) if "relations" in measurements.measures else None
            floor = measurements.floor() if measurements.tales else None
            make = lambda: relations.relation_section(best, relation, title, floor, reference, margin)  # noqa: E731
            found += placed(attempt("relations", relations.TITLE, make), place)
            if written := take(measurements, "texts", lost):
                found_of = {(h, seed): value for h, of in written.items() for seed, value in of.items()}
                of = {n: found_of[n.n_head, n.seed] for n in measurements.networks if (n.n_head, n.seed) in found_of}
                make = lambda: texts.texts_section(of, measurements.sampling, title, place)  # noqa: E731
                found += placed(attempt("texts", texts.TITLE, make), place)
            make = lambda: cost.cost_section(  # noqa: E731
                best, first.config, first.environment, measurements.costs(), title, place
            )
            found += attempt("cost", cost.TITLE, make)
            found += placed(network_sections(measurements, title, shares, lost), place)
        return found + attempt("curves", curves.TITLE, lambda: curves.curves_section(study))

    def make() -> Part:
        size = f", {study.parameters:,} parameters whatever H" if study.parameters else ""
        shape = f"D = {study.n_embd}, {counted(study.n_layer, 'layer')}, context {study.block_size} tokens"
        told, found = facts(first.config, first.environment, summary), sections()
        answer = attempt("answer", opening.TITLE, lambda: open_with(found)) if groups else []
        return Part(
            study.name,
            f"{study.name}: {shape}{size}",
            answers(summary),
            told,
            found,
            answer[0] if answer else None,
            summary["notes"],
            summary,
        )

    def open_with(found: list[Section]) -> Section:
        if summary["tuned"]:
            told = summary["tuned"][0]
            losses = opening.tuned_losses(told, groups)
        else:
            told, losses = row, final_losses(by_head(best))
        said = loss.answer(told, losses)
        return opening.opening(said, found, losses, told["verdict"], study.title())

    return Plan(measurements, make)


def answers(summary: dict) -> list[str]:
    """What the runs say, a paragraph for each comparison: the tuned ones, or those of each setting."""
    if not summary["groups"]:
        if not any((run["left_out"] or "").startswith(("unfinished", "not trained")) for run in summary["runs"]):
            return ["Every run diverged: there is nothing to compare. Train with a lower learning rate."]
        return ["No run is finished: there is nothing to compare yet. The train.py command that began it goes on."]
    return summary["answer"]


def pretrained_plan(source: Pretrained, quick: bool, device: str, shares: int = 1) -> Plan:
    """The heads of a GPT-2 that was not trained here, for which there is no sweep to compare.

    quick: leave out ablation, which takes longest. Raises InputError where device, weights or tokenizer are not here.
    """
    config, name = source.config, Path(source.name).name  # a folder's name is short enough for a title
    measurements = Measurements.of_pretrained(source, device)

    def make() -> Part:
        shape = f"D = {config.n_embd}, {counted(config.n_layer, 'layer')}, H = {config.n_head}"
        rows = [
            ("Network", f"D = {config.n_embd}, {counted(config.n_layer, 'layer')}, context {config.block_size} tokens"),
            ("Heads", f"H = {config.n_head} a layer, {config.n_head * config.n_layer} in all"),
            ("Size of a head", f"d_h = {config.n_embd // config.n_head}"),
            ("Text", measurements.text.words("heads")),
        ]
        sections = network_sections(measurements, f"the heads of {name}", shares, [], ablate=not quick)
        return Part(
            name, f"{name}: {shape}", [f"{name}: {shape}: what each of its heads does."], rows, sections, trained=False
        )

    return Plan(measurements, make)


def network_sections(
    measurements: Measurements, title: str, shares: int, lost: list[str], ablate: bool = True
) -> list[Section]:
    """What has to look into networks, the same for runs and a GPT-2. lost: what could not be measured before this."""
    found, config, words = [], measurements.config, measurements.text.words
    if measured := take(measurements, "heads", lost):
        make = lambda: heads.heads_section(measured, config.n_embd, config.block_size, title, words("heads"))  # noqa: E731
        found += attempt("heads", heads.HEADS, make)
    if ablate and (ablated := take(measurements, "ablation", lost)):
        found += attempt("ablation", heads.ABLATION, lambda: heads.ablation_section(ablated, title, words("ablation")))
    budget = viewer.PATTERN_BYTES // shares
    views = attempt("explorer", viewer.EXPLORER, lambda: viewer.view_sections(measurements, budget))
    found += views
    lost += [QUICK] * (not views)
    if lost:
        found.append(Section("unmeasured", "What could not be measured", list(dict.fromkeys(lost))))
    return found


def take(measurements: Measurements, measure: str, lost: list[str]) -> dict | None:
    """The values of a measure; adds to `lost` what could not be had."""
    found = measurements.take(measure)
    lost += found.notes
    if measurements.quick and sum(map(len, found.values.values())) + len(found.notes) < len(measurements.networks):
        lost.append(QUICK)
    return found.values or None


def facts(config: Config, environment: dict, summary: dict) -> list[tuple[str, str]]:
    """What was trained on what, for the page's head. config: of the study's first experiment."""
    data, runs = config.data, summary["runs"]
    heads, seeds = (sorted({run[key] for run in runs}) for key in ("n_head", "seed"))
    used = sum(run["left_out"] is None for run in runs)
    versions = environment.get("versions", {})
    rows = [
        (
            "Network",
            f"D = {summary['n_embd']}, {counted(summary['n_layer'], 'layer')}, context {summary['block_size']} tokens",
        ),
        ("Parameters", f"{summary['parameters']:,}, the same for every H" if summary["parameters"] else "–"),
        ("Head counts H", ", ".join(map(str, heads))),
        ("Runs", f"{used} of {len(runs)} finished; seeds {', '.join(map(str, seeds))}"),
        ("Training", f"{config.train.max_iters:,} iterations of {cost.iteration_tokens(config):,} tokens"),
        ("Corpus", f"{data.source}" + (f" ({os.path.basename(str(data.path))})" if data.path else "")),
    ]
    if environment.get("train_tokens"):
        validated = f"{environment['train_tokens']:,} to train, {environment['val_tokens']:,} to validate on"
        rows.append(("Tokens", f"{validated}; vocabulary {environment.get('vocab_size', '–')} ({data.tokenizer})"))
    machine = [str(environment[key]) for key in ("device", "precision") if environment.get(key)]
    machine += [f"torch {versions['torch']}"] if "torch" in versions else []
    machine += [f"commit {environment['commit']}"] if environment.get("commit") else []
    if machine:
        rows.append(("Machine", ", ".join(machine)))
    return rows
