"""The results page, made again: train every study of the map, compare it, put its numbers on a page.

    python -m experiments.results [--reduced] [--only centre tales] [--shakespeare FILE] [--device cpu] [--out DIR]
                                  [--page docs/results.md]

A study is a config and what is changed in it; each H is compared at its own best of three learning rates, and of more
where the best one ends the grid, with seeds added until all pairs are settled to within 0.01 nats or there are twelve.
--reduced is a smaller map, 70 minutes on two CPU cores with AVX-512: fewer seeds, none added, fewer head counts but
at the centre, and the studies that are cheap, trained as long as in the whole one. A command that was killed goes on
where it stood. What compare.py wrote of a study is kept beside the page, which is made from all that is kept there; a
page other than docs/results.md is compared with the published one, study by study.
"""

import argparse
import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from analysis.collect import collect
from analysis.summary import summarize
from experiment.folder import Experiment
from experiments.findings import CENTRE, CHECKED, ELSEWHERE, LEARNED
from experiments.page import keep, kept, write_page
from experiments.repeated import again

ROOT = Path(__file__).parent.parent
CONFIG = "experiments/centre.yaml"
PYTHON = {"data.source": "package", "data.path": "torch", "data.tokenizer": "bpe", "data.vocab_size": 1024}
PYTHON |= {"data.val_tokens": 100_000}  # of two million: measuring all would take longer than training
PYTHON |= {"sweep.learning_rate": "1e-3,2e-3,4e-3"}
TALES = {"data.source": "tales", "data.path": "null", "data.tokenizer": "bpe", "data.vocab_size": 1024}
HIGHER = {"sweep.learning_rate": "6e-3,1.2e-2,2e-2"}
LOWER = {"sweep.learning_rate": "1e-3,2e-3,3e-3"}
LOWEST = {"sweep.learning_rate": "5e-4,1e-3,2e-3"}
"""Around the best rate where it was found to be another than the centre's, so that fewer are added."""
REDUCED = {"sweep.n_head": "1,4,16", "sweep.seed": "0:3", "data.val_tokens": 50_000}
WIDENED = 3
"""By how many learning rates a grid is widened at most, at each end."""


@dataclass(frozen=True)
class Study:
    """One experiment of the map."""

    changes: dict[str, object] = field(default_factory=dict)  # of the config
    config: str = CONFIG
    cheap: bool = True  # whether the reduced version has it
    reduced: dict[str, object] = field(default_factory=lambda: REDUCED)
    networks: bool = False  # whether heads are looked into, too
    settled: bool = True  # whether the whole version adds seeds


STUDIES = {
    CENTRE: Study(reduced=REDUCED | {"sweep.n_head": "1,2,4,8,16"}, networks=True),
    "width-32": Study({"model.n_embd": 32, **HIGHER}),
    "width-64": Study({"model.n_embd": 64, **HIGHER}),
    "width-256": Study({"model.n_embd": 256, **LOWER}, cheap=False),
    "context-32": Study({"model.block_size": 32, "train.batch_size": 32}),
    "context-512": Study({"model.block_size": 512, "train.batch_size": 2, **LOWEST}, cheap=False),
    "layers-1": Study({"model.n_layer": 1}),
    "layers-4": Study({"model.n_layer": 4}, cheap=False),
    "iterations-200": Study({"train.max_iters": 200, "train.warmup_iters": 20}),
    "iterations-800": Study({"train.max_iters": 800, "train.warmup_iters": 40}, cheap=False),
    "iterations-5000": Study({"train.max_iters": 5000, "train.warmup_iters": 250}, cheap=False),
    "narrow-context-512": Study(
        {"model.n_embd": 32, "model.block_size": 512, "train.batch_size": 2, **HIGHER}, cheap=False
    ),
    "python": Study(PYTHON, cheap=False),
    "tales": Study(TALES, cheap=False),
    CHECKED: Study(
        {"sweep.seed": "20:28", "train.precision": "fp32", "model.attention": "eager"},
        cheap=False,
        reduced=REDUCED | {"sweep.seed": "20:24"},
        settled=False,  # which would add the centre's own seeds
    ),
    ELSEWHERE: Study(cheap=False, reduced=REDUCED | {"sweep.n_head": "1,2,4,8,16"}, settled=False),
    LEARNED: Study(
        {"train.max_iters": 4800, "sweep.learning_rate": "1e-3,3e-3,1e-2"},
        config="configs/tales.yaml",
        reduced={"sweep.learning_rate": "3e-3", "sweep.n_head": "1,4,16"},
        networks=True,
    ),
}
"""Lines through the centre: width, context, layers, length of training, corpus; corners where they disagree; and the
centre checked with other seeds, in fp32, with unfused attention, and its own runs again, for another machine."""


