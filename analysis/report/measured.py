"""The one entry to all that is measured and said about a study: Sections in the order in which a reader meets them.

What has to run the networks goes run by run and is kept beside each run (analysis.measure.kept).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tqdm import tqdm

from analysis.measure.kept import cached
from analysis.report.loss import loss_section
from analysis.report.relation_section import relation_section
from analysis.report.section import Section
from analysis.runs import RunCurve, Study, by_head
from errors import InputError
from experiment.folder import Experiment, Run

if TYPE_CHECKING:
    from torch import Tensor

    from model.gpt import GPT

log = logging.getLogger("headcount")

HEAD_TOKENS = 2**17
"""Validation tokens that head measures are taken over, in windows spread evenly over the split; all where fewer."""
ABLATION_TOKENS = 2**13
"""The same for the losses with heads silenced."""


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
        quick: leave out what has to run the networks (time and memory, head measures, ablation, forced choices,
            sampled text).
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
    probe, why = None, None
    if not quick:
        try:
            probe = Probe.open(study, experiments, runs, device)
        except CannotMeasure as error:
            why = str(error)
    found += measured(study, experiments[0], runs, probe, title, reference, suffix)
    if why:
        found.append(Section(f"unmeasured{suffix}", "What could not be measured", [why]))
    return found


def measured(
    study: Study,
    experiment: Experiment,
    runs: list[RunCurve],
    probe: "Probe | None",
    title: str,
    reference: int | None,
    suffix: str,
) -> list[Section]:
    """The sections after the loss; those that need the networks only with a probe."""
    from analysis.report.cost_section import cost_section

    relations = probe.relations() if probe and probe.tagged else None
    costs, machine = probe.costs() if probe else (None, None)
    found = [
        relation_section(runs, relations, title, reference, suffix),
        cost_section(runs, experiment.config, experiment.environment, costs, machine, title, suffix),
    ]
    if probe and study.block_size > 3:  # the measures of a head tell apart three places at least
        from analysis.report.head_sections import ablation_section, heads_section

        sizes = {h: study.n_embd // h for h in by_head(runs)}
        found.append(heads_section(probe.heads(), sizes, title, probe.windows(HEAD_TOKENS), suffix))
        found.append(ablation_section(probe.ablation(), title, probe.windows(ABLATION_TOKENS), suffix))
    return [section for section in found if section]


class CannotMeasure(Exception):
    """The networks cannot be run as they were trained; the message says why and what would help."""


@dataclass
class Probe:
    """Runs the networks of one group, one at a time."""

    runs: list[tuple[RunCurve, Run]]
    experiment: Experiment  # whose config and data are those of all
    dataset: object
    device: object

    @classmethod
    def open(
        cls,
        study: Study,
        experiments: Sequence[Experiment],
        curves: list[RunCurve],
        device: str,
    ) -> "Probe":
        """Raises CannotMeasure where the corpus is not the one that was trained on."""
        from data.dataset import prepare
        from machine import pick_device

        folders = dict(zip(study.folders, experiments, strict=True))
        runs = [(c, next(run for run in folders[c.experiment].runs if run.name == c.name)) for c in curves]
        experiment = experiments[0]
        chosen = pick_device(device)
        try:
            dataset = prepare(experiment.config.data)
        except InputError as error:
            raise CannotMeasure(f"What needs the corpus was left out, as it is not here: {error}.") from None
        if dataset.hash != experiment.environment.get("data_hash"):
            raise CannotMeasure(
                "What needs the corpus was left out: the corpus is no longer the one that was trained on; put it back."
            )
        return cls(runs, experiment, dataset, chosen)

    @property
    def tagged(self) -> bool:
        """Whether the corpus knows its relations (tales)."""
        return self.dataset.val_relations is not None

    def windows(self, tokens: int) -> str:
        """What the measures over `tokens` tokens are over, in words."""
        count, of = self._count(tokens)
        size = self.experiment.config.model.block_size
        if count == of:
            return f"the whole validation split ({len(self.dataset.val):,} tokens in windows of {size})"
        return f"{count} windows of {size} tokens spread evenly over the validation split ({of} windows)"

    def heads(self) -> dict[int, dict[int, dict]]:
        """measure_heads of every run."""
        from analysis.measure.heads import VERSION, measure_heads

        def measure(run: Run, bar: tqdm) -> dict:
            x, y = self._windows(HEAD_TOKENS)
            return measure_heads(self._model(run, "eager"), x, y >= 0, self.dataset.tokenizer.eot, bar.update)

        return self._each("heads", VERSION, {"tokens": HEAD_TOKENS}, measure, self._count(HEAD_TOKENS)[0])

    def ablation(self) -> dict[int, dict[int, dict]]:
        """ablate of every run."""
        from analysis.measure.ablation import VERSION, ablate

        def measure(run: Run, bar: tqdm) -> dict:
            return ablate(self._model(run), *self._windows(ABLATION_TOKENS), bar.update)

        return self._each("ablation", VERSION, {"tokens": ABLATION_TOKENS}, measure)

    def relations(self) -> dict[int, dict[int, dict]]:
        """Forced choices and relations in sampled text of every run."""
        from analysis.measure import relations
        from data.tales import pairs

        asked = pairs(relations.PAIRS, relations.PAIR_SEED)

        def measure(run: Run, bar: tqdm) -> dict:
            model, tokenizer = self._model(run), self.dataset.tokenizer
            choice = relations.forced_choice(model, tokenizer, asked, bar.update)
            return {"choice": choice} | relations.sampled_relations(model, tokenizer, bar.update)

        settings = {name: getattr(relations, name) for name in ("PAIRS", "PAIR_SEED", "SAMPLES", "SAMPLE_TOKENS")}
        return self._each("relations", relations.VERSION, settings, measure)

    def costs(self) -> tuple[dict, dict]:
        """measure_costs for every H, kept beside the first run, and the machine it ran on."""
        from analysis.measure.cost import CORES, ROUNDS, VERSION, machine, measure_costs

        heads = sorted({curve.n_head for curve, _ in self.runs})
        bf16 = self.experiment.environment.get("precision") == "bf16"
        where = machine(self.device)

        def measure() -> dict:
            log.info(f"time and memory of an iteration, H = {', '.join(map(str, heads))}")
            with self._bar("cost", ROUNDS * len(CORES) * len(heads)) as bar:
                vocabulary = self.dataset.tokenizer.vocab_size
                return measure_costs(self.experiment.config, vocabulary, heads, self.device, bf16, bar.update)

        settings = {"heads": heads, "bf16": bf16} | where
        return cached(self.runs[0][1], "cost", VERSION, settings, measure), where

    def _each(
        self, name: str, version: int, settings: dict, measure: Callable[[Run, tqdm], dict], steps: int | None = None
    ) -> dict:
        """{n_head: {seed: value}} of measure(run, bar), from each run's folder where it is kept."""
        settings = settings | {"data": self.dataset.hash}
        found: dict[int, dict[int, dict]] = {}
        for curve, run in self.runs:

            def work(run: Run = run) -> dict:
                log.info(f"{name}: {run.name}")
                with self._bar(f"{name} {run.name}", steps) as bar:
                    return measure(run, bar)

            value = cached(run, name, version, settings, work)
            found.setdefault(curve.n_head, {})[curve.seed] = value
        return found

    def _bar(self, name: str, total: int | None) -> tqdm:
        """A bar on a terminal that goes away when it is done."""
        return tqdm(desc=name, total=total, disable=None, leave=False, dynamic_ncols=True)

    def _model(self, run: Run, core: str = "sdpa") -> "GPT":
        from experiment.loaded import load_stack

        return load_stack([run], replace(self.experiment.config.model, attention=core), self.device)

    def _count(self, tokens: int) -> tuple[int, int]:
        """(windows taken, windows of the split)."""
        size = self.experiment.config.model.block_size
        of = -(-(len(self.dataset.val) - 1) // size)
        return min(of, max(1, tokens // size)), of

    def _windows(self, tokens: int) -> tuple["Tensor", "Tensor"]:
        """Inputs and targets of the windows taken, (N, T) each."""
        import torch

        from data.batches import validation_windows

        count, of = self._count(tokens)
        x, y = validation_windows(self.dataset.val, self.experiment.config.model.block_size)
        chosen = torch.arange(count) * of // count
        return (torch.from_numpy(part)[chosen].to(self.device) for part in (x, y))
