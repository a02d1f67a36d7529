"""What the explorer shows is what the network does, and it never outgrows the page."""

import base64
import math

import numpy as np
import pytest
import torch

from analysis.collect import collect
from analysis.report.viewer import LENGTH, PASSAGES, CannotLook, cut, fit, look, pack
from data.dataset import prepare
from experiment.loaded import Runs, load_stack
from experiment.samples import Samples
from experiment.sampling import Sampling


@pytest.fixture(scope="module")
def seen(trained):
    (study,), _ = collect([trained.path])
    return look(study, [trained], 10**6, "cpu")


def unpack(text: str, heads: int, length: int) -> np.ndarray:
    """What the page's script does: bytes of lower triangles → (H, T, T)."""
    weights = np.frombuffer(base64.b64decode(text), np.uint8).reshape(heads, -1) / 255
    full = np.zeros((heads, length, length))
    for query in range(length):
        full[:, query, : query + 1] = weights[:, query * (query + 1) // 2 : (query + 1) * (query + 2) // 2]
    return full


def test_patterns_are_the_softmax_of_the_networks_own_queries_and_keys(trained, seen):
    """Independent reference: q and k taken from c_attn's output, softmax written out."""
    tokens = cut(prepare(trained.config.data), PASSAGES, trained.config.model.block_size)[1]
    for shown, run in zip(seen["runs"], (trained.runs[0], trained.runs[2]), strict=True):
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
    tokenizer = prepare(trained.config.data).tokenizer
    for passage, tokens in zip(seen["passages"], cut(prepare(trained.config.data), PASSAGES, 32), strict=True):
        assert tokens[0] == tokenizer.eot  # a passage begins where a document does
        assert "".join(passage["tokens"]) == tokenizer.decode([t for t in tokens if t != tokenizer.eot])


def test_samples_are_those_of_sample_py(trained, seen):
    """Same prompt, seed and settings: the very texts that sample.py prints for each H."""
    settings = Sampling(2, seen["sampling"]["tokens"], temperature=seen["sampling"]["temperature"])
    drawn = Samples.draw(Runs.open(trained.path, "cpu").best(), None, settings)
    shown = [[text.removesuffix("\ufffd") for text in run["texts"]] for run in seen["samples"][0]["runs"]]
    assert shown == drawn.texts
    assert seen["samples"][0]["prompt"] == ""
    assert seen["samples"][1]["prompt"]


@pytest.mark.parametrize(("heads", "limit"), [(2, 8), (62, 64), (31 * 4, 64), (60 * 6, 64), (200 * 12, 64)])
def test_passages_get_fewer_and_shorter_to_keep_to_the_budget(heads, limit):
    count, length = fit(1_000_000, heads, limit)
    assert 8 <= length <= limit <= LENGTH
    assert count * heads * (length * (length + 1) // 2) * 4 / 3 <= 1_000_000
    assert (count, length) == (PASSAGES, limit) or heads > 62


def test_packing_keeps_the_ends_of_the_scale():
    pattern = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    assert list(base64.b64decode(pack(pattern))) == [255, 64, 191]


def test_no_weights_and_another_corpus_are_said(trained, monkeypatch):
    (study,), _ = collect([trained.path])
    monkeypatch.setattr("experiment.checkpoint.load_weights", lambda run, iteration: None)
    with pytest.raises(CannotLook, match="not trained yet"):
        look(study, [trained], 10**6, "cpu")
    (study,), _ = collect([trained.path])
    monkeypatch.setattr("analysis.report.viewer.prepare", lambda config: type("Other", (), {"hash": "0"}))
    with pytest.raises(CannotLook, match="no longer the one"):
        look(study, [trained], 10**6, "cpu")
