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

import yaml

from errors import InputError
from experiment.config import Config, from_dict
from experiment.sweep import RunSpec, runs
from files import write_text

MAY_CHANGE = ("train.stack", "train.checkpoint_interval", "data.path")
"""Keys that may differ when an experiment goes on: they do not touch what a run learns (the data's hash is checked)."""


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
        measurement add val_loss (nats a token, null where not finite) and, for tales, val_loss_by_relation.
        """
        try:
            text = (self.path / "metrics.jsonl").read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines()]
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise InputError(f"{self.path / 'metrics.jsonl'}: not the lines that train.py wrote ({error})") from None

    def checkpoints(self) -> list[Path]:
        """Folders of whole checkpoints, newest first."""
        found = [p for p in (self.path / "checkpoints").glob("iter-*") if re.fullmatch(r"iter-\d+", p.name)]
        return sorted(found, key=checkpoint_iteration, reverse=True)

    @property
    def iteration(self) -> int:
        """Steps done as of the newest checkpoint."""
        checkpoints = self.checkpoints()
        return checkpoint_iteration(checkpoints[0]) if checkpoints else 0

    @property
    def finished(self) -> bool:
        return self.iteration >= self.max_iters

    @property
    def diverged(self) -> int | None:
        """The step at which loss or gradients stopped being finite, where they did."""
        return next((line["diverged"] for line in self.metrics() if line.get("diverged") is not None), None)


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
            values = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
            return cls(path, from_dict(values))
        except FileNotFoundError:
            raise InputError(
                f"{path}: no experiment here (no config.yaml); train one: python train.py CONFIG.yaml"
            ) from None
        except NotADirectoryError:
            raise InputError(f"{path}: a file, not the folder of an experiment") from None
        except (yaml.YAMLError, KeyError, TypeError, ValueError):
            raise InputError(f"{path / 'config.yaml'}: not the config that train.py wrote; restore it") from None

    @classmethod
    def create(cls, path: Path, config: Config) -> "Experiment":
        """Make the folder with its config."""
        path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
        write_text(path / "config.yaml", text)
        return cls(path, config)

    @property
    def runs(self) -> list[Run]:
        """All runs of the sweep, ordered by H, then seed, whether they have begun or not."""
        return [Run(self.path / spec.name, spec, self.config.train.max_iters) for spec in runs(self.config)]

    @property
    def environment(self) -> dict:
        """environment.json: versions, device, precision, data_hash, val_tokens, val_bytes, parameters."""
        try:
            return json.loads((self.path / "environment.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{self.path}: no environment.json; train it first: python train.py CONFIG.yaml") from None
        except ValueError:
            raise InputError(f"{self.path / 'environment.json'}: not the JSON that train.py wrote") from None

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