def main() -> None:
    options = arguments()
    page, published = Path(options.page), ROOT / "docs" / "results.md"
    version = "reduced" if options.reduced else "whole"
    chosen = [name for name, study in STUDIES.items() if (study.cheap or not options.reduced) and name != ELSEWHERE]
    chosen = chosen if options.only is None else options.only
    for name, of in kept(page, chosen).items():
        if options.reduced and of["made"]["version"] == "whole":
            sys.exit(f"{page} has {name} of the whole version; leave --reduced out, or give another --page")
    for name in chosen:
        print(f"\n== {name}", flush=True)
        train(name, options)
        quick = [] if STUDIES[name].networks else ["--quick"]
        run("compare.py", folder(name, options), "--device", options.device, *quick)
        keep(page, name, folder(name, options), version)
        write_page(page, kept(page, STUDIES))
    if not chosen:
        write_page(page, kept(page, STUDIES))
    print(f"\nWrote {page}")
    if page.resolve() != published.resolve():
        print(again(kept(page, STUDIES), kept(published, STUDIES)))


def folder(name: str, options: argparse.Namespace) -> Path:
    return Path(options.out) / name


def train(name: str, options: argparse.Namespace) -> None:
    """Train a study in its folder: at its learning rates, at more where the best one ends the grid, with more seeds."""
    study = STUDIES[name]
    changes = study.changes | (study.reduced if options.reduced else {})
    if study.config == CONFIG and options.shakespeare and "data.source" not in changes:
        changes = changes | {"data.path": Path(options.shakespeare).resolve()}
    if options.seeds and name != CHECKED:
        changes = changes | {"sweep.seed": options.seeds}
    changes = {"name": name} | changes | {"out_dir": folder(name, options)}
    argv = ["train.py", ROOT / study.config, *(f"--{key}={value}" for key, value in changes.items())]
    argv += ["--device", options.device]
    held = folder(name, options)
    rates = {run.learning_rate for run in Experiment.open(held).runs} if (held / "environment.json").exists() else set()
    seeds: set[int] = set()
    for settling in [False, True] if study.settled and not options.reduced else [False]:
        more = True
        while more:
            axes = {"learning_rate": rates, "seed": seeds}
            given = [f"--sweep.{key}={','.join(f'{v:g}' for v in sorted(of))}" for key, of in axes.items() if of]
            run(*argv, *given, *(["--settle", 0.01, "--max_seeds", max(12, len(seeds))] if settling else []))
            rates, more = learning_rates(held)
            rates, seeds = rates | more, {run.seed for run in Experiment.open(held).runs}


def learning_rates(experiment: Path) -> tuple[set[float], set[float]]:
    """The learning rates of an experiment, and those to add because the best one for some H ends the grid.

    None beyond an end that was added to WIDENED times; the grid it began with is that of its first start.
    """
    (study,), _ = collect([experiment])
    more = {rate for row in summarize(study)["tuned"] for of in row["add_learning_rates"].values() for rate in of}
    rates = {run.learning_rate for run in study.runs}
    added = set(Experiment.open(experiment).environment["starts"][0].get("added", ()))
    first = {run.learning_rate for run in study.runs if run.name in added}
    lower, higher = (sum(side) for side in ([r < min(first) for r in rates], [r > max(first) for r in rates]))
    open_ends = (min(rates) if lower < WIDENED else 0.0, max(rates) if higher < WIDENED else math.inf)
    return rates, {rate for rate in more if rate < open_ends[0] or rate > open_ends[1]}


def run(program: str, *argv: object) -> None:
    """One of the three programs, shown as it works. Ends this one where it fails."""
    done = subprocess.run([sys.executable, str(ROOT / program), *map(str, argv)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def arguments() -> argparse.Namespace:
    result = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    result.add_argument("--reduced", action="store_true", help="a smaller map: 70 minutes on two CPU cores")
    result.add_argument("--seeds", metavar="0:4", help="the seeds to begin with, but where the centre is checked")
    studies = f"of {', '.join(STUDIES)}; none: the page alone, from what is kept"
    result.add_argument("--only", nargs="*", choices=STUDIES, metavar="STUDY", help=studies)
    result.add_argument("--shakespeare", metavar="FILE", help="a copy of tiny Shakespeare, where there is no network")
    result.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    result.add_argument(
        "--out", metavar="DIR", help="the folder of all run folders (default: results, or results-reduced)"
    )
    result.add_argument("--page", metavar="FILE", help="the page to write or to add to (default: results.md in --out)")
    options = result.parse_args()
    options.out = options.out or "results" + "-reduced" * options.reduced
    options.page = options.page or f"{options.out}/results.md"
    if Path(options.page).suffix != ".md":
        result.error(f"--page {options.page}: name a file that ends in .md")
    return options


if __name__ == "__main__":
    main()
