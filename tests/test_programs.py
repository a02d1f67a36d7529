"""The three programs as a user runs them: one after the other on one folder, and with mistakes in the command."""

import json
import os
import re
import shlex
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
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def test_train_sample_compare_in_a_row(tmp_path, config_file):
    folder = tmp_path / "run"
    trained = program("train.py", config_file, "--out_dir", folder)
    assert trained.returncode == 0, trained.stderr
    assert re.search(r"validation loss in nats per token, mean of 2 seeds\n +iter +H=1 +H=4 +left\n", trained.stdout)
    assert re.search(r"^ *4 +8 +2 +\d\.\d+ ± \d\.\d+", trained.stdout, re.MULTILINE)
    advised = re.findall(r"^(?:sample from it|compare the runs): +(.*)$", trained.stdout, re.MULTILINE)
    assert [shlex.split(line)[-1] for line in advised] == [str(folder)] * 2
    sampled, compared = (
        subprocess.run(line, shell=True, capture_output=True, text=True, timeout=120)
        for line in (f"{advised[0]} --max_new_tokens 20 --num_scored 4 --prompt 'Once upon a'", advised[1])
    )
    assert sampled.returncode == 0, sampled.stderr
    assert "H = 1" in sampled.stdout
    assert "H = 4" in sampled.stdout
    assert "share of relations kept" in " ".join(sampled.stdout.split())
    assert sampled.stdout.count("Once upon a") == 2
    assert compared.returncode == 0, compared.stderr
    assert (folder / "figures" / "loss-curves.svg").exists()
    assert (folder / "figures" / "loss-curves.png").exists()
    assert json.loads((folder / "report.json").read_text())["studies"]


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
        (["TRAINED", "--max-new-tokens", 3], "did you mean --max_new_tokens?"),
        (["TRAINED", "--score", "a", "--prompt", "b", "--greedy"], "leave out --prompt, --greedy"),
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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_degrades_and_never_fails_where_the_terminal_is_not_utf8(encoding, trained):
    sampled = program("sample.py", trained.path, "--max_new_tokens", 3, "--num_scored", 0, PYTHONIOENCODING=encoding)
    assert sampled.returncode == 0, sampled.stderr
    assert "H = 4" in sampled.stdout
    wrong = program("train.py", "nichts-für-mich.yaml", PYTHONIOENCODING=encoding)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(("redirected", "status", "said"), [(">&-", 0, ""), (">/dev/full", 1, "No space left")])
def test_output_that_goes_nowhere_is_no_traceback(trained, redirected, status, said):
    line = f"{sys.executable} sample.py {trained.path} --max_new_tokens 2 --num_scored 0 {redirected}"
    done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") <= 1


def test_a_program_without_its_requirements_says_how_to_start_it(tmp_path):
    for name in ("train.py", "sample.py", "compare.py"):
        started = subprocess.run(
            [sys.executable, "-S", str(ROOT / name), "x"], capture_output=True, text=True, timeout=60, cwd=tmp_path
        )
        assert started.returncode == 1
        assert started.stderr.count("\n") == 1
        assert f"./setup.sh once, and then start it so: .venv/bin/python {name}" in started.stderr


def test_a_list_is_taken_with_commas_with_spaces_and_as_a_range(capsys, trained, config_file):
    asked = [["--n_head", "1,4"], ["--n_head", "1", "4"], ["--n_head", "1,", "4"], ["--n_head=[1,4]"]]
    base = [trained.path, "--max_new_tokens", 2, "--num_scored", 0]
    assert len({call(capsys, sample, "sample.py", *base, *heads) for heads in asked}) == 1
    from experiment.command_line import parse

    for heads in asked:
        argv = [str(config_file), *(heads[0].replace("--n_head", "--sweep.n_head"), *heads[1:])]
        assert parse(argv, "train.py", "", "")[0].sweep.n_head == [1, 4]
    assert parse([str(config_file), "--sweep.seed", "0:3,7"], "train.py", "", "")[0].sweep.seed == [0, 1, 2, 7]
    with pytest.raises(errors.InputError, match="at most 1,000 values"):
        parse([str(config_file), "--sweep.seed", "0:99999999999"], "train.py", "", "")


def test_what_is_often_given_by_mistake_gets_its_hint(capsys, trained, tmp_path, config_file):
    (tmp_path / "ckpt.pt").write_bytes(b"PK")
    for module, argv in (
        (sample, [tmp_path / "ckpt.pt"]), (sample, [tmp_path]), (train, [config_file, "--init", tmp_path / "ckpt.pt"]),
    ):  # fmt: skip
        status, _, err = call(capsys, module, "program", *argv)
        assert status == 2
        assert "ckpt.pt" in err
        assert "save_pretrained" in err
    status, _, err = call(capsys, sample, "sample.py", "my", "runs/x")
    assert (status, err.count("\n")) == (2, 1)
    assert "runs/x: belongs to no option; a path or text with spaces needs quotes" in err
    base = [trained.path, "--max_new_tokens", 2, "--num_scored", 0]
    status, _, err = call(capsys, sample, "sample.py", *base, "--prompt", "<|endoftext|>A")
    assert status == 0
    assert "<|endoftext|> is plain text here" in err


