"""Promises to a user whose work is stopped, whose files are hostile or whose run diverges, kept by the programs."""

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from experiment.folder import Experiment
from experiment.loaded import load_stack
from tests.conftest import config_yaml, small_config
from tests.torture.common import call, clean, start

ENDLESS = {"max_iters": 1_000_000, "eval_interval": 1_000_000, "log_interval": 1, "checkpoint_interval": 500_000}


def training(path: Path, **changes) -> tuple[subprocess.Popen, list]:
    """train.py in a process of its own, past its first steps; (the process, its command line)."""
    config = path / "config.yaml"
    config.write_text(config_yaml(small_config(**ENDLESS, **changes)))
    argv = ["train.py", config, "--out_dir", path / "x", "--device", "cpu", "--train.compile", "false"]
    process = start(*argv)
    until = time.monotonic() + 60
    metrics = path / "x" / "h01-seed0" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "no step in a minute"
        time.sleep(0.1)
    return process, argv


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_train_py_within_ten_seconds_with_a_checkpoint_and_the_way_on(tmp_path, number, status):
    process, argv = training(tmp_path)
    second = call(*argv)
    assert second[0] == 2
    assert "another process is training here" in second[2]
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 10
    assert process.returncode == status
    assert "go" in err.splitlines()[-1]
    for run in Experiment.open(tmp_path / "x").runs:
        assert len(run.checkpoints()) == 1


def test_a_lock_left_by_a_killed_process_blocks_nobody_and_a_checkpoint_is_not_needed(tmp_path):
    process, argv = training(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / "x" / ".lock").exists()
    again = start(*argv)
    time.sleep(0.5)
    again.send_signal(signal.SIGKILL)
    assert "another process" not in again.communicate()[1]


def test_a_second_signal_ends_train_py_at_once_however_long_its_step_takes(tmp_path):
    """Both come while the process stands still, so that it is in the same step for both."""
    process, _ = training(tmp_path, batch_size=1000)  # long steps
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 1
    assert process.returncode in (130, 143)
    assert "checkpoint written" not in err
    assert not Experiment.open(tmp_path / "x").runs[0].checkpoints()


