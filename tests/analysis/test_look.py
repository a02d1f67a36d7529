"""What the explorer shows is what the network does, and it never outgrows the page."""

import base64
import math
import shutil

import numpy as np
import pytest
import torch

from analysis.measure.measurements import Measurements
from analysis.report.viewer import (
    LENGTH,
    PASSAGES,
    SAMPLING,
    cut,
    fit,
    pack,
    sentence,
    side_by_side,
    view_sections,
)
from data.dataset import prepare
from data.tokenizers import CharTokenizer
from experiment.folder import Experiment
from experiment.loaded import Runs, load_stack
from experiment.samples import Samples


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    return Experiment.open(shutil.copytree(trained.path, tmp_path_factory.mktemp("viewed") / "small"))


@pytest.fixture(scope="module")
def views(folder):
    """What the explorer and the samples show."""
    return [section.view for section in view_sections(Measurements.of_runs(folder, folder.runs, "cpu"))]


@pytest.fixture(scope="module")
def seen(views):
    return views[0]


def unpack(text: str, heads: int, length: int) -> np.ndarray:
    """What the page's script does: bytes of lower triangles → (H, T, T)."""
    weights = np.frombuffer(base64.b64decode(text), np.uint8).reshape(heads, -1) / 255
    full = np.zeros((heads, length, length))
    for query in range(length):
        full[:, query, : query + 1] = weights[:, query * (query + 1) // 2 : (query + 1) * (query + 2) // 2]
    return full


def test_patterns_are_the_softmax_of_the_networks_own_queries_and_keys(trained, seen):
    """Independent reference: q and k taken from c_attn's output, softmax written out."""
    data = prepare(trained.config.data)
    tokens = cut(data.val, data.tokenizer, PASSAGES, trained.config.model.block_size)[1]
    for shown, run in zip(seen["runs"], trained.runs, strict=True):
        assert (shown["name"], shown["n_head"]) == (run.name, run.n_head)
        model = load_stack([run], trained.config.model, torch.device("cpu"))
        attention = model.h[0].attn
        with torch.no_grad():
            x = model.wte(torch.from_numpy(tokens)[None, None]) + model.wpe.weight[:, None, : len(tokens)]
            projected = attention.c_attn(model.h[0].ln_1(x))
        q, k, _ = projected[0, 0].double().numpy().reshape(len(tokens), 3, run.n_head, -1).transpose(1, 2, 0, 3)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        weights = np.exp(scores) * np.tri(len(tokens))
        weights /= weights.sum(-1, keepdims=True)
        got = unpack(shown["patterns"][1][0], run.n_head, len(tokens))
        assert np.abs(got - weights).max() <= 0.5 / 255 + 1e-6


def test_tokens_of_a_passage_are_its_text(trained, seen):
    data = prepare(trained.config.data)
    for passage, tokens in zip(seen["passages"], cut(data.val, data.tokenizer, PASSAGES, 32), strict=True):
        assert tokens[0] == data.tokenizer.eot  # a passage begins where a document does
        assert "".join(passage) == data.tokenizer.decode([t for t in tokens if t != data.tokenizer.eot])


def test_passages_begin_at_a_line_or_else_a_sentence_and_prompts_end_with_one():
    for text, begins in (
        ("one two three\nfour five\n" * 99, ("one", "four")),
        ("One two. Three! " * 99, ("One", "Three")),
    ):
        tokenizer = CharTokenizer("".join(sorted(set(text))), False)
        stream = np.array(tokenizer.encode(text))
        passages = cut(stream, tokenizer, 4, 32)
        assert len(passages) == 4
        for passage in passages[1:]:
            assert tokenizer.decode(passage.tolist()).startswith(begins)
        assert tokenizer.decode(sentence(tokenizer, passages[1])).rstrip().endswith(("three", "five", ".", "!"))
    words = np.array(tokenizer.encode("One two Three " * 9))
    assert tokenizer.decode(sentence(tokenizer, words)).endswith(("One", "two", "Three"))


def test_samples_are_those_of_sample_py(trained, views):
    """Same prompt, seed and settings: the very texts that sample.py prints for each H."""
    drawn = Samples.draw(Runs.open(trained.path, "cpu").first_seeds(), None, SAMPLING)
    first, second = views[1]["samples"]
    assert [["".join(cell) for cell in column] for column in zip(*first["rows"], strict=True)] == drawn.texts
    assert first["prompt"] == ""
    assert second["prompt"]


def test_the_first_word_that_differs_is_found():
    rows = side_by_side("", [["Once upon a time"], ["Once upon the hill"], ["Once upon"]])["rows"]
    assert rows == [[("Once upon", " a", " time"), ("Once upon", " the", " hill"), ("Once upon", "", "")]]
    assert side_by_side("", [["a b"], ["a b"]])["rows"] == [[("a b", "", ""), ("a b", "", "")]]
    assert side_by_side("", [["a b"]])["rows"] == [[("a b", "", "")]]


@pytest.mark.parametrize(("heads", "limit"), [(2, 8), (62, 64), (31 * 4, 64), (60 * 6, 64), (200 * 12, 64)])
def test_passages_get_fewer_and_shorter_to_keep_to_the_budget(heads, limit):
    count, length = fit(1_000_000, heads, limit)
    assert 8 <= length <= limit <= LENGTH
    assert count * heads * (length * (length + 1) // 2) * 4 / 3 <= 1_000_000
    assert (count, length) == (PASSAGES, limit) or heads > 62


def test_packing_keeps_the_ends_of_the_scale():
    pattern = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    assert list(base64.b64decode(pack(pattern))) == [255, 64, 191]


def test_what_was_looked_into_is_shown_without_networks_and_what_was_not_is_said(folder, seen, monkeypatch):
    monkeypatch.setattr("analysis.measure.texts.prepare", None)  # neither networks nor the corpus are needed
    again = view_sections(Measurements.of_runs(folder, folder.runs, "cpu", quick=True))
    assert again[0].view == seen
    shorter = view_sections(Measurements.of_runs(folder, folder.runs, "cpu", quick=True), 100)
    assert [section.id for section in shorter] == ["samples"]  # other passages, which were not looked into
