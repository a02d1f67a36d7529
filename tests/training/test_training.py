"""A run learns the same alone and in company, stopped or not; and what it did stands in its folder."""

import dataclasses
import fcntl
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.config import RELATIONS
from data.dataset import prepare
from errors import InputError, Interrupted
from experiment.checkpoint import good_iterations
from experiment.folder import Experiment, Run
from experiment.loaded import Runs, load_stack
from tests.conftest import small_config
from training.batches import Batches
from training.job import Job
from training.loop import Stack
from training.plan import plan as planned
from training.run import train_experiment
from training.settings import ExecutionSettings
from training.table import result_table
from training.validation import Validation


def train(path, config=None, **changes) -> Experiment:
    return train_experiment(config or small_config(**changes), path, "cpu")


def interrupt(monkeypatch, iteration: int) -> None:
    """SIGTERM comes in the step that makes this iteration."""
    step = Stack.step

    def interrupted(stack, number):
        step(stack, number)
        if number + 1 == iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Stack, "step", interrupted)


def weights(experiment) -> dict:
    return {run.name: load_file(run.path / "model.safetensors") for run in experiment.runs}


def timeless(experiment) -> dict:
    """Metrics without their wall times."""
    return {r.name: [{k: v for k, v in m.items() if k != "seconds"} for m in r.metrics()] for r in experiment.runs}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n][k], b[n][k]) for n in a for k in a[n])


def losses_of(path, n_head, seeds, steps, rates=None, **changes) -> np.ndarray:
    """Training losses (steps, R) of a stack, straight from the loop's step."""
    config = small_config(max_iters=steps, **changes)
    rates = rates or [3e-3] * len(seeds)
    values = zip(n_head, seeds, rates, strict=True)
    runs = [Run(path / f"run{i}", h, s, lr, 0.1, steps) for i, (h, s, lr) in enumerate(values)]
    dataset = prepare(config.data, progress=False)
    stack = Stack(Job(Experiment(path, config), dataset, torch.device("cpu"), ExecutionSettings()), runs, 0)
    rows = []
    for iteration in range(steps):
        stack.step(iteration)
        rows.append(stack.loss_sum.numpy().copy())
        stack.loss_sum.zero_()
    return np.array(rows)


SIX = {"n_head": [1, 1, 4, 4, 16, 16], "seeds": [0, 1, 0, 1, 0, 1]}


def test_a_run_in_a_stack_of_six_matches_the_same_run_alone_over_100_steps(tmp_path):
    stacked = losses_of(tmp_path / "six", **SIX, steps=100)
    assert stacked[-1].mean() < stacked[0].mean() - 1  # they do learn
    for r in (0, 3, 4):
        alone = losses_of(tmp_path / str(r), [SIX["n_head"][r]], [SIX["seeds"][r]], steps=100)
        assert np.abs(stacked[:, r] - alone[:, 0]).max() < 1e-4


def test_an_absurd_learning_rate_leaves_its_companions_unchanged(tmp_path):
    healthy = losses_of(tmp_path / "a", **SIX, steps=20)
    absurd = losses_of(tmp_path / "b", **SIX, steps=20, rates=[3e-3, 3e-3, 1e6, 3e-3, 3e-3, 3e-3])
    others = [0, 1, 3, 4, 5]
    assert np.array_equal(healthy[:, others], absurd[:, others])
    assert not np.isfinite(absurd[-1, 2]) or absurd[-1, 2] > 10


def test_gradient_accumulation_takes_the_step_of_one_large_batch(tmp_path):
    large = losses_of(tmp_path / "a", [1, 4], [0, 0], 10, batch_size=4)
    parts = losses_of(tmp_path / "b", [1, 4], [0, 0], 10, batch_size=2, gradient_accumulation_steps=2)
    assert np.allclose(large, parts, atol=1e-4)


def test_dropout_trains_a_run_in_a_stack_as_it_does_alone(tmp_path):
    model = {"dropout": 0.2}
    stacked = losses_of(tmp_path / "a", [1, 4], [0, 1], 10, model=model)
    alone = losses_of(tmp_path / "b", [4], [1], 10, model=model)
    assert np.abs(stacked[:, 1] - alone[:, 0]).max() < 1e-4
    assert not np.allclose(stacked, losses_of(tmp_path / "c", [1, 4], [0, 1], 10), atol=1e-3)


