"""For use from Python: `from headcount import load, train`.

Light to import: torch is loaded with the first call.
"""

from pathlib import Path
from typing import TYPE_CHECKING

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
    config: str | Path,
    overrides: dict | None = None,
    out_dir: str | Path | None = None,
    device: str = "auto",
) -> "Runs":
    """Train the experiment of a config file, as train.py does, and return its runs.

    Args:
        config: the YAML file.
        overrides: values by dotted key, such as {"train.max_iters": 200, "sweep.n_head": [1, 4]}.
        out_dir: the experiment's folder; None: runs/NAME.

    Raises:
        errors.InputError: the config, the corpus or the folder cannot be used.
    """
    from experiment.command_line import parse

    arguments = [str(config)]
    for key, value in (overrides or {}).items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        arguments.append(f"--{key}={'null' if text is None else text}")
    parsed, _ = parse(arguments, "train", "", "")
    from training.run import train_experiment

    experiment = train_experiment(parsed, Path(out_dir or Path("runs") / parsed.name), device)
    return load(experiment.path, device)
