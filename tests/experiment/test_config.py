"""A mistake in a config is found before anything is built, and the message names the key and the mend."""

from pathlib import Path

import pytest
import yaml

import train
from errors import InputError
from experiment.command_line import parse
from experiment.config import Config, differences, keys
from experiment.folder import Experiment

ROOT = Path(__file__).parents[2]
GOOD = "sweep: {n_head: [1, 2]}\n"


def read(tmp_path, text, *argv) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return parse([str(path), *argv], "train.py", "", "", train.OPTIONS)[0]


@pytest.mark.parametrize(
    ("text", "argv", "named"),
    [
        ("model: {n_layr: 3}", [], ["model.n_layr", "model.n_layer"]),
        ("modle: {n_layer: 3}", [], ["modle", "model"]),
        ("model: 3", [], ["model", "mapping"]),
        ("[1]", [], ["mapping"]),
        ("a: b: c", [], ["line 1", "YAML"]),
        ("model: {n_layer: two}", [], ["model.n_layer", "integer", "'two'"]),
        ("model: {n_layer: 2.5}", [], ["model.n_layer", "integer"]),
        ("model: {n_layer: true}", [], ["model.n_layer", "integer"]),
        ("model: {n_layer: null}", [], ["model.n_layer", "integer"]),
        ("model: {bias: 3}", [], ["model.bias", "true or false"]),
        ("data: {source: tale}", [], ["data.source", "tales or text"]),
        ("train: {stack: all}", [], ["train.stack", "integer or auto"]),
        ("train: {learning_rate: fast}", [], ["train.learning_rate", "number"]),
        (GOOD, ["--model.n_layr", "3"], ["model.n_layr", "model.n_layer"]),
        (GOOD, ["--model.n_layer", "x"], ["model.n_layer", "integer"]),
        (GOOD, ["--model.n_layer"], ["model.n_layer", "argument"]),
        (GOOD, ["--sweep.n_head", "1,x"], ["sweep.n_head", "integers"]),
        ("sweep: {n_head: [1, 3]}", [], ["n_head 3", "n_embd 128", "1, 2, 4, 8, 16, 32, 64, 128"]),
        ("sweep: {n_head: [1, 256]}", [], ["n_head 256", "n_embd 128"]),
        ("sweep: {n_head: [0]}", [], ["sweep.n_head", "above 0"]),
        ("sweep: {n_head: []}", [], ["sweep.n_head", "empty"]),
        ("sweep: {n_head: [1], seed: []}", [], ["sweep.seed", "empty"]),
        ("sweep: {n_head: [1, 2, 1]}", [], ["sweep.n_head", "repeats 1"]),
        ("sweep: {n_head: [1], seed: [2, 2]}", [], ["sweep.seed", "repeats 2"]),
        ("sweep: {n_head: [1], seed: [-1]}", [], ["sweep.seed"]),
        ("sweep: {n_head: [1], n_embd: [64, 128]}", [], ["sweep.n_embd", "shapes"]),
        ("sweep: {n_head: [1], batch_size: [1]}", [], ["sweep.batch_size"]),
        ("sweep: {n_head: [1], learning_rate: [0]}", [], ["sweep.learning_rate", "above 0"]),
        ("model: {n_head: 2}\nsweep: {n_head: [1]}", [], ["sweep.n_head", "model.n_head"]),
        (GOOD + "train: {max_iters: 0}", [], ["train.max_iters", "above 0"]),
        (GOOD + "train: {learning_rate: -1}", [], ["train.learning_rate", "above 0"]),
        (GOOD + "train: {learning_rate: .nan}", [], ["train.learning_rate", "finite"]),
        (GOOD + "train: {beta2: 1.0}", [], ["train.beta2", "below 1"]),
        (GOOD + "train: {stack: 0}", [], ["train.stack", "above 0"]),
        (GOOD + "model: {dropout: 1.0}", [], ["model.dropout"]),
        (GOOD + "data: {val_fraction: 1}", [], ["data.val_fraction"]),
        (GOOD + "data: {vocab_size: 200}", [], ["data.vocab_size", "257"]),
        (GOOD + "data: {source: text}", [], ["data.path"]),
        (GOOD + "data: {path: x}", [], ["data.path"]),
        (GOOD + "name: ../up", [], ["name", "'../up'"]),
        (GOOD + "name: /etc", [], ["name"]),
        (GOOD + "name: ..", [], ["name"]),
        ("!!python/object/apply:os.system ['true']", [], ["YAML"]),
    ],
)
def test_a_wrong_value_is_named_with_its_mend(tmp_path, text, argv, named):
    with pytest.raises(InputError) as error:
        read(tmp_path, text, *argv)
    message = str(error.value)
    assert all(word in message for word in named), message
    assert message.count("\n") <= 1