def test_runs_of_one_seed_see_identical_batches_and_other_seeds_others():
    config = small_config()
    dataset = prepare(config.data, progress=False)
    runs = [Run(Path(f"r{h}{s}"), h, s, 1e-3, 0.1, 1) for h, s in [(1, 0), (1, 5), (4, 0), (4, 5)]]
    drawn = Batches(dataset, runs, config, torch.device("cpu"))(3)
    assert drawn.shape == (4, 4, 33)
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])


def test_validation_loss_is_the_mean_over_every_token_of_the_split_and_over_each_relation(trained):
    dataset = prepare(trained.config.data, progress=False)
    model = load_stack(trained.runs[:1], trained.config.model, torch.device("cpu"))
    with torch.no_grad():
        total, tagged = [], {relation: [] for relation in RELATIONS}
        for start in range(0, len(dataset.val) - 1, 32):
            window = torch.from_numpy(dataset.val[start : start + 33].astype(np.int64))[None, None]
            losses = torch.nn.functional.cross_entropy(
                model(window[..., :-1])[0, 0], window[0, 0, 1:], reduction="none"
            )
            total += losses.tolist()
            for loss, code in zip(losses.tolist(), dataset.val_relations[start + 1 : start + 33], strict=True):
                if code:
                    tagged[RELATIONS[code - 1]].append(loss)
    assert len(total) == len(dataset.val) - 1
    last = trained.runs[0].metrics()[-1]
    assert last["val_loss"] == pytest.approx(np.mean(total), abs=1e-5)
    for relation, losses in tagged.items():
        assert losses
        assert last["val_loss_by_relation"][relation] == pytest.approx(np.mean(losses), abs=1e-4)


def test_the_folder_holds_what_the_design_promises(trained):
    assert [run.name for run in trained.runs] == ["h01-seed0", "h01-seed1", "h04-seed0", "h04-seed1"]
    facts = trained.environment
    assert {"data_hash", "val_bytes", "val_tokens", "device", "precision", "versions", "parameters"} <= facts.keys()
    for run in trained.runs:
        assert run.finished
        assert run.diverged is None
        assert sorted(p.name for p in run.path.iterdir()) == [
            "checkpoints",
            "config.json",
            "metrics.jsonl",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        assert [p.name for p in run.checkpoints()] == ["iter-000012", "iter-000008"]  # the last two
        lines = run.metrics()
        assert [line["iter"] for line in lines] == [0, 2, 4, 6, 8, 10, 12]
        assert [line["iter"] for line in lines if "val_loss" in line] == [0, 6, 12]
        assert all({"train_loss", "grad_norm", "lr", "tokens", "seconds"} <= line.keys() for line in lines[1:])
        assert lines[-1]["tokens"] == 12 * 4 * 32
        assert lines[-1]["val_loss"] < lines[0]["val_loss"]


def test_a_trained_run_loads_in_transformers_as_it_stands(trained):
    import transformers

    run = trained.runs[2]
    reference = transformers.AutoModelForCausalLM.from_pretrained(run.path).eval()
    assert reference.config.n_head == 4
    model = load_stack([run], trained.config.model, torch.device("cpu"))
    x = torch.arange(32)[None, None]
    with torch.no_grad():
        assert torch.allclose(model(x)[0], reference(x[0]).logits, atol=1e-4)


@pytest.mark.parametrize("kept", [4, 8])
def test_going_on_after_a_stop_ends_with_bit_identical_weights_and_metrics(tmp_path, trained, kept):
    experiment = train(tmp_path / "x")
    for run in experiment.runs:  # as a kill leaves it: later checkpoints not yet there, a metrics line cut short
        for folder in run.checkpoints():
            if folder.name != f"iter-{kept:06d}":
                folder.rename(tmp_path / f"{run.name}-{folder.name}")
        if not run.checkpoints():
            (run.path / "metrics.jsonl").unlink()
        else:
            with open(run.path / "metrics.jsonl", "a") as file:
                file.write('{"iter": 14, "val_')
    again = train(tmp_path / "x")
    assert all(run.finished for run in again.runs)
    assert equal(weights(again), weights(trained))
    assert timeless(again) == timeless(trained)


def test_a_kill_while_the_only_checkpoint_is_removed_leaves_no_half_of_it(tmp_path, trained, monkeypatch):
    """Where companions have no checkpoint, that of one run is removed, and all begin again."""
    experiment = train(tmp_path / "x")
    for place, run in enumerate(experiment.runs):
        for folder in run.checkpoints():
            if place or folder.name != "iter-000008":
                shutil.rmtree(folder)

    class Killed(BaseException):
        pass

    def remove_half(folder, **_):
        next(Path(folder).iterdir()).unlink()
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("files.shutil.rmtree", remove_half)
        with pytest.raises(Killed):
            train(tmp_path / "x")
    again = train(tmp_path / "x")
    assert equal(weights(again), weights(trained))
    assert timeless(again) == timeless(trained)


def test_a_signal_ends_training_after_a_checkpoint_and_the_same_command_goes_on(tmp_path, trained, monkeypatch):
    step = Stack.step

    def step_and_interrupt(self, iteration):
        step(self, iteration)
        if iteration == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Stack, "step", step_and_interrupt)
    with pytest.raises(Interrupted, match="SIGTERM at iteration 5 of 12") as stopped:
        train(tmp_path / "x")
    assert stopped.value.status == 143
    monkeypatch.setattr(Stack, "step", step)
    again = train(tmp_path / "x")
    assert equal(weights(again), weights(trained))
    assert timeless(again) == timeless(trained)


