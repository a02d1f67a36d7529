"""What is logged, shown in other people's tools: TensorBoard and Weights & Biases, one curve a run.

metrics.jsonl is the source of truth: a logger begins with the lines that it holds already and is handed every new one.
A logger that fails says so once and is left out; training goes on.
"""

import importlib.util
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from errors import InputError
from experiment.folder import Experiment, Run

log = logging.getLogger("headcount")


class TensorBoard:
    """Event files, a folder a run, in the experiment's folder: tensorboard --logdir runs/NAME/tensorboard

    A tool makes room for a run (`begin`), adds a line of metrics.jsonl (`write`), and at the end adds each run's final
    result with its hyperparameters, and pictures (PNG; `finish`).
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.path = experiment.path / "tensorboard"
        self.writers: dict[str, object] = {}
        self.last: dict[str, dict] = {}

    def begin(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(self.path / run.name, ignore_errors=True)
        self.writers[run.name] = SummaryWriter(self.path / run.name)

    def write(self, run: Run, line: dict) -> None:
        for key, value in scalars(line).items():
            self.writers[run.name].add_scalar(key, value, line["iter"])
        self.last.setdefault(run.name, {}).update(scalars(line))

    def finish(self, pictures: Sequence[Path]) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        for run in self.experiment.runs:
            if writer := self.writers.get(run.name):
                results = {k: v for k, v in self.last.get(run.name, {}).items() if k.startswith("val_loss")}
                for summary in hparams(hyperparameters(self.experiment, run), results):
                    writer.file_writer.add_summary(summary)
                writer.close()
        if pictures:
            import numpy as np
            from matplotlib.image import imread

            shutil.rmtree(self.path / "figures", ignore_errors=True)
            with SummaryWriter(self.path / "figures") as writer:
                for file in pictures:
                    pixels = (imread(file)[..., :3] * 255).astype(np.uint8)  # (height, width, 3)
                    writer.add_image(file.stem, pixels, dataformats="HWC")


class Wandb:
    """A W&B run for every run, grouped by experiment. WANDB_MODE=offline keeps all of it in the experiment's folder.

    W&B keeps the curves of earlier starts beside those of later ones.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.runs: dict[str, object] = {}

    def begin(self, run: Run) -> None:
        import wandb

        self.runs[run.name] = wandb.init(
            project="headcount",
            group=self.experiment.config.name,
            name=run.name,
            dir=str(self.experiment.path),
            config=hyperparameters(self.experiment, run),
            reinit="create_new",
            settings=wandb.Settings(silent=True, x_disable_stats=True, disable_git=True, console="off"),
        )

    def write(self, run: Run, line: dict) -> None:
        self.runs[run.name].log(scalars(line), step=line["iter"])

    def finish(self, pictures: Sequence[Path]) -> None:
        import wandb

        for number, run in enumerate(self.runs.values()):
            if number == 0 and pictures:
                run.log({file.stem: wandb.Image(str(file)) for file in pictures})
            run.finish()
        wandb.teardown()  # waits until its own process has written everything


TOOLS = {"tensorboard": TensorBoard, "wandb": Wandb}


class Loggers:
    """All loggers of a training, each of which may fail without harm."""

    def __init__(self, names: Sequence[str] = ()):
        """Raises InputError for an unknown name, and for a tool that is not installed."""
        for name in names:
            if name not in TOOLS:
                raise InputError(f"--log {name}: unknown; use {' or '.join(TOOLS)}")
            if importlib.util.find_spec(name) is None:
                raise InputError(f"--log {name}: not installed; .venv/bin/pip install -r requirements-extras.txt")
        self.names = list(dict.fromkeys(names))
        self.loggers: dict[str, TensorBoard | Wandb] = {}

    def open(self, experiment: Experiment) -> None:
        """Begin with an experiment. Before it nothing is logged."""
        for name in self.names:
            self._try(name, lambda name=name: self.loggers.update({name: TOOLS[name](experiment)}))

    def begin(self, run: Run, lines: Sequence[dict]) -> None:
        """A run begins or goes on; `lines`: what it logged before."""
        self._each(lambda logger: (logger.begin(run), [logger.write(run, line) for line in lines]))

    def write(self, run: Run, line: dict) -> None:
        self._each(lambda logger: logger.write(run, line))

    def finish(self, pictures: Callable[[], Sequence[Path]] = list) -> None:
        """Close; `pictures` draws figures and is called only where a logger wants them."""
        drawn: list[Path] = []
        if self.loggers:
            self._try("figures", lambda: drawn.extend(pictures()))
        self._each(lambda logger: logger.finish(drawn))
        self.loggers = {}

    def _each(self, act: Callable[[TensorBoard | Wandb], object]) -> None:
        for name, logger in list(self.loggers.items()):
            self._try(name, lambda logger=logger: act(logger))

    def _try(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # whatever a tool does, training goes on
            reason = (str(error).strip().splitlines() or [""])[0][:160]
            log.warning(f"--log {name} failed ({type(error).__name__}: {reason}); training goes on without it")
            self.loggers.pop(name, None)


def scalars(line: dict) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by name, losses by relation as val_loss/local and so on."""
    flat = {k: v for k, v in line.items() if k not in ("iter", "val_loss_by_relation", "diverged") and v is not None}
    relations = line.get("val_loss_by_relation") or {}
    return flat | {f"val_loss/{relation}": loss for relation, loss in relations.items() if loss is not None}


def hyperparameters(experiment: Experiment, run: Run) -> dict[str, str | int | float | bool]:
    """The config's values by dotted key, with the run's own head count, seed, learning rate and weight decay."""
    config = experiment.config
    values = {
        f"{section}.{key}": value
        for section in ("model", "data", "train")
        for key, value in asdict(getattr(config, section)).items()
    }
    values |= {"model.n_head": run.n_head, "seed": run.seed, "d_h": config.model.n_embd // run.n_head}
    values |= {"train.learning_rate": run.learning_rate, "train.weight_decay": run.weight_decay}
    return {key: value for key, value in values.items() if isinstance(value, str | int | float | bool)}
