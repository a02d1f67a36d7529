"""Measurements of a sweep really trained: taken together, kept, made again when they must be, and never raising."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.measure.cost import peak_allocation
from analysis.measure.kept import Kept, weights_checksum
from analysis.measure.measurements import Measurements, Network
from analysis.measure.relations import continuation_scores, forced_choice
from analysis.measure.texts import CannotMeasure, StoryText
from data.dataset import prepare
from data.tales import Pair
from data.tokenizers import CharTokenizer
from experiment.folder import Experiment
from experiment.loaded import load_stack
from files import write_checked
from model.config import ModelConfig
from model.gpt import GPT


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained.path, tmp_path / "small")


def measurements(folder, runs=None, **settings):
    experiment = Experiment.open(folder)
    return Measurements.of_runs(experiment, runs or experiment.runs, "cpu", **settings)


def test_every_measure_is_taken_once_and_kept(folder):
    done = []
    found = measurements(folder, progress=done.append)
    assert found.measures == ["relations", "texts", "heads", "ablation"]
    taken = {}
    for name in found.measures:
        expected = found.work(name)
        done.clear()
        taken[name] = found.take(name)
        assert expected > 0
        assert sum(done) == pytest.approx(expected)
        assert taken[name].notes == []
        assert {h: list(of) for h, of in taken[name].values.items()} == {1: [0, 1], 4: [0, 1]}
        json.dumps(taken[name].values, allow_nan=False)
    costs = found.costs()
    again = measurements(folder, quick=True)  # runs no network
    assert {name: again.take(name) for name in again.measures} == taken
    assert again.costs() == costs
    full = measurements(folder)
    assert [full.work(name) for name in (*full.measures, "cost")] == [0, 0, 0, 0, 0]


def test_only_what_is_missing_is_measured_and_alone_it_is_what_it_was(folder):
    whole = measurements(folder).take("ablation").values
    kept = folder / "h04-seed1" / "analysis" / "ablation.json"
    kept.unlink()
    part = measurements(folder)
    loaded = []
    part.load = lambda networks, attention, load=part.load: loaded.append(networks) or load(networks, attention)
    found = part.take("ablation").values
    assert [[n.name for n in stack] for stack in loaded] == [["h04-seed1"]]
    assert found[4][0] == whole[4][0]
    assert np.allclose(found[4][1]["alone"], whole[4][1]["alone"], atol=2e-6)


def test_quick_runs_no_network(folder):
    found = measurements(folder, quick=True)
    assert [found.take(name).values for name in found.measures] == [{}, {}, {}, {}]
    assert found.costs() is None
    assert not (folder / "h01-seed0" / "analysis").exists()


def test_another_corpus_is_said_and_not_measured(folder):
    write_checked(folder / "environment.json", Experiment.open(folder).environment | {"data_hash": "0"})
    found = measurements(folder).take("heads")
    assert found.values == {}
    assert found.notes == [
        "Heads could not be measured: the corpus is no longer the one that was trained on; put it back."
    ]


def test_what_is_kept_is_used_until_weights_version_or_settings_change_or_it_is_damaged(folder):
    run = Experiment.open(folder).runs[0]

    def kept(version=1, weights="a", **settings):
        return Kept.of(run, weights, "count", version, settings)

    assert kept().read() is None
    kept().write({"n": [1, 2]})
    assert kept().read() == {"n": [1, 2]}
    assert [kept(version=2).read(), kept(weights="b").read(), kept(a=1).read()] == [None] * 3
    kept().file.write_text(kept().file.read_text()[:-20])
    assert kept().read() is None
    before = weights_checksum(run)
    shutil.rmtree(run.checkpoints()[0])  # an older checkpoint has other weights
    assert weights_checksum(run) != before


def test_peak_memory_of_planted_allocations_is_counted():
    size = 250_000  # fp32: 1 MB
    assert peak_allocation(lambda: [torch.empty(size) for _ in range(3)]) == 3 * 4 * size
    one_by_one = peak_allocation(lambda: [torch.empty(size).sum() for _ in range(3)])
    assert 4 * size <= one_by_one < 4 * size + 1000


def test_a_forced_choice_is_the_likelier_continuation(trained):
    """Independent reference: the probabilities of the tokens multiplied up one at a time."""
    runs, tokenizer = trained.runs, prepare(trained.config.data).tokenizer
    model = load_stack(runs, trained.config.model, torch.device("cpu"))
    texts = [("Once there", " was a", " zebra zebra"), ("The", " end.", " end"), ("Once", " b", " c")]
    for (context, *ends), scores in zip(texts, continuation_scores(model, tokenizer, texts).movedim(2, 0), strict=True):
        for end, of_runs in zip(ends, scores, strict=True):
            seen, expected = [tokenizer.eot, *tokenizer.encode(context)], torch.zeros(len(runs))
            for token in tokenizer.encode(end):
                with torch.no_grad():
                    logits = model(torch.tensor([[seen]]).expand(len(runs), -1, -1))[:, 0, -1]
                expected += logits.log_softmax(-1)[:, token]
                seen.append(token)
            assert of_runs.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    right, wrong = (
        Pair("local", "Once there", " was a", " zebra zebra"),
        Pair("semantic", "Once", " zebra zebra", " was"),
    )
    rest = [Pair(r, "a", " b", " b") for r in ("long_range", "syntactic")]
    got = forced_choice(model, tokenizer, [right, wrong, *rest])
    assert got == [{"local": 1.0, "long_range": 0.5, "semantic": 0.0, "syntactic": 0.5}] * len(runs)


def test_a_context_that_does_not_fit_is_cut_alike_for_both_continuations(trained):
    tokenizer, length = prepare(trained.config.data).tokenizer, trained.config.model.block_size
    model = load_stack(trained.runs[:1], trained.config.model, torch.device("cpu"))
    ends = " was a", " zebra zebra"
    seen = tokenizer.encode("Once there was a cat. " * length)[
        -(length + 1 - max(len(tokenizer.encode(e)) for e in ends)) :
    ]
    short = continuation_scores(model, tokenizer, [("Once there was a cat. " * length, *ends)])
    for end, score in zip(ends, short.flatten().tolist(), strict=True):
        tokens = torch.tensor([seen + tokenizer.encode(end)])
        with torch.no_grad():
            logs = model(tokens[None, :, :-1])[0, 0].log_softmax(-1)
        asked = range(len(seen) - 1, tokens.shape[1] - 1)
        assert score == pytest.approx(sum(float(logs[i, tokens[0, i + 1]]) for i in asked), rel=1e-4)


DEGENERATE = {
    "one head": {"n_head": 1},
    "one token of context": {"block_size": 1},
    "three tokens of context": {"block_size": 3},
    "four tokens of context": {"block_size": 4},
    "a feature a head": {"n_head": 8, "n_embd": 8},
    "weights of zero": {"scale": 0.0},
    "weights that overflow": {"scale": 1e30},
    "weights that are not numbers": {"scale": math.nan},
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_networks_are_measured_or_said_to_be_none(trained, case):
    """Whatever a network is, a measure gives finite numbers or a sentence that says why there are none."""
    settings = {"n_head": 2, "n_embd": 8, "block_size": 16, "scale": 1.0} | DEGENERATE[case]
    config = ModelConfig(n_layer=1, n_embd=settings["n_embd"], block_size=settings["block_size"])
    tokenizer = prepare(trained.config.data).tokenizer

    def load(networks, attention):
        heads = [network.n_head for network in networks]
        model = GPT(replace(config, attention=attention), tokenizer.vocab_size, heads).eval()
        model.init_weights(range(len(networks)))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter[[network.seed == 0 for network in networks]] *= settings["scale"]  # its companion is sound
        return model

    networks = [Network(f"run {seed}", settings["n_head"], seed) for seed in range(2)]
    text = StoryText(tokenizer, config.block_size)
    taken = Measurements(
        networks, config, tokenizer.vocab_size, text, load, torch.device("cpu"), training=trained.config
    )
    for name in taken.measures:
        found = taken.take(name)
        json.dumps(found.values, allow_nan=False)
        measured = sum(len(of) for of in found.values.values())
        if name == "heads" and config.block_size < 4:
            assert found.notes == ["Heads could not be measured: it takes 4 tokens of context and of text at least."]
        elif settings["scale"] in (0.0, 1.0):
            assert (measured, found.notes) == (2, [])
        else:
            assert measured + len(found.notes) == 2
            assert all(note.startswith("run 0: ") for note in found.notes)


def test_stories_are_measured_without_the_characters_that_a_tokenizer_does_not_know():
    text = StoryText(CharTokenizer("\n abcdefghijklmnopqrstuvwxyz.", has_eot=False), 64)
    x, y = text.windows("heads")
    assert x.shape == (16, 64)
    assert (y >= 0).all()
    with pytest.raises(CannotMeasure, match="does not know"):
        StoryText(CharTokenizer("日本語", has_eot=False), 64).windows("heads")
