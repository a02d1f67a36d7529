"""What the programs do, from Python; and the example of docs/python.md, as it stands there."""

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data.tokenizers import load_tokenizer
from errors import InputError
from experiment.texts import text_of
from headcount import load, train
from tests.analysis.synthetic import write_experiment, write_metrics
from tests.conftest import config_yaml, small_config
from training.run import train_experiment

ROOT = Path(__file__).parent.parent.parent


def test_importing_is_light():
    code = "import sys; from headcount import load; assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_runs_by_name_text_and_a_table_of_plain_rows(trained):
    runs = load(trained.path, "cpu")
    assert list(runs) == ["h01-seed0", "h01-seed1", "h04-seed0", "h04-seed1"]
    run = runs["h04-seed0"]
    texts = run.generate("The old", 12, num_samples=2, seed=3)
    assert len(texts) == 2
    assert texts[0] != texts[1]
    assert all(text.startswith("The old") for text in texts)
    assert texts == load(trained.path, "cpu")["h04-seed0"].generate("The old", 12, num_samples=2, seed=3)
    assert run.generate(max_new_tokens=3) != [""]
    rows = runs.metrics()
    last = rows[-1]
    assert (last["run"], last["n_head"], last["seed"], last["iter"]) == ("h04-seed1", 4, 1, 12)
    assert last["val_loss_semantic"] == trained.runs[-1].metrics()[-1]["val_loss_by_relation"]["semantic"]
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
    with pytest.raises(KeyError, match="it has h01-seed0"):
        runs["h02-seed0"]
    assert runs.get("h02-seed0") is None


def test_runs_print_select_and_end_as_a_table_says(trained):
    runs = load(trained.path, "cpu")
    rows = runs.final()
    last = trained.runs[2].metrics()[-1]["val_loss"]
    assert rows[2]["run"] == "h04-seed0"
    assert rows[2]["val_loss"] == last
    assert rows[2]["best_val_loss"] <= last
    assert rows[2]["bits_per_byte"] == pytest.approx(last * trained.bits_per_nat)
    assert {"run", "n_head", "seed", "learning_rate", "weight_decay", "iter"} <= rows[2].keys()
    assert len(repr(runs).splitlines()) == 5
    assert f"{last:.4f}" in repr(runs)
    with pytest.raises(InputError, match="n_head must be a number"):
        runs.select(n_head="4")
    assert list(runs.select(n_head=4)) == ["h04-seed0", "h04-seed1"]
    assert list(runs.select(n_head=[1, 4], seed=1, learning_rate=3e-3)) == ["h01-seed1", "h04-seed1"]
    assert [row["iter"] for row in runs.select(4, 0).metrics("train")] == [2, 4, 6, 8, 10, 12]
    assert all(row.keys() >= {"lr", "train_loss"} and "val_loss" not in row for row in runs.metrics("train"))


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({(1e-3, 0): 2.0, (1e-3, 1): 2.2, (1e-2, 0): 1.9}, 1e-3),  # the better rate lacks a seed
        ({(1e-3, 0): 2.0, (1e-3, 1): 2.2, (1e-2, 0): 1.9, (1e-2, 1): None}, 1e-3),
        ({(1e-3, 0): 3.0, (1e-3, 1): None, (1e-2, 0): 2.0, (1e-2, 1): None}, 1e-2),  # a seed that no rate has
        ({(1e-3, 0): None, (1e-3, 1): None, (1e-2, 0): 2.0, (1e-2, 1): None}, 1e-2),
    ],
)
def test_the_best_setting_is_one_of_those_with_the_most_seeds_that_ended(tmp_path, monkeypatch, losses, best):
    write_experiment(tmp_path / "x", heads=[4], seeds=[0, 1], rates=[1e-3, 1e-2])
    monkeypatch.setattr("experiment.loaded.load_tokenizer", lambda path: None)
    monkeypatch.setattr("experiment.loaded.start_tokens", lambda *of: [0])
    runs = load(tmp_path / "x", "cpu")
    held = {name: run for name, run in runs.items() if (run.axes["learning_rate"], run.axes["seed"]) in losses}
    for run in held.values():
        loss = losses[run.axes["learning_rate"], run.axes["seed"]]
        write_metrics(run.source, [{"iter": 200} | ({"diverged": 3} if loss is None else {"val_loss": loss})])
    chosen = dataclasses.replace(runs, runs=held).best()
    assert {run.axes["learning_rate"] for run in chosen.values()} == {best}


