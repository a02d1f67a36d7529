"""The one entry to all that is measured and said about a study: Sections in the order in which a reader meets them."""

from collections.abc import Callable, Sequence

from analysis.loss import loss_section
from analysis.runs import Study
from analysis.section import Section
from experiment.folder import Experiment


def sections(
    study: Study,
    experiments: Sequence[Experiment],
    *,
    reference: int | None = None,
    quick: bool = False,
    say: Callable[[str], object] = print,
    device: str = "auto",
    suffix: str = "",
) -> list[Section]:
    """What the study's runs answer; empty where no run is finished.

    Args:
        experiments: the study's, in the order of study.folders.
        reference: a head count named beforehand, or None for the lowest mean final loss.
        quick: leave out what has to run the networks (cost, head measures, ablation, forced choices, sampled text).
        say: told what is being worked on, a line each.
        device: where networks run, as for train.py.
        suffix: ends every id of a section, picture and table, for a report of several studies.
    """
    groups = study.groups()
    found = []
    for (rate, decay), runs in groups.items():
        ending, title = suffix, f"{study.name}: D = {study.n_embd}, {study.n_layer} layers"
        if len(groups) > 1:
            ending += f"-lr{rate:g}-wd{decay:g}".replace(".", "_")
            title += f", learning rate {rate:g}, weight decay {decay:g}"
        found.append(loss_section(study, runs, title, reference, ending))
    return found
