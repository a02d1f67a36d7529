"""From run folders to plain tables. The only part of analysis that knows how an experiment lies on disk.

Folders are pooled into one study where every setting that could change a loss agrees; otherwise they are kept apart,
and the keys that differ are named.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from analysis.runs import RunCurve, Study
from errors import InputError
from experiment.folder import MAY_CHANGE, Experiment, Run

OWN = ("name", "model.n_head", "train.learning_rate", "train.weight_decay")
"""Keys that each experiment or run has for itself."""
NEUTRAL = (*MAY_CHANGE, "model.attention", "train.log_interval", "train.precision")
"""Keys that change no loss. Of precision, what was used is compared, not what was asked for ("auto")."""


def collect(folders: Sequence[str | Path]) -> tuple[list[Study], list[str]]:
    """Read experiment folders; return the studies in the order given, and what to say at the head of the output.

    Raises InputError where a folder is no experiment.
    """
    unique = {Path(folder).resolve(): str(folder) for folder in reversed(folders)}
    opened = [(name, Experiment.open(Path(name))) for name in reversed(unique.values())]
    pools: list[list] = []
    for name, experiment in opened:
        agreed = settings(experiment)
        pool = next((pool for pool in pools if pool[0] == agreed), None)
        if pool is None:
            pools.append([agreed, (name, experiment)])
        else:
            pool.append((name, experiment))
    notes = []
    for pool in pools[1:]:
        first = pools[0]
        keys = sorted(k for k in first[0] | pool[0] if first[0].get(k) != pool[0].get(k))
        told = "; ".join(f"{k}: {short(k, first[0])} and {short(k, pool[0])}" for k in keys)
        notes.append(f"{first[1][0]} and {pool[1][0]} are shown separately, as they differ in {told}")
    studies = [study(pool[0], pool[1:]) for pool in pools]
    return distinct(studies), notes


def distinct(studies: Sequence[Study]) -> list[Study]:
    """Studies of one name are told apart by their folders: their names, or whole paths where those are alike."""
    names = [one.name for one in studies]
    for shown in (lambda folder: Path(folder).name, str):
        labels = [
            f"{one.name} ({', '.join(map(shown, one.folders))})" if names.count(one.name) > 1 else one.name
            for one in studies
        ]
        if len(set(labels)) == len(labels):
            break
    return [replace(one, name=label) for one, label in zip(studies, labels, strict=True)]


def short(key: str, agreed: dict[str, object]) -> object:
    """A setting's value as a note shows it: of a checksum its beginning."""
    value = agreed.get(key)
    return value[:8] if key == "data_hash" and value else value


def settings(experiment: Experiment) -> dict[str, object]:
    """Everything that must agree before runs of two experiments are pooled, by dotted key."""
    flat = {}
    for section, value in asdict(experiment.config).items():
        if section == "sweep":
            continue
        fields = value.items() if isinstance(value, dict) else [(None, value)]
        flat.update({f"{section}.{key}" if key else section: v for key, v in fields})
    used = {key: experiment.environment.get(key) for key in ("data_hash", "precision")}
    return {key: value for key, value in flat.items() if key not in OWN + NEUTRAL} | used


def study(agreed: dict[str, object], members: list[tuple[str, Experiment]]) -> Study:
    """Pool the runs of experiments that share their settings; a run that occurs twice counts once."""
    seen, runs, notes = {}, [], []
    for folder, experiment in members:
        for run in experiment.runs:
            curve = run_curve(folder, run)
            key = (curve.n_head, curve.seed, curve.learning_rate, curve.weight_decay)
            before = seen.get(key)
            if before is not None and (curve.left_out() is not None or before.left_out() is None):
                notes.append(f"{folder}/{curve.name} left out: the same run as {before.experiment}/{before.name}")
                continue
            if before is not None:  # the earlier one could not be used, this one can
                runs.remove(before)
                notes.append(f"{before.experiment}/{before.name} left out: {before.left_out()}; {folder} has it whole")
            seen[key] = curve
            runs.append(curve)
    reasons: dict[tuple[str, str], list[str]] = {}
    for curve in runs:
        if why := curve.left_out():
            reasons.setdefault((curve.experiment, why), []).append(curve.name)
    notes += [f"{folder}: left out, {why}: {', '.join(names)}" for (folder, why), names in reasons.items()]
    first = members[0][1]
    tokens, size = (first.environment.get(key) for key in ("val_tokens", "val_bytes"))
    return Study(
        name=" + ".join(dict.fromkeys(experiment.config.name for _, experiment in members)),
        folders=[folder for folder, _ in members],
        n_embd=first.config.model.n_embd,
        n_layer=first.config.model.n_layer,
        block_size=first.config.model.block_size,
        parameters=first.environment.get("parameters"),
        tokens_per_byte=tokens / size if tokens and size else None,
        settings=agreed,
        runs=runs,
        notes=notes,
    )


def run_curve(folder: str, run: Run) -> RunCurve:
    """One run's metrics as lists. Raises InputError where a line lacks a key."""
    try:
        lines = run.metrics()
        evaluated = [line for line in lines if "val_loss" in line]
        relations: dict[str, list[float]] = {}
        for place, line in enumerate(evaluated):
            for relation, loss in (line.get("val_loss_by_relation") or {}).items():
                values = relations.setdefault(relation, [math.nan] * len(evaluated))
                values[place] = number(loss)
        measured = [line for line in lines if "train_loss" in line]
        return RunCurve(
            experiment=folder,
            name=run.name,
            n_head=run.n_head,
            seed=run.seed,
            learning_rate=run.learning_rate,
            weight_decay=run.weight_decay,
            iters=[line["iter"] for line in evaluated],
            val_loss=[number(line["val_loss"]) for line in evaluated],
            train_iters=[line["iter"] for line in measured],
            train_loss=[number(line["train_loss"]) for line in measured],
            relations=relations,
            finished=run.finished,
            iteration=run.iteration,
            diverged=run.diverged,
            grad_norm=[number(line.get("grad_norm")) for line in measured],
            lr=[number(line.get("lr")) for line in measured],
        )
    except KeyError as error:
        raise InputError(f"{run.path}/metrics.jsonl: a line has no {error}; was it written by train.py?") from None


def number(value: float | None) -> float:
    """JSON has no nan: what was not finite is written as null."""
    return math.nan if value is None else float(value)