def test_prompts_saved_on_windows_are_those_of_other_systems(capsys, trained, tmp_path):
    (tmp_path / "unix.txt").write_bytes(b"The old\nman")
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfThe old\r\nman")
    base = [trained.path, "--max_new_tokens", 4, "--num_scored", 0, "--prompt"]
    texts = [call(capsys, sample, "sample.py", *base, f"FILE:{tmp_path / n}.txt")[1] for n in ("unix", "windows")]
    assert texts[0] == texts[1]


def test_a_stop_text_ends_a_sample_and_is_left_out(capsys, trained):
    base = [trained.path, "--json", "--num_scored", 0, "--max_new_tokens", 30, "--n_head", 4]
    whole = json.loads(call(capsys, sample, "sample.py", *base)[1])["runs"][0]["texts"][0]
    stop = whole[5:7]
    cut = json.loads(call(capsys, sample, "sample.py", *base, f"--stop={stop}")[1])["runs"][0]["texts"][0]
    assert cut == whole[: whole.index(stop)]


def test_an_earlier_checkpoint_is_sampled_where_it_is_kept(capsys, trained):
    base = [trained.path, "--score", "The old man", "--iter"]
    (status, early, err), (_, last, _) = (call(capsys, sample, "sample.py", *base, step) for step in (8, 12))
    assert status == 0, err
    assert early != last
    assert call(capsys, sample, "sample.py", *base[:-1])[1] == last
    status, _, err = call(capsys, sample, "sample.py", *base, 3)
    assert status == 2
    assert "no checkpoint of iteration 3; it has 12, 8" in err


def test_a_text_is_scored_and_texts_are_measured(capsys, trained, tmp_path):
    (tmp_path / "t.txt").write_text("The old man had a boat. " * 30)
    status, out, err = call(
        capsys, sample, "sample.py", trained.path, "--score", f"FILE:{tmp_path / 't.txt'}", "--json"
    )
    assert status == 0, err
    assert [row["run"] for row in json.loads(out)["runs"]] == [run.name for run in trained.runs]
    status, out, err = call(capsys, sample, "sample.py", trained.path, "--score", "The old man")
    assert re.search(r"h04-seed1 +4 +\d+ +\d\.\d{4} +\d\.\d{4}", out), err
    assert call(capsys, sample, "sample.py", trained.path, "--score", "")[0] == 2
    status, out, err = call(capsys, sample, "sample.py", trained.path, "--num_scored", 4, "--max_new_tokens", 8)
    assert status == 0, err
    assert "measured: 2 texts of each run, drawn in the same way" in out
    assert "No head counts differ for sure" in out
    for alike in (["--temperature", 0], ["--top_k", 1], ["--greedy"]):
        argv = ("--num_scored", 4, "--max_new_tokens", 8, *alike)
        assert "measured: 1 text of each run" in call(capsys, sample, "sample.py", trained.path, *argv)[1]


def test_sampling_takes_the_best_learning_rate_and_says_so(capsys, tmp_path):
    from training.run import train_experiment

    config = small_config(sweep={"n_head": [1, 4], "seed": [0], "learning_rate": [1e-6, 3e-3]}, max_iters=4)
    path = train_experiment(config, tmp_path / "x", "cpu").path
    base = [path, "--max_new_tokens", 2, "--num_scored", 0]
    status, out, err = call(capsys, sample, "sample.py", *base)
    assert status == 0
    assert "0.003 for H = 1, 0.003 for H = 4 (--learning_rate chooses)" in err
    assert "h04-seed0-lr0.003" in out
    status, out, err = call(capsys, sample, "sample.py", *base, "--learning_rate", "1e-6")
    assert "lr1e-06" in out
    assert "learning rate" not in err
    assert call(capsys, sample, "sample.py", *base, "--learning_rate", "1e-5")[0] == 2


def test_sampling_names_a_swept_weight_decay_and_wants_every_seed(capsys, tmp_path):
    from training.run import train_experiment

    config = small_config(sweep={"n_head": [1, 4], "seed": [0], "weight_decay": [0.0, 0.1]}, max_iters=4)
    path = train_experiment(config, tmp_path / "x", "cpu").path
    _, _, err = call(capsys, sample, "sample.py", path, "--max_new_tokens", 2, "--num_scored", 0)
    assert re.search(
        r"each H at the weight decay with the lowest loss: 0(\.1)? for H = 1, 0(\.1)? for H = 4$", err.strip()
    )
    more = small_config(sweep={"n_head": [1, 4], "seed": [0, 1], "weight_decay": [0.1]}, max_iters=4)
    train_experiment(more, tmp_path / "x", "cpu")
    _, _, err = call(capsys, sample, "sample.py", path, "--max_new_tokens", 2, "--num_scored", 0)
    assert "0.1 for H = 1, 0.1 for H = 4" in err


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
