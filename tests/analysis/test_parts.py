"""A report is whole whatever its numbers are: every section comes, and one that fails takes nothing else with it."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analysis.collect import collect
from analysis.measure.heads import MEASURES
from analysis.measure.measurements import Network
from analysis.report.curves import curves_section
from analysis.report.heads import RANKS, ablation_section, heads_section, uniform
from analysis.report.loss import loss_section
from analysis.report.opening import opening
from analysis.report.overview import overview, verdict_of
from analysis.report.page import distinct, draw
from analysis.report.parts import make_parts, study_plan
from analysis.report.relations import relation_section
from analysis.report.section import Part, Picture, Section, Table, attempt
from analysis.report.terminal import report_text
from analysis.report.texts import texts_section
from analysis.runs import Study, by_head
from analysis.summary import final_losses, summarize, told_of
from errors import InputError
from experiment.folder import Experiment
from experiment.sampling import Sampling
from files import write_checked
from tests.analysis.synthetic import run, sweep, write_experiment, write_metrics


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    return shutil.copytree(trained.path, tmp_path_factory.mktemp("measured") / "small")


def part(folder, quick=False):
    (study,), _ = collect([folder])
    (made,) = make_parts([study_plan(study, [Experiment.open(folder)], None, quick, "cpu")])
    return made


def test_every_question_is_answered_once_and_what_was_measured_is_shown_again_without_networks(folder, monkeypatch):
    found = part(folder).sections
    assert [s.id for s in found] == [
        "loss",
        "relations",
        "texts",
        "cost",
        "heads",
        "ablation",
        "explorer",
        "samples",
        "curves",
    ]
    for section in found:
        assert section.text or section.view
        json.dumps(section.data, allow_nan=False)
        assert all(len(row) == len(table.head) for table in section.tables for row in table.rows)
        for picture in section.pictures:
            picture.draw().draw_without_rendering()
    monkeypatch.setattr("analysis.measure.texts.prepare", None)  # neither networks nor the corpus are needed
    again = part(folder, quick=True).sections
    assert [(s.id, s.text, s.data, s.view) for s in again] == [(s.id, s.text, s.data, s.view) for s in found]


def test_sample_py_is_said_to_draw_the_same_texts_where_it_does(folder):
    """Of swept rates, sample.py takes each head count's own best, the report one for all."""
    (texts,) = [s for s in part(folder).sections if s.id == "texts"]
    assert "sample.py draws the same" in texts.text[0]
    values = {Network(r["run"], r["n_head"], r["seed"]): r for r in texts.data["runs"]}
    swept = texts_section(values, Sampling(), "x", "at learning rate 3e-3")
    assert "sample.py" not in swept.text[0]
    assert "from the same random numbers, all at learning rate 3e-3. " in swept.text[0]


def test_another_corpus_is_said_and_not_measured(trained, tmp_path):
    other = shutil.copytree(trained.path, tmp_path / "other")
    write_checked(other / "environment.json", Experiment.open(other).environment | {"data_hash": "0"})
    found = {s.id: s for s in part(other).sections}
    assert list(found) == ["loss", "relations", "texts", "cost", "explorer", "unmeasured", "curves"]
    assert "no longer the one" in found["unmeasured"].text[0]


def swept(folder, diverging):
    """Runs at 1e-3 and 3e-3, where the loss is lower but `diverging` runs diverged."""
    experiment = write_experiment(folder, heads=(1, 16), rates=(1e-3, 3e-3), final=lambda r: 2.2 - 50 * r.learning_rate)
    for r in experiment.runs:
        if r.learning_rate == 3e-3 and diverging(r):
            write_metrics(r, [*r.metrics()[:-1], {"iter": 200, "val_loss": None, "diverged": 110}])
    return folder


