"""The run folder: all that passes between train.py, sample.py and compare.py.

runs/quickstart/            Experiment
  config.yaml               the resolved config
  environment.json          versions, device, precision, data hash
  tokenizer/
  h04-seed0/                Run
    model.safetensors config.json   a GPT-2, as of the newest checkpoint
    metrics.jsonl
    checkpoints/iter-000400/
"""

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from errors import InputError
from experiment.config import Config, check, from_dict
from experiment.shapes import require
from experiment.sweep import RunSpec, runs
from files import read_bytes, read_checked, read_lines, sha256, write_lines

METRICS = "metrics.jsonl"
AGAIN = "the train.py command that made it puts it right"
MAY_CHANGE = ("train.stack", "train.checkpoint_interval", "data.path")
"""Keys that may differ when an experiment goes on: they do not touch what a run learns (the data's hash is checked)."""

LINE = {"iter": int, "tokens": int, "diverged": int, "val_loss_by_relation": dict[str, float | None]}
"""Types in a line of metrics.jsonl; of all other keys: a number, or null where it was not finite."""
ENVIRONMENT = {
    **dict.fromkeys(["time", "device", "device_type", "data_hash"], str),
    **dict.fromkeys(["precision", "attention_precision"], Literal["fp32", "bf16"]),
    **dict.fromkeys(["compile", "kernel"], bool),
    **dict.fromkeys(["stack_size", "threads", "train_tokens", "val_tokens", "val_bytes"], int),
    **dict.fromkeys(["vocab_size", "parameters"], int),
    "cores": int | None,
    "versions": dict[str, str],
    "parameter_table": dict[str, int],
    "init": dict[str, Any] | None,
    "starts": list[dict[str, Any]],
}
"""Types in environment.json."""


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    path: Path
    spec: RunSpec
    max_iters: int

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def n_head(self) -> int:
        return self.spec.n_head

    @property
    def seed(self) -> int:
        return self.spec.seed

    @property
    def learning_rate(self) -> float:
        return self.spec.learning_rate

    @property
    def weight_decay(self) -> float:
        return self.spec.weight_decay

    def metrics(self) -> list[dict]:
        """The lines of metrics.jsonl, oldest first; none where training has not begun.

        Each has iter (steps done), tokens, seconds, lr, and train_loss and grad_norm where steps were made; lines of a
        measurement add val_loss (nats a token, null where not finite) and, for tales, val_loss_by_relation. Once there
        is a checkpoint, only the lines that its copy proves count: the steps after it will be made again.

        Raises:
            InputError: the lines are not those that training wrote.
        """
        file, checkpoints = self.path / METRICS, self.checkpoints()
        try:
            held = read_bytes(file)
            if checkpoints:
                kept = verified(checkpoints[0], METRICS)
                if not held.startswith(kept):
                    raise ValueError("not the lines of its newest checkpoint")
                held = kept
            lines = [json.loads(line) for line in held.decode("utf-8").split("\n")[:-1]]  # a last may be cut short
            for line in lines:
                require(line, LINE, float | None)
                if "iter" not in line:
                    raise ValueError("a line has no 'iter'")
            return lines
        except FileNotFoundError:
            if not checkpoints:
                return []
            raise InputError(f"{file}: missing; {AGAIN}") from None
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}; {AGAIN}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}: damaged ({error}); {AGAIN}") from None

    def checkpoints(self) -> list[Path]:
        """Folders of whole checkpoints, newest first."""
        names = (p for p in (self.path / "checkpoints").glob("iter-*") if re.fullmatch(r"iter-[0-9]{6,12}", p.name))
        found = [p for p in names if p.is_dir() and not p.is_symlink()]
        return sorted(found, key=checkpoint_iteration, reverse=True)

    @property
    def iteration(self) -> int:
        """Steps done as of the newest checkpoint."""
        checkpoints = self.checkpoints()
        return checkpoint_iteration(checkpoints[0]) if checkpoints else 0

    @property
    def finished(self) -> bool:
        """Whether every step is done, and the last one measured, as of the newest checkpoint."""
        if self.iteration < self.max_iters:
            return False
        try:
            return read_checked(self.checkpoints()[0] / "state.json").get("unmeasured") is None
        except (OSError, ValueError):
            return True  # damaged: said where the checkpoint is read

    @property
    def diverged(self) -> int | None:
        """The step at which loss or gradients stopped being finite, where they did."""
        return next((line["diverged"] for line in self.metrics() if line.get("diverged") is not None), None)


