"""Fast paths change how long a step takes and nothing else."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.dataset import prepare
from errors import WorkError
from experiment.folder import Experiment, Run
from machine import free_bytes
from model.fast.build import have_kernel
from tests.conftest import small_config
from training import run as run_module
from training import settings as settings_module
from training.job import Job
from training.loop import Stack
from training.memory import bytes_of_a_run
from training.plan import cut, plan
from training.run import train_experiment
from training.settings import ExecutionSettings, choose, compile_repays, native_precision

CPU = torch.device("cpu")
EAGER = ExecutionSettings(stack_size=2)


def stack(path, settings=EAGER, **changes) -> Stack:
    config = small_config(max_iters=10, **changes)
    runs = [Run(path / f"r{i}", h, 0, 3e-3, 0.1, 10) for i, h in enumerate([1, 4])]
    job = Job(Experiment(path, config), prepare(config.data, progress=False), CPU, settings)
    return Stack(job, runs, 0)


def losses(made: Stack, steps=5) -> np.ndarray:
    rows = []
    made.train_step.rehearse(made.batches(0))
    for iteration in range(steps):
        made.step(iteration)
        rows.append(made.train_step.losses.numpy().copy())
    return np.array(rows)


def test_compiled_training_equals_eager_training(tmp_path):
    for model, kernel in (({}, have_kernel()), ({"dropout": 0.2}, False)):
        compiled = dataclasses.replace(EAGER, compile=True, kernel=kernel)
        eager = losses(stack(tmp_path / "a", model=model))
        made = stack(tmp_path / "b", compiled, model=model)
        assert np.abs(losses(made) - eager).max() < 1e-4
        from torch._dynamo.utils import counters

        assert counters["stats"]["unique_graphs"] > 0  # it did compile


def test_without_a_compiler_training_goes_on_and_says_so_once(tmp_path, caplog):
    eager = losses(stack(tmp_path / "a"))
    torch._dynamo.reset()
    no_compiler = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    try:
        with torch._inductor.config.patch(no_compiler):
            made = stack(tmp_path / "b", dataclasses.replace(EAGER, compile=True))
            assert np.array_equal(losses(made), eager)
    finally:
        torch.compiler.set_stance("default")
        torch._dynamo.reset()
    (said,) = (line for line in caplog.messages if "compile" in line)
    assert "torch.compile does not work here" in said


@pytest.mark.parametrize("attention", ["fp32", "bf16"])
def test_bf16_products_with_attention_in_either_precision_stay_close_to_fp32(tmp_path, attention):
    exact = losses(stack(tmp_path / "a"))
    rounded = losses(stack(tmp_path / "b", ExecutionSettings("bf16", attention)))
    assert np.abs(rounded - exact).max() < 0.05
    assert not np.array_equal(rounded, exact)


def test_training_with_the_kernel_equals_training_without(tmp_path):
    if not have_kernel():
        pytest.skip("no C++ compiler here")
    for precision, difference in (("fp32", 1e-5), ("bf16", 1e-2)):
        plain = losses(stack(tmp_path / "a", dataclasses.replace(EAGER, precision=precision)))
        made = stack(tmp_path / "b", dataclasses.replace(EAGER, precision=precision, kernel=True))
        assert np.abs(losses(made) - plain).max() < difference


@pytest.mark.parametrize(("attention", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_attention_has_its_own_precision_under_bf16(tmp_path, monkeypatch, attention, dtype):
    seen = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def watched(q, k, v, **more):
        seen.append(q.dtype)
        return fused(q, k, v, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    made = stack(tmp_path, ExecutionSettings("bf16", attention))
    made.model.h[0].mlp.c_fc.register_forward_hook(lambda _module, _inputs, out: seen.append(out.dtype))
    made.step(0)
    assert seen == [dtype, dtype, torch.bfloat16]  # two head counts, then the MLP


def test_precision_is_by_rule_from_what_the_cpu_has(monkeypatch):
    for tiles, avx, expected in ((False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda tiles=tiles: tiles)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        assert native_precision(CPU) == expected
        chosen = choose(small_config(precision="auto"), 300, CPU)
        assert (chosen.precision, chosen.attention_precision) == (expected, expected)
        asked = choose(small_config(precision="bf16"), 300, CPU)
        assert (asked.precision, asked.attention_precision) == ("bf16", expected)
    assert native_precision(torch.device("mps")) == "fp32"


def test_settings_of_the_first_start_are_used_again_on_the_same_kind_of_device():
    config = small_config(precision="auto")
    held = {"device_type": "cpu", "precision": "bf16", "attention_precision": "fp32", "compile": True, "stack_size": 3}
    assert choose(config, 300, CPU, held) == ExecutionSettings("bf16", "fp32", True, False, 3)
    elsewhere = choose(config, 300, CPU, held | {"device_type": "cuda"})
    assert (elsewhere.compile, elsewhere.stack_size > 3) == (False, True)
    asked = small_config(precision="fp32", compile=False, stack=2)
    assert choose(asked, 300, CPU, held) == ExecutionSettings("fp32", "fp32", False, False, 2)


def test_compilation_is_chosen_by_the_length_of_training():
    short, long = small_config(), small_config(max_iters=10**9)
    assert not compile_repays(short, 300, CPU)
    assert compile_repays(long, 300, CPU)


def test_the_memory_estimate_holds_for_what_training_allocates():
    """The profiler's own count of a step's allocations is the reference."""
    from torch.profiler import ProfilerActivity, profile

    from model.gpt import GPT

    cases = [
        (n_head, changes, vocab) for n_head in (1, 16) for changes in ({}, {"dropout": 0.1}) for vocab in (300, 9000)
    ]
    for n_head, changes, vocab_size in [*cases, (4, {"attention": "eager"}, 300), (16, {"attention": "eager"}, 300)]:
        config = small_config(model={"n_layer": 3, "n_embd": 64, "block_size": 64} | changes, batch_size=8)
        model = GPT(config.model, vocab_size, [n_head])
        model.init_weights([0])
        model.set_dropout_keys(torch.zeros(1, dtype=torch.int64))
        tokens = torch.zeros(1, 8, 64, dtype=torch.int64)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            model.loss(tokens, tokens).sum().backward()
        held = peak = 0
        for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
            if event.name() == "[memory]":
                held += event.nbytes()
                peak = max(peak, held)
        peak += 12 * model.n_parameters()  # the gradients are counted already
        estimate = bytes_of_a_run(config, vocab_size, n_head)
        assert peak < estimate < 2 * peak, (n_head, changes, vocab_size, peak, estimate)


def test_stacks_are_sized_by_free_memory_and_even(monkeypatch):
    config = small_config(sweep={"n_head": [1, 4], "seed": [0, 1, 2]})
    runs = [Run(Path(f"r{i}{h}"), h, i, 1e-3, 0.1, 12) for i in range(3) for h in (1, 4)]
    needed = bytes_of_a_run(config, 300, 4)
    assert free_bytes(CPU) > 10 * needed
    for room, sizes in ((100, [6]), (5.5, [3, 3]), (4.5, [3, 3]), (2.5, [2, 2, 2]), (0.1, [1] * 6)):
        monkeypatch.setattr(settings_module, "free_bytes", lambda device, room=room: room * needed / 0.7)
        n_stack, _ = cut(6, choose(config, 300, CPU).stack_size)
        stacks = plan(runs, {run: {} for run in runs}, n_stack)
        assert [len(together) for ((together, _),) in stacks] == sizes


def test_out_of_memory_halves_the_stack_and_goes_on_from_the_last_checkpoint(tmp_path, monkeypatch, caplog):
    whole = train_experiment(small_config(), tmp_path / "whole", "cpu")
    step = Stack.step

    def full(self, iteration):
        if iteration == 9 and len(self.runs) > 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory: 1 bytes")
        step(self, iteration)

    monkeypatch.setattr(Stack, "step", full)
    halved = train_experiment(small_config(), tmp_path / "halved", "cpu")
    told = [line for line in caplog.messages if "out of memory" in line]
    assert told == [
        "out of memory with 4 runs at once: going on with 2 from the last checkpoint",
        "out of memory with 2 runs at once: going on with 1 from the last checkpoint",
    ]
    for a, b in zip(whole.runs, halved.runs, strict=True):
        assert b.finished
        assert [line["iter"] for line in b.metrics()] == [0, 2, 4, 6, 8, 10, 12]
        assert b.metrics()[-1]["val_loss"] == pytest.approx(a.metrics()[-1]["val_loss"], abs=1e-4)


def test_a_run_that_does_not_fit_is_an_error_with_the_estimate(tmp_path, monkeypatch):
    def full(self, iteration):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run_module.Stack, "step", full)
    with pytest.raises(WorkError, match=r"one run needs about 0\.\d GiB on cpu, which has .* train\.batch_size"):
        train_experiment(small_config(), tmp_path / "x", "cpu")


def test_no_thread_computes_with_subnormals_and_the_caller_does_again():
    """In a process of its own, as threads take the setting over when they begin."""
    program = """
import torch
from machine import subnormals_flushed
torch.set_num_threads(2)
left = lambda n: int((torch.full((n,), 1e-39) * 0.5 != 0).sum())
with subnormals_flushed():
    print(left(2**22))
print(left(8))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["0", "8"]