@pytest.mark.parametrize("seeds", [(0, 1, 2), (1,)])
def test_all_else_is_told_of_a_rate_that_lost_no_head_count_and_no_seed(tmp_path, seeds):
    """What is left at a rate where one head diverged says nothing of what H does, however low its loss is."""
    made = part(swept(tmp_path / "x", lambda r: r.n_head == 1 and r.seed in seeds), quick=True)
    (relations,) = [s for s in made.sections if s.id == "relations"]
    assert {h: list(of) for h, of in relations.data["loss"]["local"].items()} == {1: [0, 1, 2], 16: [0, 1, 2]}
    assert told_of(made.summary["groups"])["learning_rate"] == 1e-3
    untuned = made.summary | {"tuned": []}
    assert verdict_of(untuned) == made.summary["groups"][0]["verdict"]


def captions(section):
    return [shown.caption for shown in [*section.pictures, *section.tables]]


def test_where_rates_were_swept_titles_captions_and_the_terminal_say_which(tmp_path):
    """Three tables under one caption are of any rate."""
    made = part(swept(tmp_path / "x", lambda r: False), quick=True)
    titles = [s.title for s in made.sections]
    assert titles[1:4] == [
        "Does H matter, and how sure is that at learning rate 1e-3?",
        "Does H matter, and how sure is that at learning rate 3e-3?",
        "For which relations at learning rate 3e-3?",
    ]
    tuned, low, high, relations, *_, curves = made.sections
    every = [caption for s in made.sections for caption in captions(s)]
    assert len(set(titles) | set(every)) == len(titles) + len(every)
    assert all(caption.startswith("At learning rate 1e-3, ") for caption in captions(low))
    assert all(caption.startswith("At learning rate 3e-3, ") for caption in captions(high) + captions(relations))
    assert [caption[:24] for caption in captions(curves)[::2]] == [
        "At learning rate 1e-3, l",
        "At learning rate 3e-3, l",
    ]
    assert sum(caption.startswith("With each H at its best learning rate, ") for caption in captions(tuned)) == 2
    text = " ".join(report_text([made], [], 100).split())
    assert text.count("At learning rate 1e-3, validation loss (nats per token) by number of heads") == 1
    alone = part(write_experiment(tmp_path / "y").path, quick=True)
    assert not [c for s in alone.sections for c in captions(s) if "learning rate 1e-3" in c]


def test_the_opening_of_tuned_rates_has_the_losses_that_are_compared(tmp_path):
    """At 3e-3 the loss of H = 16 is lower in seed 2 alone, which the other seeds do not choose for it."""

    def final(r):
        loss = 2.2 + 0.01 * r.seed - 50 * r.learning_rate
        return loss if r.n_head == 1 or r.learning_rate == 1e-3 else loss + (-0.05 if r.seed == 2 else 0.3)

    made = part(write_experiment(tmp_path / "x", heads=(1, 16), rates=(1e-3, 3e-3), final=final).path, quick=True)
    assert made.summary["tuned"][0]["chosen"][16] == {0: 1e-3, 1: 1e-3, 2: 1e-3}
    assert made.opening.text[0].endswith(" It is 2.0600 at H = 1 and 2.1600 at H = 16.")


def test_a_weight_decay_is_said_where_several_were_swept():
    runs = sweep({1: 0, 4: 0.1}) + sweep({1: 0, 4: 0.1}, weight_decay=0.2)
    shown = captions(curves_section(Study("x", ["runs/x"], 64, 2, 8, 1000, 0.5, {}, runs, [])))
    assert [caption[:46] for caption in shown[::2]] == [
        "At learning rate 1e-3 with weight decay 0.1, l",
        "At learning rate 1e-3 with weight decay 0.2, l",
    ]


def test_of_rates_that_are_whole_all_else_is_told_of_the_one_with_the_lowest_loss(tmp_path):
    made = part(swept(tmp_path / "x", lambda r: False), quick=True)
    assert told_of(made.summary["groups"])["learning_rate"] == 3e-3


