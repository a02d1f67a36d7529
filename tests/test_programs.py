"""The three programs as a user runs them: one after the other on one folder, and with mistakes in the command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import compare
import errors
import sample
import train
from tests.conftest import config_yaml, small_config

ROOT = Path(__file__).parent.parent


def program(*argv, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / argv[0]), *map(str, argv[1:])]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment
    )


def test_train_sample_compare_in_a_row(tmp_path, config_file):
    folder = tmp_path / "run"
    trained = program("train.py", config_file, "--out_dir", folder)
    assert trained.returncode == 0, trained.stderr
    assert re.search(r"validation loss in nats per token, mean of 2 seeds\n +iter +H=1 +H=4 +left\n", trained.stdout)
    assert re.search(r"^ *4 +8 +2 +\d\.\d+ ± \d\.\d+", trained.stdout, re.MULTILINE)
    assert f"python sample.py {folder}" in trained.stdout
    assert f"python compare.py {folder}" in trained.stdout

    again = program("train.py", config_file, "--out_dir", folder)
    assert again.returncode == 0
    assert "all 4 runs are finished" in again.stdout

    sampled = program("sample.py", folder, "--max_new_tokens", 20, "--prompt", "Once upon a")
    assert sampled.returncode == 0, sampled.stderr
    assert "H = 1" in sampled.stdout
    assert "H = 4" in sampled.stdout
    assert "relations kept / broken" in sampled.stdout
    assert sampled.stdout.count("Once upon a") == 2

    compared = program("compare.py", folder)
    assert compared.returncode == 0, compared.stderr
    assert (folder / "figures" / "loss-curves.svg").exists()
    assert (folder / "figures" / "loss-curves.png").exists()
    report = program("compare.py", folder, "--json")
    assert json.loads(report.stdout)


def call(capsys, module, name, *argv) -> tuple[int, str, str]:
    """A program's main in this process: exit status, stdout, stderr."""
    capsys.readouterr()
    try:
        status = errors.guard(name, module.main, [str(a) for a in argv])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_training_from_the_command_line_says_what_it_does(capsys, config_file, tmp_path):
    status, out, err = call(capsys, train, "train.py", config_file, "--out_dir", tmp_path / "x", "--train.max_iters", 2)
    assert status == 0, err
    assert "small: 4 runs, H in 1, 4, 2 seeds" in out
    assert "long-range" in out  # the table has a column for each relation


def test_samples_are_the_same_each_time_and_json_holds_them_all(capsys, trained):
    arguments = [trained.path, "--json", "--num_samples", 2, "--max_new_tokens", 15, "--n_head", 4, 1, "--seed", 3]
    status, out, err = call(capsys, sample, "sample.py", *arguments)
    assert status == 0, err
    result = json.loads(out)
    assert [run["n_head"] for run in result["runs"]] == [1, 4]
    assert all(len(run["texts"]) == 2 and any(run["texts"]) for run in result["runs"])
    assert set(result["runs"][0]["relations"]["kept"]) == {"local", "long_range", "semantic", "syntactic"}
    assert call(capsys, sample, "sample.py", *arguments)[1] == out
    other = json.loads(call(capsys, sample, "sample.py", *arguments[:-1], 4)[1])
    assert other["runs"][0]["texts"] != result["runs"][0]["texts"]


@pytest.mark.parametrize(
    "options",
    [["--greedy"], ["--top_k", 5, "--top_p", 0.9], ["--temperature", 1.5], ["--run_seed", 1], ["--num_samples", 3]],
)
def test_every_way_of_sampling_works(capsys, trained, options):
    status, out, err = call(capsys, sample, "sample.py", trained.path, "--max_new_tokens", 8, *options)
    assert status == 0, err
    assert "H = 4" in out