def refuse_links(*folders: Path) -> None:
    """Raises InputError where a folder that is written into is a link, which would lead the writer elsewhere."""
    for folder in folders:
        if folder.is_symlink():
            raise InputError(f"{folder}: a symbolic link, which is not followed; remove it")


def verified(checkpoint: Path, name: str) -> bytes:
    """The content of a checkpoint's file. Raises ValueError where it is not what was written."""
    try:
        checksums = read_checked(checkpoint / "state.json")["sha256"]
        if sha256(checkpoint / name) == checksums[name]:
            return read_bytes(checkpoint / name)
    except FileNotFoundError as error:
        raise ValueError(f"{checkpoint.name}/{Path(error.filename).name} is missing") from None
    except (KeyError, TypeError):
        raise ValueError(f"{checkpoint.name}/state.json is of another version") from None
    raise ValueError(f"{checkpoint.name}/{name} is damaged (checksum)")


def checkpoint_iteration(path: Path) -> int:
    return int(path.name.removeprefix("iter-"))


@dataclass(frozen=True)
class Experiment:
    """An experiment's folder."""

    path: Path
    config: Config

    @classmethod
    def open(cls, path: str | Path) -> "Experiment":
        """Raises InputError where `path` is no experiment's folder."""
        path = Path(path)
        try:
            values = yaml.safe_load(read_lines(path / "config.yaml"))
            config = from_dict(values)
            check(config)
            return cls(path, config)
        except FileNotFoundError:
            raise InputError(
                f"{path}: no experiment here (no config.yaml); train one: python train.py CONFIG.yaml"
            ) from None
        except NotADirectoryError:
            raise InputError(f"{path}: a file, not the folder of an experiment") from None
        except OSError as error:
            raise InputError(f"{path / 'config.yaml'}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, RecursionError, InputError):
            raise InputError(
                f"{path / 'config.yaml'}: damaged, edited or of another version; "
                "restore it, or give train.py another --out_dir"
            ) from None

    @classmethod
    def create(cls, path: Path, config: Config) -> "Experiment":
        """Make the folder with its config."""
        path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
        write_lines(path / "config.yaml", text)
        return cls(path, config)

    @property
    def runs(self) -> list[Run]:
        """All runs of the sweep, ordered by H, then seed, whether they have begun or not."""
        specs = [dataclasses.replace(spec, name=self._held_name(spec)) for spec in runs(self.config)]
        return [Run(self.path / spec.name, spec, self.config.train.max_iters) for spec in specs]

    def _held_name(self, spec: RunSpec) -> str:
        """A run's name, without a rate that was not swept when it was trained, where it was."""
        train, names = self.config.train, [spec.name]
        if spec.learning_rate == train.learning_rate:
            names += [name.replace(f"-lr{spec.learning_rate:g}", "") for name in names]
        if spec.weight_decay == train.weight_decay:
            names += [name.replace(f"-wd{spec.weight_decay:g}", "") for name in names]
        return next((name for name in names if (self.path / name).is_dir()), spec.name)

    @property
    def environment(self) -> dict:
        """environment.json: versions, device, precision, data_hash, val_tokens, val_bytes, parameters."""
        try:
            held = read_checked(self.path / "environment.json")
            require(held, ENVIRONMENT)
            if not {"data_hash", "vocab_size", "parameters"} <= held.keys():
                raise ValueError("of another version")
            return held
        except FileNotFoundError:
            raise InputError(f"{self.path}: no environment.json; train it first: python train.py CONFIG.yaml") from None
        except (OSError, ValueError):
            raise InputError(
                f"{self.path / 'environment.json'}: damaged, or of another version; restore it, or remove it: {AGAIN}"
            ) from None

    def select(self, n_head: Iterable[int] | None = None, seed: int | None = None) -> list[Run]:
        """Runs of the given head counts and seed (None: all).

        Raises:
            InputError: names what the experiment does not hold, and what it does.
        """
        chosen = self.runs
        for name, wanted in (("n_head", n_head), ("seed", None if seed is None else [seed])):
            if wanted is None:
                continue
            held = sorted({getattr(run, name) for run in self.runs})
            if missing := [value for value in wanted if value not in held]:
                raise InputError(
                    f"{self.path} has no run with {name} {', '.join(map(str, missing))}; "
                    f"it has {', '.join(map(str, held))}"
                )
            chosen = [run for run in chosen if getattr(run, name) in set(wanted)]
        return chosen
