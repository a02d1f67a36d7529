"""What training does differently on a GPU, one test a branch."""

import numpy as np
import pytest
import torch

from data.dataset import prepare
from experiment.folder import Experiment
from tests.conftest import small_config
from training import batches
from training.batches import Batches
from training.job import Job
from training.loop import Stack
from training.run import train_experiment
from training.settings import ExecutionSettings, choose, native_precision
from training.step import Graphed
from training.validation import Validation

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
CUDA = torch.device("cuda")


def stack(path, device=CUDA, **changes) -> Stack:
    config = small_config(max_iters=10)
    experiment = Experiment(path, config)
    dataset = prepare(config.data, progress=False)
    return Stack(Job(experiment, dataset, device, ExecutionSettings(**changes)), experiment.runs, 0)


def losses(made: Stack, steps=8) -> np.ndarray:
    rows = []
    made.train_step.rehearse(made.batches(0))
    for iteration in range(steps):
        made.step(iteration)
        rows.append(made.train_step.losses.cpu().numpy().copy())
    return np.array(rows)


def test_a_gpu_learns_what_a_cpu_learns(tmp_path):
    assert np.abs(losses(stack(tmp_path)) - losses(stack(tmp_path, torch.device("cpu")))).max() < 1e-3


def test_the_recorded_graph_learns_what_its_kernels_learn(tmp_path):
    plain = losses(stack(tmp_path))
    made = stack(tmp_path, compile=True)
    assert np.abs(losses(made) - plain).max() < 1e-3
    assert isinstance(made.train_step.work, Graphed)
    assert made.train_step.work.graph is not None  # it did record


def test_windows_cut_on_the_gpu_are_those_cut_on_the_cpu(tmp_path, monkeypatch):
    config = small_config()
    dataset, runs = prepare(config.data, progress=False), Experiment(tmp_path, config).runs
    resident = Batches(dataset, runs, config, CUDA)
    monkeypatch.setattr(batches, "RESIDENT_SHARE", 0.0)
    cut = Batches(dataset, runs, config, CUDA)
    assert resident.resident is not None
    assert cut.resident is None
    assert torch.equal(resident(3), cut(3))


def test_a_run_whose_loss_is_not_finite_is_frozen_without_asking_the_gpu(tmp_path):
    made = stack(tmp_path)
    made.step(0)
    made.train_step.optimizer.weights[1, 5] = float("nan")
    before = made.train_step.optimizer.weights.clone()
    made.step(1)
    assert made.train_step.optimizer.finite.tolist() == [True, False, True, True]
    assert torch.equal(made.train_step.optimizer.weights[1].nan_to_num(), before[1].nan_to_num())


def test_validation_on_a_gpu_is_that_on_a_cpu(tmp_path):
    measured = []
    for device in (CUDA, torch.device("cpu")):
        made = stack(tmp_path, device)
        measured.append(Validation(made.job.dataset, 32, device)(made.model, made.train_step.autocast)[0])
    assert measured[0] == pytest.approx(measured[1], abs=1e-4)


def test_settings_for_a_gpu():
    config = small_config(precision="auto", max_iters=1000)
    chosen = choose(config, 300, CUDA)
    assert (chosen.precision, chosen.compile, chosen.kernel) == (native_precision(CUDA), True, False)
    assert chosen.stack_size >= 4


def test_a_stop_and_going_on_under_a_graph_ends_with_the_same_bits(tmp_path):
    config = small_config(compile=True)
    whole = train_experiment(config, tmp_path / "whole", "cuda")
    part = train_experiment(config, tmp_path / "part", "cuda")
    for run in part.runs:
        run.checkpoints()[0].rename(tmp_path / run.name)
    part = train_experiment(config, tmp_path / "part", "cuda")
    for ours, theirs in zip(part.runs, whole.runs, strict=True):
        assert (ours.path / "model.safetensors").read_bytes() == (theirs.path / "model.safetensors").read_bytes()


def test_too_little_memory_halves_the_stack(tmp_path, monkeypatch, caplog):
    step = Stack.step

    def full(self, iteration):
        if len(self.runs) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self, iteration)

    monkeypatch.setattr(Stack, "step", full)
    experiment = train_experiment(small_config(max_iters=2, warmup_iters=0), tmp_path / "x", "cuda")
    assert all(run.finished for run in experiment.runs)
    assert "out of memory with 4 runs at once" in caplog.text
