"""What torchrun's processes learn together is what one learns alone, and a rank that dies costs only time."""

import json
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from experiment.folder import Experiment
from tests.conftest import config_yaml, small_config
from tests.torture.ranks import children
from tests.torture.ranks import torchrun as start
from training.plan import cut, plan
from training.ranks import Group, Ranks, Relay
from training.run import train_experiment


def torchrun(n_rank: int, config, out: Path) -> subprocess.Popen:
    file = out.with_suffix(".yaml")
    file.write_text(config_yaml(config))
    return start(n_rank, [file, "--out_dir", out])


def test_runs_over_ranks_end_with_the_bits_of_one_process_and_speak_with_one_voice(tmp_path):
    config = small_config()
    started = torchrun(2, config, tmp_path / "two")
    alone = train_experiment(config, tmp_path / "one", "cpu")
    out = started.communicate(timeout=120)[0]
    assert started.returncode == 0, out
    for run in alone.runs:
        other = tmp_path / "two" / run.name
        assert (other / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()
        lines = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
        timeless = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        assert timeless == [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]
    assert out.count("validation loss in nats per token\n") == 1
    assert out.count("compare the runs:") == 1
    assert "2 at once" in out


def test_ranks_that_share_a_batch_learn_what_one_learns(tmp_path):
    """Three ranks and two runs: two batches of 2 are split over them, unevenly; and so is the validation split."""
    config = small_config(sweep={"n_head": [1, 4], "seed": [0]}, max_iters=100, batch_size=2, eval_interval=50)
    config.train.gradient_accumulation_steps = 2
    started = torchrun(3, config, tmp_path / "three")
    alone = train_experiment(config, tmp_path / "one", "cpu")
    out = started.communicate(timeout=120)[0]
    assert started.returncode == 0, out
    for run in alone.runs:
        lines = (tmp_path / "three" / run.name / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == len(run.metrics())
        for line, other in zip(map(json.loads, lines), run.metrics(), strict=True):
            for key in ("train_loss", "val_loss"):
                assert line.get(key) == pytest.approx(other.get(key), abs=1e-4)


def test_a_rank_that_dies_ends_the_others_and_one_process_goes_on_to_the_same_bits(tmp_path):
    config = small_config(max_iters=400, eval_interval=200, checkpoint_interval=20)
    out = tmp_path / "x"
    started = torchrun(2, config, out)
    until = time.monotonic() + 60
    while time.monotonic() < until and len({path.parts[-3] for path in out.glob("*/checkpoints/iter-*")}) < 4:
        time.sleep(0.05)
    (rank,) = [pid for pid in children(started.pid) if environment(pid).get("RANK") == "1"]
    os.kill(rank, signal.SIGKILL)
    said = started.communicate(timeout=60)[0]
    assert started.returncode != 0
    assert "checkpoint written; the same command goes on from here" in said
    assert said.count("Traceback") == 1  # torchrun's own
    assert not any(run.finished for run in Experiment.open(out).runs)
    resumed = train_experiment(config, out, "cpu")
    for run, other in zip(resumed.runs, train_experiment(config, tmp_path / "whole", "cpu").runs, strict=True):
        assert (run.path / "model.safetensors").read_bytes() == (other.path / "model.safetensors").read_bytes()


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_a_mistake_is_said_once_by_the_first(tmp_path):
    """The others wait for it and end with it: no line of theirs, no traceback, no folder."""
    started = torchrun(3, small_config(model={"block_size": 100_000}), tmp_path / "x")
    out = started.communicate(timeout=120)[0]
    assert started.returncode != 0
    assert out.count("train.py: model.block_size: 100000 is too long") == 1
    assert out.count("Traceback") == 1  # torchrun's own
    assert "exitcode  : 2" in out
    assert not (tmp_path / "x").exists()


def test_a_signal_to_torchrun_ends_ranks_that_share_a_batch_at_one_step_which_others_go_on_from(tmp_path):
    config = small_config(
        sweep={"n_head": [4], "seed": [0]}, max_iters=4000, eval_interval=4000, checkpoint_interval=20
    )
    out = tmp_path / "x"
    started = torchrun(2, config, out)
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(out.glob("*/checkpoints/iter-*")):
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    said = started.communicate(timeout=60)[0]
    assert said.count("train.py: SIGTERM at iteration") == 1
    (run,) = Experiment.open(out).runs
    assert f"at iteration {run.iteration} of 4000: checkpoint written" in said
    assert Experiment.open(out).environment["ranks"] == 2


def test_what_any_rank_warns_of_is_said_once_by_the_first(caplog, monkeypatch):
    store, log = dist.HashStore(), logging.getLogger("headcount")
    first, said = Ranks(0, 3, store), []
    monkeypatch.setattr(log, "handlers", [Relay(store)])
    log.handlers[0].addFilter(lambda record: Relay.is_new(store, record))
    for text in ("h01-seed0 diverged", "no compiler", "no compiler"):  # two ranks have none
        log.warning(text)
    log.info("expected to take about 00:07")
    log.handlers = [logging.Handler()]
    log.handlers[0].emit = lambda record: said.append((record.levelname, record.getMessage()))
    first.hear()
    first.hear()
    assert said == [("WARNING", "h01-seed0 diverged"), ("WARNING", "no compiler")]


def test_stacks_are_of_equal_work_and_dealt_to_every_rank():
    runs = Experiment(Path("x"), small_config(sweep={"n_head": [1, 2, 4], "seed": [0, 1]})).runs
    stacks = plan(runs, {run: {} for run in runs}, 2)
    assert [{run.n_head for run in together} for ((together, _),) in stacks] == [{1, 2, 4}] * 2
    dealt = [Ranks(rank, 2, ()).deal(stacks, 2, 8, "cpu") for rank in range(2)]
    assert dealt == [(stacks[0], Group()), (stacks[1], Group())]


def test_runs_whose_ranks_were_killed_go_on_with_as_many_others_as_can_be():
    """One of two ranks is killed while it writes: companions stay together, as one alone has other bits."""
    runs = Experiment(Path("x"), small_config(max_iters=700)).runs

    def left(*steps):
        held = {run: dict.fromkeys(reached) for run, reached in zip(runs, steps, strict=True)}
        return plan(runs, held, 1)[0]

    (a, b, c, d) = runs
    assert left([20, 40], [200, 220], [20], [200, 220]) == [([a, c], 20), ([b, d], 220)]
    assert left([20], [200, 220], [], [200, 220]) == [([a, c], 0), ([b, d], 220)]
    assert left([20], [20], [], []) == [(runs, 0)]
    assert left([40, 60], [60, 80], [40, 60], [60, 80]) == [(runs, 60)]
    assert left([20, 40], [60, 80], [100, 120], [60, 80]) == [([a], 40), ([b, d], 80), ([c], 120)]


def test_ranks_join_others_by_the_sizes_alone_whatever_is_left(monkeypatch):
    """A stack that was shared by two is shared by two again: its bits depend on it."""
    monkeypatch.setattr("training.ranks.dist.is_initialized", lambda: True)
    monkeypatch.setattr("training.ranks.dist.new_group", lambda members, timeout: tuple(members))
    stacks = [["a"], [], ["c"]]  # the second is done
    dealt = [Ranks(rank, 5, ()).deal(stacks, 2, 8, "cpu") for rank in range(5)]
    assert [own for own, _ in dealt] == [["a", "c"]] * 3 + [[]] * 2
    assert [(group.index, group.size) for _, group in dealt] == [(0, 3), (1, 3), (2, 3), (0, 2), (1, 2)]
    few = [Ranks(rank, 5, ()).deal([["a"]], 1, 4, "cpu") for rank in range(5)]  # four sequences a step
    assert few[4] == ([], Group())
    assert few[3][1] == Group(3, 4, (0, 1, 2, 3))


@pytest.mark.parametrize(
    ("n_run", "largest", "n_rank", "batch", "stacks", "groups"),
    [
        (15, 9, 1, 8, 2, 1),  # one process: as few stacks as memory allows
        (12, 64, 2, 8, 2, 2),  # a stack for each rank
        (5, 64, 2, 8, 2, 2),  # three and two: sharing would take a sixth less
        (1, 64, 2, 8, 1, 1),  # one run, shared
        (9, 64, 8, 64, 2, 2),  # 5 / 4 of a run's time, where one rank with two runs would take 2
        (9, 3, 8, 64, 4, 2),  # the same where three fit
        (40, 64, 8, 8, 8, 8),
        (9, 64, 64, 64, 9, 9),
        (2, 64, 3, 1, 2, 2),  # nothing to share
    ],
)
def test_groups_share_a_batch_where_that_is_faster(n_run, largest, n_rank, batch, stacks, groups):
    assert cut(n_run, largest, n_rank, batch) == (stacks, groups)