def test_one_value_for_what_the_config_sweeps_is_a_sweep_of_one(tmp_path):
    swept = "sweep: {n_head: [1, 2], learning_rate: [1.0e-3, 2.0e-3], weight_decay: [0.1, 0.2]}\n"
    swept += "train: {learning_rate: 4.0e-3, weight_decay: 0.4}"  # as the config.yaml of a run folder has them, too
    argv = ["--train.learning_rate", "5e-3", "--model.n_head", "4", "--train.weight_decay", "0.3"]
    config = read(tmp_path, swept, *argv)
    assert (config.sweep.learning_rate, config.sweep.weight_decay, config.sweep.n_head) == ([5e-3], [0.3], [4])
    assert (config.train.learning_rate, config.train.weight_decay, config.model.n_head) == (4e-3, 0.4, None)
    config = read(tmp_path, swept, "--train.learning_rate", "5e-3", "--sweep.learning_rate", "1e-2,2e-2")
    assert config.sweep.learning_rate == [1e-2, 2e-2]
    assert read(tmp_path, swept, "--model.n_head", "null").sweep.n_head == [1, 2]
    config = read(tmp_path, "sweep: {n_head: [1, 2]}", "--train.learning_rate", "5e-3")
    assert (config.sweep.learning_rate, config.train.learning_rate) == ([], 5e-3)


def test_a_missing_config_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.yaml: No such file"):
        parse([str(tmp_path / "nothing.yaml")], "train.py", "", "")
    with pytest.raises(InputError, match="give a config"):
        parse([], "train.py", "", "")


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path):
    text = "name: mine\nmodel: {n_layer: 3}\nsweep: {n_head: [1, 2]}\ntrain: {learning_rate: 1e-4, max_iters: 7}\n"
    config = read(tmp_path, text, "--sweep.n_head", "4,8", "--train.max_iters=9", "--sweep.learning_rate", "1e-3")
    assert (config.name, config.model.n_layer, config.model.n_embd) == ("mine", 3, 128)
    assert (config.sweep.n_head, config.sweep.learning_rate) == ([4, 8], [1e-3])
    assert (config.train.learning_rate, config.train.max_iters) == (1e-4, 9)
    assert read(tmp_path, text, "--sweep.n_head", "[16]", "--train.stack", "2").head_counts == [16]


def test_help_documents_every_key(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for key in keys():
        assert f"--{key} " in text
    assert "Width D of the residual stream, features. (an integer; default: 128)" in text


def test_a_sweep_is_every_combination_ordered_by_heads(tmp_path):
    config = read(tmp_path, "sweep: {n_head: [16, 1], seed: [1, 0], learning_rate: [1e-3, 1e-2]}\n")
    runs = Experiment(tmp_path, config).runs
    assert [run.name for run in runs][:5] == [
        "h01-seed0-lr0.001",
        "h01-seed0-lr0.01",
        "h01-seed1-lr0.001",
        "h01-seed1-lr0.01",
        "h16-seed0-lr0.001",
    ]
    assert len(runs) == 8


def test_differences_name_the_changed_keys(tmp_path):
    old, new = read(tmp_path, GOOD), read(tmp_path, GOOD, "--train.max_iters", "5", "--train.stack", "1")
    assert differences(old, new, ["train.stack"]) == ["train.max_iters: 2000 → 5"]


def test_the_page_shows_the_quickstart_as_it_is():
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    held = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
    assert shown == held
