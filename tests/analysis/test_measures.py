"""The one entry, on a sweep really trained: every section comes, is kept, and is made again when it must be."""

import json
import shutil

import pytest
import torch
from analysis.report.measured import sections

from analysis.collect import collect
from analysis.measure.cost import peak_allocation
from analysis.measure.kept import cached
from analysis.measure.relations import continuation_scores, forced_choice
from data.dataset import prepare
from data.tales import Pair
from experiment.folder import Experiment
from experiment.loaded import load_stack
from files import write_checked


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """As little of each measurement as shows that it is made."""
    for name, value in {
        "relations.PAIRS": 8,
        "relations.SAMPLE_TOKENS": 40,
        "cost.ROUNDS": 1,
        "cost.SECONDS": 0,
    }.items():
        monkeypatch.setattr(f"analysis.measure.{name}", value)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    return shutil.copytree(trained.path, tmp_path_factory.mktemp("measured") / "small")


def made(folder, **settings):
    (study,), _ = collect([folder])
    return sections(study, [Experiment.open(f) for f in study.folders], **settings)


def test_every_question_is_answered_once_and_kept(folder, caplog):
    found = made(folder)
    assert [s.id for s in found] == ["loss", "relations", "cost", "heads", "ablation"]
    assert any("heads: h04-seed1" in line for line in caplog.messages)
    ids = [part.id for s in found for part in (*s.pictures, *s.tables)]
    assert len(ids) == len(set(ids))
    for section in found:
        assert section.text
        json.dumps(section.data, allow_nan=False)
        assert all(len(row) == len(table.head) for table in section.tables for row in table.rows)
        for picture in section.pictures:
            picture.figure.draw_without_rendering()
    caplog.clear()
    again = made(folder)
    assert caplog.messages == []
    assert [s.text for s in again] == [s.text for s in found]


def test_quick_runs_no_network_and_a_suffix_ends_every_id(folder, caplog):
    found = made(folder, quick=True, suffix="-2")
    assert [s.id for s in found] == ["loss-2", "relations-2", "cost-2"]
    assert caplog.messages == []
    assert all(part.id.endswith("-2") for s in found for part in (*s.pictures, *s.tables))


def test_another_corpus_is_said_and_not_measured(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    write_checked(other / "environment.json", Experiment.open(other).environment | {"data_hash": "0"})
    found = made(other)
    assert [s.id for s in found] == ["loss", "relations", "cost", "unmeasured"]
    assert "no longer the one" in found[-1].text[0]


def test_what_is_kept_is_used_until_weights_version_or_settings_change_or_it_is_damaged(trained, tmp_path):
    run = Experiment.open(shutil.copytree(trained.path, tmp_path / "x")).runs[0]
    count = iter(range(10))

    def take(version=1, **settings):
        return cached(run, "count", version, settings, lambda: {"n": next(count)})["n"]

    assert [take(), take(), take(version=2), take(version=2, a=1), take(version=2, a=1)] == [0, 0, 1, 2, 2]
    file = run.path / "analysis" / "count.json"
    file.write_text(file.read_text()[:-20])
    assert take(version=2, a=1) == 3
    shutil.rmtree(run.checkpoints()[0])  # an older checkpoint has other weights
    assert [take(version=2, a=1), take(version=2, a=1)] == [4, 4]


def test_peak_memory_of_planted_allocations_is_counted():
    size = 250_000  # fp32: 1 MB
    assert peak_allocation(lambda: [torch.empty(size) for _ in range(3)]) == 3 * 4 * size
    one_by_one = peak_allocation(lambda: [torch.empty(size).sum() for _ in range(3)])
    assert 4 * size <= one_by_one < 4 * size + 1000


def test_a_forced_choice_is_the_likelier_continuation(trained):
    """Independent reference: the probabilities of the tokens multiplied up one at a time."""
    run, tokenizer = trained.runs[0], prepare(trained.config.data).tokenizer
    model = load_stack([run], trained.config.model, torch.device("cpu"))
    texts = [("Once there", " was a"), ("Once there", " zebra zebra"), ("The", " end.")]
    for (context, end), score in zip(texts, continuation_scores(model, tokenizer, texts), strict=True):
        seen, expected = [tokenizer.eot, *tokenizer.encode(context)], 0.0
        for token in tokenizer.encode(end):
            with torch.no_grad():
                expected += float(model(torch.tensor([[seen]]))[0, 0, -1].log_softmax(-1)[token])
            seen.append(token)
        assert score == pytest.approx(expected, rel=1e-4)
    right, wrong = (
        Pair("local", "Once there", " was a", " zebra zebra"),
        Pair("semantic", "Once", " zebra zebra", " was"),
    )
    rest = [Pair(r, "a", " b", " b") for r in ("long_range", "syntactic")]
    got = forced_choice(model, tokenizer, [right, wrong, *rest])
    assert got == {"local": 1.0, "long_range": 0.5, "semantic": 0.0, "syntactic": 0.5}
