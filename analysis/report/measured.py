"""The one entry to all that is measured and said about a study: Sections in the order in which a reader meets them.

What has to run the networks is kept beside each run (analysis.measure).
"""

from collections.abc import Sequence

from analysis.measure.measurements import Measurements
from analysis.report.loss import loss_section
from analysis.report.relation_section import relation_section
from analysis.report.section import Section
from analysis.runs import RunCurve, Study, by_head
from experiment.folder import Experiment


def sections(
    study: Study,
    experiments: Sequence[Experiment],
    *,
    reference: int | None = None,
    quick: bool = False,
    device: str = "auto",
    suffix: str = "",
) -> list[Section]:
    """What the study's runs answer; empty where no run is finished.

    Where learning rate or weight decay were swept, the losses are told for each setting, and all else for the one with
    the lowest mean loss.

    Args:
        experiments: the study's, in the order of study.folders.
        reference: a head count named beforehand, or None for the lowest mean final loss.
        quick: run no network: of time and memory, head measures, ablation, forced choices and sampled text only what
            is kept beside the runs.
        device: where networks run, as for train.py.
        suffix: ends every id of a section, picture and table, for a report of several studies.

    Raises:
        InputError: a run's checkpoints are damaged, or the device is not here.
    """
    groups = study.groups()
    if not groups:
        return []
    found, titles = [], {}
    for (rate, decay), runs in groups.items():
        ending, title = suffix, study.title((rate, decay) if len(groups) > 1 else None)
        if len(groups) > 1:
            ending += f"-lr{rate:g}-wd{decay:g}".replace(".", "_")
        titles[rate, decay] = title
        found.append(loss_section(study, runs, title, reference, ending))
    best = min(groups, key=lambda key: sum(run.final_loss for run in groups[key]) / len(groups[key]))
    runs, title = groups[best], titles[best]
    folders = dict(zip(study.folders, experiments, strict=True))
    chosen = [next(run for run in folders[c.experiment].runs if run.name == c.name) for c in runs]
    measurements = Measurements.of_runs(experiments[0], chosen, device, quick=quick)
    return found + measured(study, experiments[0], runs, measurements, title, reference, suffix)


def measured(
    study: Study,
    experiment: Experiment,
    runs: list[RunCurve],
    measurements: Measurements,
    title: str,
    reference: int | None,
    suffix: str,
) -> list[Section]:
    """The sections after the loss, each with what is measured or kept."""
    from analysis.report.cost_section import cost_section
    from analysis.report.head_sections import ablation_section, heads_section

    found = {measure: measurements.take(measure) for measure in measurements.measures}
    relations = found["relations"].values if "relations" in found else None
    costs, machine = measurements.costs() or (None, None)
    sections = [
        relation_section(runs, relations, title, reference, suffix),
        cost_section(runs, experiment.config, experiment.environment, costs, machine, title, suffix),
    ]
    heads, ablation, text = found["heads"].values, found["ablation"].values, measurements.text
    if heads:
        sizes = {h: study.n_embd // h for h in by_head(runs)}
        sections.append(heads_section(heads, sizes, title, text.words("heads"), suffix))
    if ablation:
        sections.append(ablation_section(ablation, title, text.words("ablation"), suffix))
    notes = [note for one in found.values() for note in one.notes]
    if notes:
        sections.append(Section(f"unmeasured{suffix}", "What could not be measured", notes))
    return [section for section in sections if section]