@pytest.mark.parametrize("measurement", [0, 1, 2])
def test_a_signal_ends_a_measurement_which_the_same_command_makes_again(tmp_path, trained, monkeypatch, measurement):
    """Before the first step, half-way at step 6, and after the last one, 12."""
    measure, calls = Validation.__call__, []

    def measure_and_interrupt(self, model, autocast, stop):
        calls.append(1)
        if len(calls) == measurement + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(self, model, autocast, stop)

    monkeypatch.setattr(Validation, "__call__", measure_and_interrupt)
    with pytest.raises(Interrupted, match="SIGINT") as stopped:
        train(tmp_path / "x")
    assert stopped.value.status == 130
    assert not any(run.finished for run in Experiment.open(tmp_path / "x").runs)
    monkeypatch.setattr(Validation, "__call__", measure)
    again = train(tmp_path / "x")
    assert all(run.finished for run in again.runs)
    assert equal(weights(again), weights(trained))
    assert timeless(again) == timeless(trained)


def test_other_stack_sizes_train_the_same_runs(tmp_path, trained, caplog):
    experiment = train_experiment(small_config(stack=3), tmp_path / "x", "cpu")
    ours, theirs = weights(experiment), weights(trained)
    assert all(torch.allclose(ours[n][k], theirs[n][k], atol=1e-4) for n in ours for k in ours[n])
    again = train_experiment(small_config(stack=1), tmp_path / "x", "cpu")
    assert "finished" in caplog.messages[-1]
    assert len(again.environment["starts"]) == 2


