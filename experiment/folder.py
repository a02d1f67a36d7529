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
import math
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, Required

import yaml
from typing_extensions import TypedDict

from errors import InputError
from experiment.config import Config, checked, flatten, from_values
from experiment.values import fits, require
from files import read_bytes, read_checked, read_lines, sha256, write_lines
from terminal import command

METRICS = "metrics.jsonl"
AGAIN = "the train.py command that made it puts it right"
MAY_CHANGE = ("train.stack", "train.checkpoint_interval", "data.path")
"""Keys that may differ when an experiment goes on: they do not touch what a run learns (the data's hash is checked)."""

LINE = {"iter": int, "tokens": int, "diverged": int, "val_loss_by_relation": dict[str, float | None]}
"""Types in a line of metrics.jsonl; of all other keys: a number, or null where it was not finite."""


class Environment(TypedDict, total=False):
    """environment.json: where and how the experiment was carried out, and on what data."""

    time: str
    device: str
    device_type: str
    versions: dict[str, str]
    precision: Literal["fp32", "bf16"]
    attention_precision: Literal["fp32", "bf16"]
    compile: bool
    kernel: bool
    stack_size: int
    ranks: int  # processes that trained it together
    threads: int
    cores: int | None
    init: dict[str, Any] | None  # the GPT-2 that runs started from
    data_hash: Required[str]
    n_documents: int
    train_tokens: int
    val_tokens: int
    val_bytes: int
    vocab_size: Required[int]
    parameters: Required[int]
    parameter_table: dict[str, int]
    starts: list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run: its folder, and what sets it apart from its companions."""

    path: Path
    n_head: int
    seed: int
    learning_rate: float
    weight_decay: float
    max_iters: int

    @property
    def name(self) -> str:
        return self.path.name

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


def refuse_pickle(path: Path) -> None:
    """Raises InputError, with the way to go, where the file is there and of a kind that is never read."""
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl") and path.is_file():
        raise InputError(
            f"{path}: a pickle, such as nanoGPT's ckpt.pt, which can run code and is never read; save the model in "
            "Hugging Face format\n(GPT2LMHeadModel.save_pretrained: config.json and safetensors) and give that folder"
        )


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
            values = flatten(yaml.safe_load(read_lines(path / "config.yaml")), "config.yaml")
            return cls(path, from_values(checked(values, "config.yaml")))
        except FileNotFoundError:
            refuse_pickle(path / "ckpt.pt")
            raise InputError(
                f"{path}: no experiment here (no config.yaml); train one: {command('train.py', 'CONFIG.yaml')}"
            ) from None
        except NotADirectoryError:
            refuse_pickle(path)
            raise InputError(f"{path}: a file, not the folder of an experiment") from None
        except OSError as error:
            raise InputError(f"{path / 'config.yaml'}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, ValueError, RecursionError, InputError):
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
        """A run for every combination of the sweep, ordered by H, then seed, whether they have begun or not."""
        sweep, train = self.config.sweep, self.config.train
        rates, decays = sweep.learning_rate or [train.learning_rate], sweep.weight_decay or [train.weight_decay]
        combinations = product(*map(sorted, (self.config.head_counts, sweep.seed, rates, decays)))
        return [Run(self.path / self._name(*values), *values, train.max_iters) for values in combinations]

    def _name(self, n_head: int, seed: int, rate: float, decay: float) -> str:
        """A run's folder; without a rate that was not swept when it was trained, where it was."""
        sweep, train = self.config.sweep, self.config.train
        name, lr, wd = f"h{n_head:02d}-seed{seed}", f"-lr{rate:g}", f"-wd{decay:g}"
        lrs = [lr] * bool(sweep.learning_rate) + [""] * (rate == train.learning_rate)
        wds = [wd] * bool(sweep.weight_decay) + [""] * (decay == train.weight_decay)
        names = [name + lr + wd for lr, wd in product(lrs, wds)]
        return next((name for name in names if (self.path / name).is_dir()), names[0])

    @property
    def environment(self) -> Environment:
        """What environment.json holds. Raises InputError where there is none, or it is not what training wrote."""
        file = self.path / "environment.json"
        try:
            held = read_checked(file)
        except FileNotFoundError:
            train = command("train.py", "CONFIG.yaml")
            raise InputError(f"{self.path}: no environment.json; train it first: {train}") from None
        except (OSError, ValueError):
            held = None
        if not fits(held, Environment):
            raise InputError(f"{file}: damaged, or of another version; restore it, or remove it: {AGAIN}")
        return held

    @property
    def bits_per_nat(self) -> float | None:
        """Bits per byte of the validation text for each nat per token of loss on it."""
        tokens, size = (self.environment.get(name) for name in ("val_tokens", "val_bytes"))
        return tokens / (size * math.log(2)) if tokens and size else None
