"""For use from Python: `from headcount import load, train`.

Light to import: torch is loaded with the first call.
"""

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiment.loaded import Runs


def load(path: str | Path, device: str = "auto") -> "Runs":
    """The runs in an experiment's folder, by name, to sample from, to look into and to read measurements of.

    `path` may also be a GPT-2 in Hugging Face format (a folder, or a name on the hub): a single run of that name.

    Raises:
        errors.InputError: there is neither in `path`.
    """
    from experiment.loaded import Runs

    return Runs.open(path, device)


def train(
    config: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    out_dir: str | Path | None = None,
    device: str = "auto",
) -> "Runs":
    """Train an experiment, as train.py does, and return its runs.

    Args:
        config: a YAML file, or what it would hold, such as {"model": {"n_head": 4}, "train": {"max_iters": 200}}.
        overrides: values by dotted key, such as {"train.max_iters": 200, "sweep.n_head": [1, 4]}.
        out_dir: the experiment's folder; None: runs/NAME.

    Raises:
        errors.InputError: the config, the corpus or the folder cannot be used.
    """
    from experiment.command_line import build
    from experiment.config import checked
    from training.run import train_experiment

    changes = {key: fspath(value) if isinstance(value, PathLike) else value for key, value in (overrides or {}).items()}
    built = build(config, checked(changes, "overrides"))
    experiment = train_experiment(built, Path(out_dir or Path("runs") / built.name), device)
    return load(experiment.path, device)