def test_runs_that_have_come_unequally_far_go_on_from_where_each_is(tmp_path):
    runs = train(tmp_path / "x").runs  # each has checkpoints of steps 8 and 12
    longer = [dataclasses.replace(run, max_iters=16) for run in runs]

    def plan(runs, stack_size):
        stacks = planned(runs, {run: good_iterations(run) for run in runs}, -(-len(runs) // stack_size))
        return [part for stack in stacks for part in stack]

    assert plan(runs, 4) == []
    assert plan(longer, 4) == [(longer, 12)]
    newest = runs[0].checkpoints()[0]
    newest.rename(tmp_path / "gone")  # a kill while checkpoints were written: the older step is common to all
    assert plan(longer, 4) == [(longer, 8)]
    assert plan(longer, 1) == [([run], step) for run, step in zip(longer, [8, 12, 12, 12], strict=True)]
    runs[0].checkpoints()[0].rename(tmp_path / "gone too")
    assert plan(longer, 4) == [(longer[:1], 0), (longer[1:], 12)]
    assert plan(runs, 4) == [(runs[:1], 0)]


def test_a_damaged_checkpoint_is_passed_over_and_made_again(tmp_path, trained, caplog):
    experiment = train(tmp_path / "x")
    (experiment.runs[0].checkpoints()[0] / "optimizer.safetensors").write_bytes(b"damaged")
    again = train_experiment(small_config(), tmp_path / "x", "cpu")
    assert any("optimizer.safetensors is damaged" in line for line in caplog.messages)
    assert equal(weights(again), weights(trained))  # with its companions, from the step that all of them have


def test_a_damaged_checkpoint_is_never_loaded(tmp_path, caplog):
    experiment = train(tmp_path / "x")
    run = experiment.runs[0]
    file = run.checkpoints()[0] / "model.safetensors"
    held = bytearray(file.read_bytes())
    held[-100] ^= 1
    file.write_bytes(held)
    load_stack([run], experiment.config.model, torch.device("cpu"))
    assert "iter-000012: model.safetensors is damaged (checksum); passed over" in caplog.messages[-1]
    (run.checkpoints()[1] / "state.json").write_text("{")
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        load_stack([run], experiment.config.model, torch.device("cpu"))


def test_a_diverged_run_is_marked_and_its_companions_finish(tmp_path):
    config = small_config(
        sweep={"n_head": [1], "seed": [0], "learning_rate": [3e-3, 1e30]}, max_iters=8, warmup_iters=0
    )
    experiment = train(tmp_path / "x", config)
    good, bad = experiment.runs
    assert good.diverged is None
    assert bad.diverged is not None
    assert bad.finished
    assert all(value.isfinite().all() for value in weights(experiment)[good.name].values())
    assert "diverged at iteration" in result_table(experiment)
    for line in (bad.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_divergence_between_two_lines_of_metrics_is_kept_by_a_checkpoint(tmp_path, monkeypatch):
    rates = {"n_head": [1], "seed": [0], "learning_rate": [3e-3, 1e30]}
    changes = {"sweep": rates, "max_iters": 20, "warmup_iters": 0, "log_interval": 20, "eval_interval": 20}
    interrupt(monkeypatch, 10)
    with pytest.raises(Interrupted):
        train(tmp_path / "x", **changes)
    monkeypatch.undo()
    experiment = train(tmp_path / "x", **changes)
    good, bad = experiment.runs
    assert (good.diverged, bad.diverged) == (None, 4)  # the step of the first checkpoint
    assert "diverged at iteration 4 and is left out" in result_table(experiment)


def test_the_last_table_leaves_unfinished_runs_out_and_names_them(tmp_path, monkeypatch):
    interrupt(monkeypatch, 8)
    with pytest.raises(Interrupted):
        train(tmp_path / "x", sweep={"n_head": [1, 4], "seed": [0]})
    monkeypatch.undo()
    table = result_table(train(tmp_path / "x", sweep={"n_head": [1, 4], "seed": [1]}))
    assert "h01-seed0 is unfinished, at iteration 8 and is left out" in table
    assert [line.split()[2] for line in table.splitlines()[1:3]] == ["1", "1"]


def test_another_config_in_the_folder_is_an_error_that_names_the_keys(tmp_path, trained):
    with pytest.raises(InputError, match=r"train\.max_iters: 12 → 13"):
        train(trained.path, max_iters=13)


def test_a_changed_corpus_is_an_error(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question. " * 40)
    config = small_config(data={"source": "text", "path": str(text), "tokenizer": "char"}, max_iters=2)
    train(tmp_path / "x", config)
    text.write_text("all the world's a stage, and men and women merely players. " * 40)
    with pytest.raises(InputError, match="the corpus has changed"):
        train(tmp_path / "x", config)


def test_a_second_process_on_one_folder_is_refused(tmp_path):
    (tmp_path / "x").mkdir()
    with open(tmp_path / "x" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            train(tmp_path / "x")
    assert not (tmp_path / "x" / "config.yaml").exists()


def test_a_block_longer_than_the_corpus_is_an_error_before_training(tmp_path):
    with pytest.raises(InputError, match="block_size"):
        train(tmp_path / "x", model={"block_size": 100_000})
    assert not (tmp_path / "x").exists()


def test_bf16_trains_close_to_fp32(tmp_path, trained):
    experiment = train(tmp_path / "x", precision="bf16")
    for ours, theirs in zip(experiment.runs, trained.runs, strict=True):
        assert ours.metrics()[-1]["val_loss"] == pytest.approx(theirs.metrics()[-1]["val_loss"], abs=0.05)
    assert experiment.environment["precision"] == "bf16"


def test_selecting_runs_names_what_there_is(trained):
    runs = Runs.open(trained.path, "cpu")
    assert list(runs.select([4], 1)) == ["h04-seed1"]
    with pytest.raises(InputError, match="no run with n_head 2; it has 1, 4"):
        runs.select(2)
    with pytest.raises(InputError, match="no experiment here"):
        Experiment.open(trained.path / "h01-seed0")