@pytest.mark.parametrize("saved", [True, False])
def test_a_signal_is_heard_within_a_long_call(saved):
    """The first one, where nothing would be lost (a step is being compiled), and else the second one."""
    code = (
        "import torch\nfrom training.signals import Signals\n"
        "x = torch.ones(12000, 12000)\n"
        "with Signals() as signals:\n"
        f"    signals.nothing_to_save = {'and all is saved' if saved else None!r}\n"
        "    print('ready', flush=True)\n"
        "    x @ x @ x @ x\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, cwd=Path.cwd())
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    for _ in range(1 if saved else 2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 143
    assert ("SIGTERM and all is saved" in err) == saved


def test_a_second_signal_ends_at_once(tmp_path):
    code = (
        "import time\nfrom training.signals import Signals\n"
        "with Signals() as signals:\n"
        "    print('ready', flush=True)\n"
        "    while not signals.received: time.sleep(0.01)\n"
        "    print('noted', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "noted\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    process.stdout.close()


def test_a_diverged_run_is_said_by_every_program_and_its_companions_are_bit_identical(tmp_path, caplog):
    """Rates only reach a run through its optimizer row, so the same stack without the fault has the same shapes."""
    whole, faulty = tmp_path / "whole", tmp_path / "faulty"
    results = {}
    for path, rate in ((whole, 3e-3), (faulty, 1e30)):
        config = tmp_path / f"{path.name}.yaml"
        rates = {"n_head": [1, 4], "seed": [0], "learning_rate": [1e-3, rate]}
        config.write_text(config_yaml(small_config(sweep=rates, warmup_iters=0, compile=False)))
        assert call("train.py", config, "--out_dir", path, "--device", "cpu")[0] == 0
        results[path] = {run.name: run for run in Experiment.open(path).runs}
    diverged = [run for run in results[faulty].values() if run.diverged is not None]
    assert len(diverged) == 2
    kept = results[faulty].keys() & results[whole].keys()
    assert len(kept) == 2
    for name in kept:
        ours, theirs = (results[path][name].path / "model.safetensors" for path in (faulty, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    config = tmp_path / "faulty.yaml"
    status, out, _ = call("train.py", config, "--out_dir", faulty, "--device", "cpu")  # the same command again
    assert status == 0
    assert "diverged at iteration" in out
    caplog.clear()
    model = load_stack(diverged, Experiment.open(faulty).config.model, torch.device("cpu"))
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert [line.split(" at iteration")[0] for line in caplog.messages] == [f"{run.name} diverged" for run in diverged]
    status, out, err = call("compare.py", faulty, "--quick", "--device", "cpu")
    assert status == 0, err
    assert "diverged" in out
    report = json.loads((faulty / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert "diverged" in json.dumps(report)


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_planted_pickles_and_code_references_never_run(tmp_path, trained, undrawn):
    mark = tmp_path / "HACKED"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    work = tmp_path / "x"
    shutil.copytree(trained.path, work)
    run = work / "h01-seed0"
    for folder in (work, run, run.resolve() / "checkpoints", *(run / "checkpoints").iterdir()):
        for name in ("model.pt", "pytorch_model.bin", "training_args.bin", "optimizer.pt", "ckpt.pt"):
            (folder / name).write_bytes(pickle.dumps(Evil(mark)))
        (folder / "evil.py").write_text(code)
        (folder / "__init__.py").write_text(code)
    config = json.loads((run / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (run / "config.json").write_text(json.dumps(config))
    foreign = tmp_path / "foreign"  # a GPT-2 folder whose weights are a pickle alone
    shutil.copytree(run, foreign, ignore=shutil.ignore_patterns("checkpoints", "*.safetensors", "metrics.jsonl"))
    assert (foreign / "pytorch_model.bin").exists()
    for argv in (
        ["sample.py", work, "--max_new_tokens", "2"],
        ["sample.py", run, "--max_new_tokens", "2"],
        ["sample.py", foreign, "--max_new_tokens", "2"],
        ["compare.py", work, "--quick"],
        ["compare.py", foreign],
    ):
        status, _, err = call(*argv, "--device", "cpu")
        assert clean(status, err) is None
        assert argv[1] != foreign or status == 2
    assert not mark.exists()
    with open(foreign / "pytorch_model.bin", "rb") as file:
        pickle.load(file)
    assert mark.exists()  # the pickle does what the programs must not let it do


def test_a_yaml_tag_is_an_error_and_is_not_obeyed(tmp_path):
    config = tmp_path / "c.yaml"
    mark = tmp_path / "HACKED"
    for tag in ("!!python/object/apply:os.system", "!!python/object/new:os.system"):
        config.write_text(config_yaml(small_config()) + f"\nname: {tag} ['touch {mark}']\n")
        status, _, err = call("train.py", config, "--out_dir", tmp_path / "x")
        assert (status, clean(status, err)) == (2, None)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "/tmp/escaped", "..", "a\\b", "a\0b"])
def test_a_name_cannot_lead_out_of_the_runs_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"name": name, "sweep": {"n_head": [1]}}))
    status, _, err = call("train.py", config, "--describe")
    assert (status, clean(status, err)) == (2, None)
    assert "name" in err


@pytest.mark.parametrize("linked", ["h01-seed0", "h01-seed0/checkpoints", "h01-seed0/model.safetensors"])
def test_a_link_planted_in_a_run_folder_is_not_written_through(tmp_path, trained, linked):
    work, outside = tmp_path / "x", tmp_path / "outside"
    shutil.copytree(trained.path, work)
    target = work / linked
    shutil.move(target, outside)
    target.symlink_to(outside)
    before = {p: p.read_bytes() for p in outside.parent.rglob("outside/**/*") if p.is_file()}
    newest = Experiment.open(work).runs[1].checkpoints()[0]
    shutil.rmtree(newest)  # there is something to train
    config = tmp_path / "c.yaml"
    config.write_text(config_yaml(small_config()))
    status, _, err = call("train.py", config, "--out_dir", work, "--device", "cpu")
    assert clean(status, err) is None
    assert status in (0, 2)
    assert before == {p: p.read_bytes() for p in outside.parent.rglob("outside/**/*") if p.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A config that trains at once, and a folder trained by it."""
    folder = tmp_path_factory.mktemp("property")
    (folder / "c.yaml").write_text(config_yaml(small_config(max_iters=2)))
    assert call("train.py", folder / "c.yaml", "--out_dir", folder / "x", "--device", "cpu")[0] == 0
    return folder


def test_describing_the_largest_network_takes_no_memory_and_training_it_is_refused_with_the_estimate(tiny, tmp_path):
    huge = ["--model.n_embd", "65536", "--model.n_layer", "50"]
    status, out, _ = call("train.py", tiny / "c.yaml", *huge, "--describe")
    assert status == 0
    assert f"{50 * 12 * 65536**2 + 50 * 2 * 65536 + 65536 * (300 + 32 + 1):,}" in out
    status, _, err = call("train.py", tiny / "c.yaml", *huge, "--out_dir", tmp_path / "x", "--device", "cpu")
    assert (status, clean(status, err)) == (1, None)
    assert "out of memory: one run needs about" in err
