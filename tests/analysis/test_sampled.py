"""What is said of sampled text is what stands in it, and a planted effect of H comes back as a difference."""

import math
import shutil

import pytest
import torch

from analysis.measure.measurements import Measurements
from analysis.measure.sampled import distinct, repetition, score, text_measures, token_losses, windows
from analysis.sampled import summarize_texts, texts_report, told
from experiment.folder import Experiment
from experiment.loaded import Runs
from experiment.sampling import Sampling


@pytest.mark.parametrize("length", [1, 2, 5, 6, 9, 30])
def test_every_token_is_predicted_once_and_after_half_a_context(length):
    block, predicted = 4, []
    for first, end, done in windows(length, block):
        assert end - first <= block + 1
        new = range(max(done, first) + 1, end)
        assert all(i - first >= min(i, block // 2) for i in new)
        predicted += new
    assert predicted == list(range(1, length))


def test_losses_of_rows_of_any_length_are_those_of_one_pass_over_each(trained):
    runs = Runs.open(trained.path, "cpu").select(seed=0)
    model = runs.stack()
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(300, (n,), generator=generator).tolist() for n in (1, 2, 9, 33, 50)]
    losses = token_losses(model, rows)
    assert [of.shape for of in losses] == [(2, len(row) - 1) for row in rows]
    with torch.no_grad():
        for row, of in zip(rows, losses, strict=True):
            if len(row) < 2:
                continue
            x = torch.tensor(row).expand(2, 1, -1)
            seen = min(len(row) - 1, 32)
            direct = -model(x[..., :seen])[:, 0].log_softmax(-1).gather(-1, x[:, 0, 1 : seen + 1, None])[..., 0]
            assert torch.allclose(of[:, :seen], direct, atol=1e-4)
        last = -model(torch.tensor(rows[-1][16:48]).expand(2, 1, -1))[:, 0].log_softmax(-1)  # the second window
        assert torch.allclose(losses[-1][:, 47], last[:, -1, rows[-1][48]], atol=1e-4)


def test_a_texts_score_is_its_loss_and_its_bytes(trained):
    runs = Runs.open(trained.path, "cpu")
    text = "The old man had a bôat."
    (first, *others) = score(runs, text)
    run = runs["h01-seed0"]
    tokens = run.tokenizer.encode(text)
    logits = run.model(torch.tensor([run.tokenizer.eot, *tokens[:-1]])[None, None])[0, 0]
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(tokens), reduction="sum").item()
    assert first["nats_per_token"] == pytest.approx(nats / len(tokens), abs=1e-4)
    assert first["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text.encode()), abs=1e-4)
    assert first["perplexity"] == pytest.approx(math.exp(nats / len(tokens)), rel=1e-3)
    assert [row["run"] for row in others] == list(runs)[1:]


def test_n_grams_are_counted_as_their_definitions_say():
    assert distinct(["a b a b", "a c"], 1) == 3 / 6
    assert distinct(["a b a b", "a c"], 2) == 3 / 4
    assert distinct(["a"], 2) is None
    assert repetition(["a b c d a b c d", "e f g h", "x"]) == pytest.approx((1 / 5 + 0) / 2)
    assert repetition(["a b"]) is None


def test_runs_of_a_seed_read_each_others_texts(trained):
    runs = Runs.open(trained.path, "cpu")
    measured = text_measures(runs, "", Sampling(3, 12))
    assert [found["run"] for found in measured] == ["h01-seed0", "h04-seed0", "h01-seed1", "h04-seed1"]
    run = runs["h04-seed0"]
    own = [run.generate(max_new_tokens=12, num_samples=3)[i] for i in range(3)]
    assert measured[1]["distinct"]["1"] == distinct(own, 1)
    assert set(measured[1]["log_likelihood"]) == {"1", "4"}
    assert all(value < 0 for value in measured[1]["log_likelihood"].values())
    assert measured[1]["relations"].keys() == {"local", "long_range", "semantic", "syntactic"}
    report = texts_report(summarize_texts(measured), 80)
    assert max(map(len, report.splitlines())) <= 80
    assert "texts of" in report


def test_the_report_measures_the_texts_that_sample_py_scores(trained, tmp_path):
    folder = Experiment.open(shutil.copytree(trained.path, tmp_path / "small"))
    measurements = Measurements.of_runs(folder, folder.runs, "cpu")
    found = measurements.take("texts").values
    for scored in text_measures(Runs.open(trained.path, "cpu"), "", measurements.sampling):
        value = found[scored["n_head"]][scored["seed"]]
        assert value == {name: scored[name] for name in value}


def planted(effect: float, seeds: int) -> list[dict]:
    """Measures of runs in which the share of local relations kept falls by `effect` with each doubling of H."""
    rows = []
    for seed in range(seeds):
        for i, heads in enumerate((1, 2, 4)):
            kept = round(100 * (0.9 - effect * i)) + (seed + i) % 3
            rows.append(
                {
                    "run": f"h{heads}-{seed}",
                    "n_head": heads,
                    "seed": seed,
                    "texts": 8,
                    "relations": {"local": {"kept": kept, "broken": 100 - kept}, "semantic": {"kept": 0, "broken": 0}},
                    "log_likelihood": {"1": -1.0, "2": -1.1, "4": -1.2},
                    "distinct": {1: 0.5 + 0.01 * ((seed + 2 * i) % 3)},
                    "repetition": 0.1,
                }
            )
    return rows


def test_a_planted_difference_is_found_and_none_is_invented():
    found = summarize_texts(planted(0.1, 4))
    assert found["differ"] == {"local": [[2, 1], [4, 1], [4, 2]]}
    assert "local: H = 2 below H = 1; H = 4 below H = 1, 2" in told(found)
    assert found["by_head"]["local"][1]["low"] < 0.91 < found["by_head"]["local"][1]["high"]
    assert "semantic" not in found["by_head"]  # no text had one
    assert summarize_texts(planted(0.0, 4))["differ"] == {}
    alone = summarize_texts(planted(0.1, 1))
    assert alone["tested"] == []
    assert "One seed says nothing of H" in told(alone)
    assert alone["by_head"]["local"][4]["low"] == pytest.approx(0.615, abs=0.02)  # Wilson's of 72 in 100
