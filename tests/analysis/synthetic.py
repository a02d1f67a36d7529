"""Runs with known losses, as plain data and as a folder on disk."""

import json

from analysis.runs import RunCurve
from experiment.config import Config, SweepConfig, TrainConfig
from experiment.folder import Experiment
from files import sha256, write_checked

NOISE = {0: 0.0, 1: 0.004, 2: -0.003, 3: 0.002, 4: -0.001}  # by seed; multiplied by H's place below


def run(n_head, seed, final, **changes):
    values = {
        "experiment": "runs/x",
        "name": f"h{n_head:02d}-seed{seed}",
        "n_head": n_head,
        "seed": seed,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "iters": [0, 100, 200],
        "val_loss": [6.2, 3.0, final],
        "train_iters": list(range(10, 201, 10)),
        "train_loss": [3.0] * 20,
        "grad_norm": [1.0] * 20,
        "lr": [1e-3] * 20,
        "relations": {"local": [6.0, 1.0, final / 3], "long_range": [6.0, 4.0, final * 1.2]},
    }
    return RunCurve(**values | changes)


def sweep(effects, seeds=range(5), **changes):
    return [
        run(h, s, 2 + 0.1 * s + effect + place * NOISE[s], **changes)
        for place, (h, effect) in enumerate(effects.items())
        for s in seeds
    ]


ENVIRONMENT = {
    "data_hash": "a1",
    "train_tokens": 500,
    "val_tokens": 50,
    "val_bytes": 100,
    "vocab_size": 512,
    "parameters": 1000,
    "parameter_table": {"everything": 1000},
    "precision": "fp32",
}


def far_apart(run):
    """A final loss: H = 1 ends 0.2 higher than the others."""
    return 2 + 0.1 * run.seed + (0.2 if run.n_head == 1 else 0.001 * run.seed)


def write_experiment(path, heads=(1, 4), seeds=(0, 1, 2), environment=(), rates=(), final=far_apart, **train):
    """A finished experiment on disk; final: the last validation loss of a run."""
    sweep = SweepConfig(n_head=list(heads), seed=list(seeds), learning_rate=list(rates))
    config = Config(name=path.name, sweep=sweep, train=TrainConfig(**{"max_iters": 200} | train))
    experiment = Experiment.create(path, config)
    write_checked(path / "environment.json", ENVIRONMENT | dict(environment))
    for run in experiment.runs:
        (run.path / "checkpoints" / "iter-000200").mkdir(parents=True)
        end = final(run)
        lines = [{"iter": 0, "tokens": 0, "seconds": 0.1, "val_loss": 6.2, "val_loss_by_relation": {"local": 6.0}}]
        lines.append({"iter": 10, "tokens": 10, "seconds": 1.0, "train_loss": 5.0, "grad_norm": 1.0, "lr": 1e-3})
        lines.append({**lines[1], "iter": 200, "val_loss": end, "val_loss_by_relation": {"local": end / 2}})
        write_metrics(run, lines)
    return experiment


def write_metrics(run, lines):
    checkpoint = run.path / "checkpoints" / "iter-000200"
    for folder in (run.path, checkpoint) if checkpoint.exists() else (run.path,):
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if folder == checkpoint:
            write_checked(folder / "state.json", {"sha256": {"metrics.jsonl": sha256(folder / "metrics.jsonl")}})