def test_a_text_without_a_prompt_begins_at_a_line_where_the_corpus_is_a_file_and_at_a_document_elsewhere(
    tmp_path, trained
):
    (tmp_path / "one.txt").write_text("to be or not to be\n" * 80)
    values = {"source": "text", "path": str(tmp_path / "one.txt"), "vocab_size": 262}
    run = load(train_experiment(small_config(data=values, max_iters=2), tmp_path / "x", "cpu").path, "cpu")["h04-seed0"]
    assert run.tokenizer.eot is not None
    assert run.start == run.tokenizer.encode("\n")
    tales = load(trained.path, "cpu")["h04-seed0"]
    assert tales.start == [tales.tokenizer.eot]


def test_half_a_character_is_no_end_of_a_text(trained):
    tokenizer = load_tokenizer(trained.path / "tokenizer")
    tokens = tokenizer.encode("a café")
    assert text_of(tokenizer, tokens) == "a café"
    assert text_of(tokenizer, tokens[:-1]) in ("a caf", "a ca")
    assert text_of(tokenizer, [*tokens, tokenizer.eot]) == "a café"
    assert text_of(tokenizer, tokens, stop="ca") == "a "


def test_a_config_of_values_trains_as_a_file_does(tmp_path):
    values = dataclasses.asdict(small_config(max_iters=2, sweep={"n_head": [1], "seed": [0]}))
    runs = train(values, {"sweep.n_head": (2, 4), "sweep.seed": range(2)}, tmp_path / "x", "cpu")
    assert list(runs) == ["h02-seed0", "h02-seed1", "h04-seed0", "h04-seed1"]
    for overrides, named in (
        ({"train.max_iters": "2"}, "overrides: train.max_iters must be an integer, got '2'"),
        ({"train.max_itres": 2}, "did you mean train.max_iters"),
        ({"sweep.n_head": 4}, "sweep.n_head must be a list of integers, got 4"),
    ):
        with pytest.raises(InputError, match=named):
            train(values, overrides, tmp_path / "y", "cpu")
    with pytest.raises(InputError, match="config: model must be a mapping"):
        train({"model": 3}, None, tmp_path / "y", "cpu")


def test_generate_checks_its_settings_as_sample_py_does(trained):
    run = load(trained.path, "cpu")["h04-seed0"]
    assert run.generate("The", 6, temperature=0) == run.generate("The", 6, greedy=True)
    for wrong in (
        {"temperature": -1}, {"temperature": math.nan}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": 0}, {"top_k": True},
        {"max_new_tokens": -1}, {"num_samples": 0}, {"seed": -1}, {"greedy": 1},
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"generate: {next(iter(wrong))} must be"):
            run.generate("The", **wrong)


def test_running_with_a_cache_gives_the_hook_points_of_the_pass_that_gave_the_logits(trained):
    run = load(trained.path, "cpu")["h04-seed0"]
    text = "The old man had a boat."
    logits, seen = run.run_with_cache(text)
    n = len(run.tokenizer.encode(text))
    assert seen["h.0.attn.q"].shape == (4, n, 8)
    assert seen["h.0.attn.pattern"].shape == (4, n, n)
    assert torch.allclose(seen["h.0.attn.pattern"].sum(-1), torch.ones(4, n))
    z = seen["h.0.attn.pattern"] @ seen["h.0.attn.v"]
    assert torch.allclose(z, seen["h.0.attn.z"], atol=1e-6)
    concat = z.transpose(0, 1).flatten(1)  # (T, D)
    assert torch.allclose(concat @ run.model.h[0].attn.c_proj.weight[0], seen["h.0.attn.out"], atol=1e-5)
    assert torch.equal(run.logits(text), logits)


def test_training_from_python_is_train_py(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(config_yaml(small_config()))
    changes = {"train.max_iters": 2, "sweep.n_head": [2], "train.min_lr": None}
    runs = train(file, changes, tmp_path / "x", "cpu")
    assert list(runs) == ["h02-seed0", "h02-seed1"]
    assert runs.metrics()[-1]["iter"] == 2


def test_the_python_example_of_the_docs_runs(tmp_path, trained, monkeypatch):
    """The block that begins with the import of load, in a folder whose runs/quickstart is a small sweep."""
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import load" in block]
    assert blocks
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(trained.path)
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README", "exec"), {})