def test_the_overview_draws_every_head_count_against_the_named_reference(tmp_path):
    """Only its pairs are in the verdicts: against the smallest H there would be one point."""
    folders = [write_experiment(tmp_path / name, (1, 4, 16), batch_size=b).path for name, b in (("a", 8), ("b", 16))]
    for reference, labels in ((None, ["H = 4", "H = 16"]), (4, ["H = 1", "H = 16"])):
        studies, _ = collect(folders)
        parts = [study_plan(s, [Experiment.open(s.folders[0])], reference, True, "cpu").make() for s in studies]
        (picture,) = overview(parts)[0].sections[0].pictures
        left, _ = picture.draw().axes
        assert left.get_legend_handles_labels()[1] == labels
        assert ("loss − loss at H = 4, within" in picture.caption) == (reference == 4)
        assert ("at H = 4\n" in left.get_ylabel()) == (reference == 4)
        assert ("at the smallest H" in picture.caption and "at the smallest H" in left.get_ylabel()) == (not reference)


def test_the_overview_says_at_which_learning_rate_the_studies_are_compared(tmp_path):
    one = {"rates": (1e-3,), "batch_size": 8}, {"rates": (1e-3,), "batch_size": 16}
    two = {"rates": (1e-3, 3e-3), "batch_size": 4}, {"rates": (1e-3, 3e-3), "batch_size": 2}
    at, tuned, mixed = (
        overview([part(write_experiment(tmp_path / f"{i}{j}", **of).path, True) for j, of in enumerate(each)])[0]
        for i, each in enumerate((one, two, (one[0], two[0])))
    )
    assert "within itself, at learning rate 1e-3, seeds paired" in at.sections[0].text[0]
    assert "within itself, each H at its own best learning rate, seeds paired" in tuned.sections[0].text[0]
    assert (
        mixed.sections[0]
        .text[0]
        .endswith(
            "The learning rates: batch size = 4, each H at its own best learning rate; "
            "batch size = 8, at learning rate 1e-3."
        )
    )


def test_a_study_without_a_trend_is_not_left_out_of_the_overview_in_silence(tmp_path):
    made = [part(write_experiment(tmp_path / n, batch_size=b).path, True) for n, b in (("a", 8), ("b", 16), ("c", 4))]
    alone = part(write_experiment(tmp_path / "d", heads=(4,), batch_size=2).path, quick=True)
    assert overview(made)[0].notes == []
    (found,) = overview([*made, alone])
    assert found.notes == ["Not in the overview, as no trend in H could be estimated there: d"]
    assert [row["label"] for row in found.sections[0].data["studies"]] == ["4", "8", "16"]


def test_a_section_that_fails_says_why_in_its_place(caplog):
    def fail():
        raise ValueError("vmin must be positive")

    assert attempt("a", "A", lambda: None) == []
    (section,) = attempt("a", "Title", fail)
    assert (section.id, section.title) == ("a", "Title")
    assert section.text == ["This cannot be shown: ValueError: vmin must be positive"]
    assert "Title" in caplog.text

    def refuse():
        raise InputError("runs/x: every checkpoint is damaged")

    assert attempt("a", "A", refuse)[0].text == ["This cannot be shown: runs/x: every checkpoint is damaged."]
    whole = Section("b", "B", pictures=[Picture("bad", "", "", fail)], tables=[Table("t", "", ["a"], [["1"]])])
    ((shown,), drawn) = draw([Part("x", "x", [], [], [whole])], False)
    assert drawn == {}
    assert shown.sections[0].text == ["The figure bad cannot be drawn: ValueError: vmin must be positive"]
    assert shown.sections[0].tables == whole.tables


