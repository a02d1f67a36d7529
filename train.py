"""Train a head-count sweep: python train.py configs/quickstart.yaml [--section.key value ...]"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import errors

DESCRIPTION = "Train GPTs that differ in their number of attention heads, side by side, as one fused model."
EPILOG = (
    "The same command again continues an unfinished experiment. "
    "Exit status: 0 done, 1 failed while working, 2 bad usage or input, 130 or 143 interrupted after a checkpoint."
)


def _margin(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no margin in nats per token; the config comes before --settle"
        ) from None


OPTIONS = [
    ("--out_dir", {"type": str, "default": None, "help": "the experiment's folder; default runs/NAME"}),
    ("--device", {"type": str, "default": "auto", "help": "auto (cuda, else mps, else cpu), cpu, cuda, cuda:1 or mps"}),
    ("--log", {"type": str, "default": "", "help": "show measurements in tensorboard, in wandb, or tensorboard,wandb"}),
    (
        "--settle",
        {
            "type": _margin,
            "nargs": "?",
            "const": 0.01,
            "default": None,
            "metavar": "MARGIN",
            "help": "add seeds until all head counts differ or are the same to within MARGIN nats (default 0.01)",
        },
    ),
    (
        "--max_seeds",
        {"type": int, "default": None, "metavar": "N", "help": "seeds where --settle stops; default 16"},
    ),
    (
        "--describe",
        {
            "action": "store_true",
            "default": False,
            "help": "train nothing: show the shapes through one block, the parameters, and what each H costs",
        },
    ),
]


def main(argv: Sequence[str]) -> None:
    if int(os.environ.get("RANK", 0)) and "TORCHELASTIC_RUN_ID" in os.environ:
        _follow()
        return
    from experiment.command_line import parse

    config, options = parse(argv, "train.py", DESCRIPTION, EPILOG, OPTIONS)
    path = Path(options.out_dir or Path("runs") / config.name)
    # torch takes seconds to import: --help and a mistake in the config need none of it
    if options.describe:
        from experiment.describe import description

        print(description(config))
        return
    from experiment.config import Config
    from experiment.folder import Experiment
    from terminal import command
    from training.loggers import Loggers
    from training.ranks import Ranks
    from training.run import train_experiment
    from training.table import result_table

    errors.log_to(sys.stdout)
    names = [name.strip() for name in options.log.split(",") if name.strip()]
    with Ranks.joined() as ranks:

        def carry_out(config: Config) -> Experiment:
            loggers = Loggers(names)
            try:
                return train_experiment(config, path, options.device, loggers, ranks)
            finally:
                loggers.finish(lambda: _pictures(path))

        if options.settle is not None:
            from analysis.settle import MOST_SEEDS, settle

            experiment = settle(
                config, carry_out, options.settle, MOST_SEEDS if options.max_seeds is None else options.max_seeds
            )
        elif options.max_seeds is not None:
            raise errors.InputError("--max_seeds is where --settle stops; add --settle, or leave it out")
        else:
            experiment = carry_out(config)
    print(f"\n{result_table(experiment)}\n")
    print(errors.printable(f"sample from it:   {command('sample.py', path)}"))
    print(errors.printable(f"compare the runs: {command('compare.py', path)}"))


def _follow() -> None:
    """What torchrun's processes other than the first do. That an end was asked for, the first says."""
    from training.ranks import Ranks
    from training.run import follow

    try:
        with Ranks.joined() as ranks:
            follow(ranks)
    except errors.Interrupted as stop:
        sys.exit(stop.status)
    except KeyboardInterrupt:
        sys.exit(130)


def _pictures(path: Path) -> list[Path]:
    """compare.py's figures of the experiment that need no network, as PNG."""
    from analysis.report.page import write_pictures

    return write_pictures(path)


def cli() -> None:
    sys.exit(errors.guard("train.py", main, sys.argv[1:]))


if __name__ == "__main__":
    cli()
