"""What torchrun's processes learn together is what one learns alone, and a rank that dies costs only time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiment.folder import Experiment
from tests.conftest import config_yaml, small_config
from training.plan import plan, stack_size
from training.ranks import Ranks
from training.run import train_experiment

ROOT = Path(__file__).parent.parent.parent


def torchrun(ranks: int, config, out: Path) -> subprocess.Popen:
    file = out.with_suffix(".yaml")
    file.write_text(config_yaml(config))
    command = ["-m", "torch.distributed.run", "--nproc_per_node", str(ranks), ROOT / "train.py", file, "--out_dir", out]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command)], env=environment, **streams)


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
    """Three ranks and two runs: two batches of 3 are split over them."""
    config = small_config(sweep={"n_head": [1, 4], "seed": [0]}, max_iters=100, batch_size=3, eval_interval=50)
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
    config = small_config(max_iters=700, eval_interval=350, checkpoint_interval=20)
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


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_runs_are_dealt_evenly_and_ranks_without_one_join_others(monkeypatch):
    monkeypatch.setattr("training.ranks.dist.new_group", tuple)
    runs = Experiment(Path("x"), small_config(sweep={"n_head": [1, 2, 4], "seed": [0, 1]})).runs
    stacks = plan([runs], {run: {} for run in runs}, 3)
    assert [len(together) for together, _ in stacks] == [3, 3]
    assert [{run.n_head for run in together} for together, _ in stacks] == [{1, 2, 4}] * 2
    dealt = [Ranks(rank, 2).deal(stacks) for rank in range(2)]
    assert [own for own, _ in dealt] == [stacks[:1], stacks[1:]]
    assert all(group.size == 1 for _, group in dealt)
    dealt = [Ranks(rank, 5).deal(stacks) for rank in range(5)]
    assert [own[0] for own, _ in dealt] == [stacks[0], stacks[1]] * 2 + [stacks[0]]
    assert [(group.index, group.size) for _, group in dealt] == [(0, 3), (0, 2), (1, 3), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    ("n_run", "n_rank", "largest", "batch", "size"),
    [
        (15, 1, 9, 8, 9),
        (12, 2, 64, 8, 6),
        (5, 2, 64, 8, 3),
        (9, 8, 64, 64, 9),
        (9, 8, 2, 64, 2),
        (40, 8, 64, 8, 5),
        (2, 3, 64, 6, 2),
        (2, 3, 64, 4, 1),
    ],
)
def test_stacks_are_one_a_rank_unless_a_shared_batch_is_much_faster(n_run, n_rank, largest, batch, size):
    assert stack_size(n_run, n_rank, largest, batch) == size