def test_ids_occur_once_whatever_the_sections_are_called():
    def one():
        return Section("loss", "", pictures=[Picture("loss", "", "", None)], tables=[Table("loss", "", [], [])])

    parts = distinct([Part("a", "", [], [], [one(), one()]), Part("b", "", [], [], [one()])])
    sections = [section for p in parts for section in p.sections]
    for ids in ([s.id for s in sections], [s.pictures[0].id for s in sections], [s.tables[0].id for s in sections]):
        assert ids == ["loss", "loss-2", "loss-3"]


number = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1e-300, -1e-12, 5.0]))
quick = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],  # figures take seconds: what fails is shown as it was drawn
)


@st.composite
def measured(draw):
    """What the measures of heads and ablation may return, however untrained or broken the network."""
    layers, seeds = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    results = {}
    for h in draw(st.sampled_from([[1], [1, 2], [4], [1, 3, 6]])):

        def array(*shape):
            return np.array([draw(number) for _ in range(min(4, math.prod(shape)))])

        def values(*shape):
            return np.resize(array(*shape), shape).tolist()

        results[h] = {
            seed: {name: values(layers, h) for name in (*MEASURES, *RANKS, "alone")}
            | {"similarity": values(layers, h, h), "queries": 3, "loss": draw(number), "tokens": 9}
            | {"order": [[0, 0]] * (layers * h), "ablated": [0, layers * h], "cumulative": values(2)}
            for seed in range(seeds)
        }
    return results


@quick
@given(measured())
def test_degenerate_heads_are_drawn_and_told(results):
    """A pilot's ablation can lower the loss everywhere: no value is above 0."""
    for section in (heads_section(results, 60, 8, "x", "a text"), ablation_section(results, "x", "a text")):
        json.dumps(section.data, allow_nan=False)
        for picture in section.pictures:
            picture.draw().draw_without_rendering()


loss = st.one_of(st.floats(0, 12), st.sampled_from([math.nan, math.inf, 500.0, 0.0, 2.0, 2.0]))


@st.composite
def runs(draw):
    count, made = draw(st.integers(1, 3)), []
    for h in draw(st.sampled_from([[1], [1, 4], [1, 4, 16]])):
        for seed in range(draw(st.integers(1, 3))):
            curve = [draw(loss) for _ in range(count)]
            lost = draw(st.sampled_from([{}, {}, {}, {"diverged": 1}, {"finished": False}]))
            values = {"iters": list(range(0, 10 * count, 10)), "val_loss": curve, "relations": {"local": curve[::-1]}}
            values |= {"train_loss": [draw(loss)] * 20, "grad_norm": [draw(st.sampled_from([0.0, 1.0, math.nan]))] * 20}
            made.append(run(h, seed, 2.0, **values | lost))
    return made


@quick
@given(runs())
def test_made_up_metrics_are_told_and_drawn_or_said_to_be_left_out(made):
    study = Study("x", ["runs/x"], 64, 2, 8, 1000, 0.5, {}, made, [])
    sections = [curves_section(study)]
    verdicts = [row["verdict"] for row in summarize(study)["groups"]]
    for verdict, group in zip(verdicts, study.groups().values(), strict=True):
        sections.append(opening("x", [], final_losses(by_head(group)), verdict, "x"))
        sections += [loss_section(study, group, "x", None), relation_section(group, None, "x")]
    for section in filter(None, sections):
        json.dumps(section.data, allow_nan=False)
        for picture in section.pictures:
            picture.draw().draw_without_rendering()


def test_chance_levels_are_those_of_uniform_attention():
    """Independent reference: the measures' definitions, summed over queries one by one."""
    queries = range(2, 16)
    level = uniform(16)
    assert level["distance"] == pytest.approx(np.mean([np.mean([q - k for k in range(q + 1)]) for q in queries]))
    assert level["entropy"] == pytest.approx(np.mean([math.log(q + 1) for q in queries]))
    assert level["previous"] == pytest.approx(np.mean([1 / (q + 1) for q in queries]))
    assert level["induction"] == pytest.approx(np.mean([1 / (q + 1) for q in range(8, 16)]))
