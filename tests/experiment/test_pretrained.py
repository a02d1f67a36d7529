"""A GPT-2 of transformers' comes in: to start from, to sample from, to look into. Lost if these fail: its weights."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml

import errors
import sample
import train
from analysis.measure.texts import ValidationText
from data.tokenizers import BPETokenizer, load_tokenizer
from data.tokenizers.huggingface import HFTokenizer
from errors import InputError
from experiment.folder import Experiment
from experiment.loaded import load_stack
from experiment.pretrained import open_pretrained
from headcount import load
from model.gpt import GPT
from tests.conftest import config_yaml, small_config
from tests.data.hub import serving

ROOT = Path(__file__).parents[2]


def network(path) -> GPT:
    source = open_pretrained(str(path))
    return load_stack([source], source.config, torch.device("cpu"))


def gpt2(folder, **changes):
    """A GPT-2 with random weights, as transformers makes and saves it."""
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 40, "vocab_size": 300}
    torch.manual_seed(0)
    config = transformers.GPT2Config(**shape | {"bos_token_id": 299, "eos_token_id": 299} | changes)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too: none may be left out
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder, max_shard_size=changes.pop("shard", "5GB"))
    return model


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, trained):
    """A random GPT-2 of transformers' with the small sweep's tokenizer: its folder and transformers' own model."""
    folder = tmp_path_factory.mktemp("foreign") / "gpt2"
    model = gpt2(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(trained.runs[0].path / name, folder)
    return folder, model


def call(capsys, module, *argv) -> tuple[int, str, str]:
    capsys.readouterr()
    status = errors.guard(module.__name__ + ".py", module.main, [str(a) for a in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# In: a GPT-2 of transformers'


@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("shard", ["5GB", "40KB"])
def test_logits_of_a_foreign_gpt2_are_transformers(tmp_path, activation, shard):
    reference = gpt2(tmp_path / "g", activation_function=activation, shard=shard)
    assert (tmp_path / "g" / "model.safetensors").exists() == (shard == "5GB")
    model = network(tmp_path / "g")
    x = torch.arange(40)[None]
    with torch.no_grad():
        ours, theirs = model(x[None])[0], reference(x).logits
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert theirs.std() > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_without_a_language_model_head_and_in_half_precision_load_too(tmp_path, dtype):
    reference = gpt2(tmp_path / "g").to(dtype)
    reference.transformer.save_pretrained(tmp_path / "bare")
    model = network(tmp_path / "bare")
    assert torch.equal(model.wte.weight[0], reference.transformer.wte.weight.float())


def test_another_head_count_is_the_same_weights_split_otherwise(foreign, caplog):
    model = load(foreign[0], "cpu").select(n_head=[2, 4]).stack()
    assert model.n_head == (2, 4)
    (said,) = caplog.messages
    assert "trained with H = 4: H = 2 has the same weights, another split" in said
    config = transformers.GPT2Config.from_pretrained(foreign[0], n_head=2)
    split = transformers.GPT2LMHeadModel.from_pretrained(foreign[0], config=config).eval()
    x = torch.arange(30)[None]
    with torch.no_grad():
        both = model(x.expand(2, 1, -1))
        assert torch.allclose(both[0], split(x).logits, atol=1e-4)
        assert torch.allclose(both[1], foreign[1](x).logits, atol=1e-4)
    with pytest.raises(InputError, match="n_head 3 does not divide n_embd 32"):
        load(foreign[0], "cpu").select(n_head=3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "llama"),
        ("activation_function", "relu"),
        ("layer_norm_epsilon", 1e-6),
        ("scale_attn_by_inverse_layer_idx", True),
        ("n_inner", 100),
        ("n_head", 5),
        ("n_layer", "two"),
        ("vocab_size", 0),
        ("tie_word_embeddings", False),
    ],
)
def test_a_gpt2_that_this_network_cannot_be_is_refused_by_key(foreign, tmp_path, key, value):
    folder = tmp_path / "g"
    shutil.copytree(foreign[0], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(InputError, match=key):
        open_pretrained(str(folder))


def test_missing_and_damaged_files_are_named(foreign, tmp_path):
    def broken(name, change):
        folder = tmp_path / name
        shutil.copytree(foreign[0], folder)
        change(folder)
        return open_pretrained(str(folder))

    with pytest.raises(InputError, match=r"no GPT-2 .* \(no config.json\)"):
        broken("a", lambda f: (f / "config.json").unlink())
    with pytest.raises(InputError, match=r"config.json: not JSON"):
        broken("b", lambda f: (f / "config.json").write_text("{"))
    with pytest.raises(InputError, match=r"no model.safetensors here$"):
        broken("c", lambda f: (f / "model.safetensors").unlink()).tensors()
    with pytest.raises(InputError, match="pickle is never read"):
        broken("d", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin")).tensors()
    with pytest.raises(InputError, match=r"model.safetensors: damaged"):
        broken("e", lambda f: (f / "model.safetensors").write_bytes(b"no")).tensors()
    with pytest.raises(InputError, match="its tokenizer cannot be read"):
        broken("f", lambda f: (f / "tokenizer.json").write_text("{}")).tokenizer()
    with pytest.raises(InputError, match="no tokenizer here"):
        broken("g", lambda f: (f / "tokenizer.json").unlink()).tokenizer()
    index = {"weight_map": {"x": "model-1.safetensors"}}

    def sharded(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(InputError, match=r"model-1.safetensors is missing"):
        broken("h", sharded).tensors()
    index["weight_map"]["x"] = "../a/model.safetensors"
    with pytest.raises(InputError, match="weight_map"):
        broken("i", sharded).tensors()


def test_a_foreign_tokenizer_encodes_and_counts_bytes(foreign, trained):
    ours = load_tokenizer(trained.path / "tokenizer")
    theirs = HFTokenizer.load(foreign[0], 300)
    text = "The old man had a boat — été."
    ids = np.array(theirs.encode(text))
    assert ids.tolist() == ours.encode(text)
    assert theirs.decode(ids) == text
    assert theirs.token_bytes(ids).tolist() == ours.token_bytes(ids).tolist()
    assert (theirs.eot, theirs.vocab_size) == (ours.eot, ours.vocab_size)


def test_an_unreachable_hub_is_a_clear_error(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"owner/name: no such folder, no local copy .*\n.*HF_HOME"):
        open_pretrained("owner/name")


def test_a_gpt2_of_the_hub_is_fetched_by_name_without_its_pickles_and_then_needs_no_network(foreign, tmp_path):
    served = tmp_path / "served"
    shutil.copytree(foreign[0], served)
    for name in ("pytorch_model.bin", "modeling.py"):
        (served / name).write_bytes(b"never fetched")

    def sampled(*names, **environment) -> list:
        """The text that sample.py writes with each, or its complaint, in one process: the hub's library looks at its
        environment once."""
        program = (
            "import io, json, sys, errors, sample\nfrom contextlib import redirect_stderr, redirect_stdout\n"
            "options = ['--prompt', 'The old man', '--greedy', '--max_new_tokens', '9', '--json']\n"
            "for name in sys.argv[1:]:\n"
            "    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:\n"
            "        failed = errors.guard('sample.py', sample.main, [name, *options])\n"
            "    print(json.dumps(err.getvalue() if failed else json.loads(out.getvalue())['runs'][0]['texts']))\n"
        )
        given = os.environ | {"HF_HOME": str(tmp_path / "hf")} | environment
        command = [sys.executable, "-c", program, *names]
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    with serving(served, "models") as address:
        fetched, local, unknown = sampled("owner/name", str(foreign[0]), "owner/other", HF_ENDPOINT=address)
    assert isinstance(fetched, list)
    assert fetched == local
    assert sampled("owner/name", HF_ENDPOINT="http://127.0.0.1:9") == [fetched]
    kept, missing = sampled("owner/name", "owner/other", HF_HUB_OFFLINE="1")
    assert kept == fetched
    assert "owner/other: no such folder, no local copy of that name, and the hub did not give it (it has no" in unknown
    assert "(HF_HUB_OFFLINE is set)" in missing
    names = {file.name for file in (tmp_path / "hf").rglob("*")}
    assert "model.safetensors" in names
    assert not {"pytorch_model.bin", "modeling.py"} & names


def test_a_name_is_found_in_the_hubs_local_copy(monkeypatch, tmp_path, foreign):
    import huggingface_hub.constants

    snapshot = tmp_path / "models--owner--name" / "snapshots" / ("a" * 40)
    shutil.copytree(foreign[0], snapshot)
    (tmp_path / "models--owner--name" / "refs").mkdir()
    (tmp_path / "models--owner--name" / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert network("owner/name").n_head == (4,)


# --init


def init_config(tmp_path, **changes):
    config = small_config(**{"max_iters": 2, "eval_interval": 1} | changes)
    values = json.loads(json.dumps(yaml.safe_load(config_yaml(config))))
    values["model"] = {}
    path = tmp_path / "init.yaml"
    path.write_text(json.dumps(values))
    return path


def test_training_from_a_gpt2_begins_with_its_loss_and_goes_on(capsys, foreign, tmp_path):
    folder, reference = foreign
    command = [init_config(tmp_path), "--init", folder, "--out_dir", tmp_path / "x", "--model.block_size", 32]
    status, out, err = call(capsys, train, *command)
    assert status == 0, err
    assert "warning" in out
    assert "H = 1 has the same weights, another split" in out
    experiment = Experiment.open(tmp_path / "x")
    assert (experiment.config.model.n_layer, experiment.config.model.n_embd) == (2, 32)
    assert experiment.config.model.activation == "gelu_new"
    assert experiment.environment["init"]["n_head"] == 4
    from data.batches import validation_windows
    from data.dataset import prepare

    x, y = (torch.from_numpy(a) for a in validation_windows(prepare(experiment.config.data).val, 32))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(reference(x).logits.flatten(0, 1), y.flatten(), ignore_index=-1)
    for run in experiment.runs:
        first = run.metrics()[0]["val_loss"]
        assert (first == pytest.approx(expected.item(), abs=1e-4)) == (run.n_head == 4)
        assert json.loads((run.path / "config.json").read_text())["activation_function"] == "gelu_new"
    assert "all 4 runs are finished" in call(capsys, train, *command)[1]
    status, _, err = call(capsys, train, *command[:1], "--out_dir", tmp_path / "x", "--model.block_size", 32)
    assert status == 2
    assert "model.init" in err


def test_a_run_of_this_project_is_something_to_start_from(capsys, trained, tmp_path):
    run = trained.runs[2]
    status, _, err = call(capsys, train, init_config(tmp_path), "--init", run.path, "--out_dir", tmp_path / "x")
    assert status == 0, err
    first = {r.name: r.metrics()[0]["val_loss"] for r in Experiment.open(tmp_path / "x").runs}
    assert first["h04-seed0"] == pytest.approx(run.metrics()[-1]["val_loss"], abs=1e-5)
    assert first["h04-seed1"] == first["h04-seed0"]


@pytest.mark.parametrize("own", [True, False])
def test_another_text_is_trained_on_with_the_tokenizer_of_init(capsys, foreign, trained, tmp_path, own):
    text = tmp_path / "text.txt"
    text.write_text("It was the best of times, it was the worst of times. " * 60)
    start = trained.path / "h04-seed0" if own else foreign[0]
    options = ["--data.source", "text", "--data.path", text, "--data.n_stories", 20000, "--model.block_size", 16]
    command = [
        init_config(tmp_path),
        "--init",
        start,
        *options,
        "--data.tokenizer",
        "init",
        "--out_dir",
        tmp_path / "x",
    ]
    status, _, err = call(capsys, train, *command)
    assert status == 0, err
    made, source = load(tmp_path / "x", "cpu"), load(start, "cpu")
    assert made["h04-seed0"].tokenizer.encode("best of times") == next(iter(source.values())).tokenizer.encode(
        "best of times"
    )
    assert "all 4 runs are finished" in call(capsys, train, *command)[1]
    assert call(capsys, train, *command, "--describe")[0] == 0
    status, _, err = call(capsys, train, init_config(tmp_path), "--data.tokenizer", "init", "--out_dir", tmp_path / "y")
    assert status == 2
    assert "data.tokenizer: init takes the tokenizer of --init" in err
    assert len(ValidationText(Experiment.open(tmp_path / "x")).stream) > 16  # what its heads are measured on


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--model.n_embd", 64], "model.n_embd 64 contradicts --init"),
        (["--model.bias", "false"], "model.bias False contradicts --init"),
        (["--model.block_size", 41], "model.block_size 41 is longer .* at most 40"),
        (["--data.vocab_size", 301], "vocabulary of 300 tokens, the corpus's tokenizer has 301"),
        (["--data.n_stories", 60], "its tokenizer is another than the corpus's"),
    ],
)
def test_a_config_that_does_not_fit_the_gpt2_is_an_error(capsys, foreign, tmp_path, options, named):
    status, _, err = call(
        capsys, train, init_config(tmp_path), "--init", foreign[0], "--out_dir", tmp_path / "x", *options
    )
    assert status == 2

    assert re.search(named, err)
    assert not (tmp_path / "x").exists()


def test_changed_weights_behind_init_are_noticed(capsys, foreign, tmp_path):
    folder = tmp_path / "g"
    shutil.copytree(foreign[0], folder)
    command = [init_config(tmp_path), "--init", folder, "--out_dir", tmp_path / "x"]
    assert call(capsys, train, *command)[0] == 0
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({k: v + 1 for k, v in tensors.items()}, folder / "model.safetensors")
    status, _, err = call(capsys, train, *command)
    assert status == 2
    assert "have changed since this experiment began" in err


# sample.py


def test_sampling_from_a_gpt2_is_transformers_greedy_text(capsys, foreign):
    folder, reference = foreign
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("The old man", return_tensors="pt")
    theirs = reference.generate(**prompt, max_new_tokens=12, do_sample=False, pad_token_id=299)[0]
    status, out, err = call(
        capsys, sample, folder, "--prompt", "The old man", "--greedy", "--max_new_tokens", 12, "--json"
    )
    assert status == 0, err
    text = "The old man" + json.loads(out)["runs"][0]["texts"][0]
    assert text == tokenizer.decode(theirs, skip_special_tokens=True).removesuffix("\ufffd")  # half a character
    status, out, err = call(capsys, sample, folder, "--n_head", 1, 4, "--max_new_tokens", 3)
    assert status == 0
    assert "H = 1" in out
    assert "another split" in err
    assert call(capsys, sample, folder, "--run_seed", 1)[0] == 2


def test_sampling_from_one_runs_folder(capsys, trained):
    status, out, err = call(capsys, sample, trained.path / "h04-seed0", "--max_new_tokens", 5, "--json", "--seed", 2)
    assert status == 0, err
    whole = call(capsys, sample, trained.path, "--n_head", 4, "--max_new_tokens", 5, "--json", "--seed", 2)[1]
    assert json.loads(out)["runs"][0]["texts"] == json.loads(whole)["runs"][0]["texts"]


def test_a_gpt2_without_tokenizer_files_is_read_with_openais(monkeypatch, tmp_path, foreign, trained):
    asked = []
    made = load_tokenizer(trained.path / "tokenizer")
    monkeypatch.setattr(BPETokenizer, "of_tiktoken", lambda name: asked.append(name) or made)
    gpt2(tmp_path / "gpt2", vocab_size=50257, n_layer=1, bos_token_id=50256, eos_token_id=50256)
    source = open_pretrained(str(tmp_path / "gpt2"))
    assert source.tokenizer() is made
    assert asked == ["gpt2"]
    assert open_pretrained(str(foreign[0])).tokenizer() is not made  # it has its own