def test_a_prompt_longer_than_the_block_and_a_prompt_from_a_file(capsys, trained, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("The old man said nothing. " * 40)
    status, out, err = call(
        capsys, sample, "sample.py", trained.path, "--max_new_tokens", 5, "--prompt", f"FILE:{file}"
    )
    assert status == 0, err
    assert out.count("The old man said nothing.") >= 2


def test_columns_in_a_wide_terminal_and_blocks_in_a_narrow_one(capsys, trained, monkeypatch):
    arguments = [trained.path, "--max_new_tokens", 30]
    monkeypatch.setenv("COLUMNS", "120")
    wide = call(capsys, sample, "sample.py", *arguments)[1]
    monkeypatch.setenv("COLUMNS", "40")
    narrow = call(capsys, sample, "sample.py", *arguments)[1]
    assert re.search(r"H = 1 .* │ H = 4", wide)
    assert "│" not in narrow
    assert max(map(len, wide.splitlines())) <= 120


def test_sampling_from_an_unfinished_run_says_so(capsys, tmp_path):
    from experiment.folder import Experiment
    from training.run import train_experiment

    experiment = train_experiment(small_config(max_iters=4), tmp_path / "x", "cpu")
    Experiment.create(experiment.path, small_config(max_iters=8))
    status, _, err = call(capsys, sample, "sample.py", experiment.path, "--max_new_tokens", 2)
    assert status == 0
    assert "h01-seed0 is unfinished: iteration 4 of 8" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "nowhere"),
        (["TRAINED", "--n_head", 3], "n_head 3; it has 1, 4"),
        (["TRAINED", "--n_head", "many"], "--n_head"),
        (["TRAINED", "--run_seed", 9], "seed 9; it has 0, 1"),
        (["TRAINED", "--temperature", -1], "--temperature"),
        (["TRAINED", "--temperature", "nan"], "--temperature"),
        (["TRAINED", "--top_k", 0], "--top_k"),
        (["TRAINED", "--top_p", 1.5], "--top_p"),
        (["TRAINED", "--num_samples", -1], "--num_samples"),
        (["TRAINED", "--num_samples", 10**39], "num_samples"),
        (["TRAINED", "--num_samples", 10**10], "GiB"),
        (["TRAINED", "--max_new_tokens", 10**15], "max_new_tokens"),
        (["TRAINED", "--seed", -1], "--seed"),
        (["TRAINED", "--prompt", "FILE:missing.txt"], "missing.txt"),
        (["TRAINED", "--bogus"], "--bogus"),
        (["TRAINED", "--device", "tpu"], "--device tpu"),
        ([], "RUNS"),
    ],
)
def test_a_mistake_in_sampling_is_named_in_one_line(capsys, trained, arguments, named):
    arguments = [trained.path if a == "TRAINED" else a for a in arguments]
    status, out, err = call(capsys, sample, "sample.py", *arguments)
    assert status == 2
    assert named in err
    assert err.count("\n") <= 2
    assert not out


def test_characters_that_the_tokenizer_cannot_encode_are_named(capsys, tmp_path):
    from training.run import train_experiment

    text = tmp_path / "text.txt"
    text.write_text("to be or not to be\n" * 60)
    config = small_config(data={"source": "text", "path": str(text), "tokenizer": "char"}, max_iters=2)
    train_experiment(config, tmp_path / "x", "cpu")
    status, _, err = call(capsys, sample, "sample.py", tmp_path / "x", "--prompt", "to é")
    assert status == 2
    assert "é" in err
    status, out, err = call(capsys, sample, "sample.py", tmp_path / "x", "--max_new_tokens", 5)
    assert status == 0, err  # no end-of-text token: text begins after a line end
    assert "relations" not in out


def test_describe_shows_shapes_parameters_and_costs_and_trains_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text(config_yaml(small_config(model={"n_embd": 128}, sweep={"n_head": [1, 4]})))
    status, out, err = call(capsys, train, "train.py", path, "--describe")
    assert status == 0, err
    assert "128 → 4 × 32 → 128" in out
    assert "128 → 1 × 128 → 128" in out
    assert re.search(r"q, k, v \(H, T, d_h\) +1×32×128 +4×32×32", out)
    assert "total, the same for every H" in out
    cost = {
        name: re.search(rf"^ *{name} +([\d,.]+) +([\d,.]+)$", out, re.MULTILINE) for name in ("d_h", "FLOPs a token")
    }
    assert cost["d_h"].groups() == ("128", "32")
    fewer, more = (int(value.replace(",", "")) for value in cost["FLOPs a token"].groups())
    assert fewer < more
    assert max(map(len, out.splitlines())) <= 80
    assert not (tmp_path / "runs").exists()


def test_describe_needs_no_corpus(capsys):
    config = ROOT / "configs" / "shakespeare_cpu.yaml"
    status, out, err = call(capsys, train, "train.py", config, "--describe", "--data.path", "http://127.0.0.1:9/no.txt")
    assert status == 0, err
    assert "vocabulary 256\n(assumed" in out


def test_a_mistake_in_training_is_one_line_and_status_2(capsys, config_file):
    status, out, err = call(capsys, train, "train.py", config_file, "--sweep.n_head", "5")
    assert (status, out) == (2, "")
    assert err.startswith("train.py: n_head 5 does not divide n_embd 32")
    assert call(capsys, train, "train.py", config_file, "--device", "cuda:77")[0] == 2


def test_a_name_too_long_for_the_file_system_is_one_line_and_status_2(capsys, config_file, trained):
    name = "x" * 500
    for module, *argv in (
        (train, name),
        (train, config_file, "--out_dir", name),
        (train, config_file, "--name", name),
        (train, config_file, "--init", name),
        (train, config_file, "--data.source", "text", "--data.path", name),
        (sample, name),
        (compare, name),
        (compare, trained.path, "--quick", "--out", name),
    ):
        status, _, err = call(capsys, module, "program", *argv)
        assert (status, err.count("\n")) == (2, 1), (argv, err)
        assert "xxxx" in err
        assert "long" in err


def test_an_unwritable_folder_is_one_line_and_status_1(capsys, config_file):
    status, _, err = call(capsys, train, "train.py", config_file, "--out_dir", "/proc/nothing/here")
    assert status == 1
    assert err.startswith("train.py: ")
    assert err.count("\n") == 1


def test_the_shipped_configs_are_valid():
    from experiment.command_line import parse

    for path in sorted((ROOT / "configs").glob("*.yaml")):
        config, _ = parse([str(path)], "train.py", "", "")
        assert config.name == path.stem
