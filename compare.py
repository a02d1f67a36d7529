"""Compare head-count runs: what did the number of heads H change, and how sure is that?

Reads run folders that train.py wrote, prints tables by head count with paired differences and error bars, and writes
report.html, figures/ and report.json. Libraries are loaded only where there is work to do: --help answers at once.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from errors import ArgumentParser, InputError, guard, log_to, printable

if TYPE_CHECKING:  # they take seconds to import
    from analysis.report.parts import Plan

EPILOG = """\
examples:
  python compare.py runs/quickstart                   report.html, figures/ and report.json into the run folder
  python compare.py runs/quickstart --quick           only what the runs have measured already, in seconds
  python compare.py runs/quickstart --reference 4     differences to H = 4, chosen before looking at results
  python compare.py runs/quickstart --margin 0.005    losses within 0.005 nats per token of each other are the same
  python compare.py runs/a runs/b --out comparison    pool two experiments that share their settings; of others,
                                                      show how the effect of H depends on what they differ in
  python compare.py runs/quickstart --json | jq '.studies[0].answer'

Head counts are compared within a seed. Runs that are unfinished or diverged are left out and named.
exit status: 0 done, 1 failed while working, 2 bad usage or input
"""


def parser() -> argparse.ArgumentParser:
    result = ArgumentParser(
        prog="compare.py",
        description="Compare head-count runs: loss by number of heads H, with paired differences and error bars.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument(
        "runs", nargs="+", metavar="RUNS", help="an experiment's folder, as train.py wrote it; or a GPT-2"
    )
    result.add_argument(
        "--out",
        metavar="DIR",
        help="where report.html, figures/ and report.json go (default: RUNS; for a GPT-2: runs/heads-NAME)",
    )
    result.add_argument("--reference", type=int, metavar="H", help="compare with this H (default: the lowest loss)")
    result.add_argument(
        "--margin", type=margin, default=0.01, metavar="NATS", help="losses within it are the same (default: 0.01)"
    )
    result.add_argument(
        "--quick", action="store_true", help="run no network: show what was measured before (of a GPT-2: no ablation)"
    )
    result.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    result.add_argument("--titles", action="store_true", help="put a title into every figure, for use without caption")
    result.add_argument("--csv", action="store_true", help="write the tables as CSV too, into tables/")
    result.add_argument("--json", action="store_true", help="print report.json on stdout, and nothing else")
    return result


def margin(text: str) -> float:
    """Nats per token, above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no margin: give nats per token above 0, such as 0.01")
    return value


def main(argv: Sequence[str]) -> None:
    """Compare, print and write. Raises InputError for folders that are no experiments and an H that was not run."""
    options = parser().parse_args(argv)
    log_to(sys.stderr)  # what is being worked on: stdout is the result's
    from analysis.report.overview import overview
    from analysis.report.page import write_report
    from analysis.report.parts import make_parts
    from analysis.report.terminal import report_text
    from experiment.pretrained import looks_pretrained
    from files import make_folder
    from terminal import window

    foreign = [path for path in options.runs if looks_pretrained(path)]
    if foreign and len(foreign) < len(options.runs):
        own = next(path for path in options.runs if path not in foreign)
        raise InputError(f"{foreign[0]} is a GPT-2 and {own} an experiment: give compare.py one or the other")
    if options.out:
        make_folder(Path(options.out), "--out")
    plans, notes, out = pretrained(foreign, options) if foreign else studies(options)
    parts = make_parts(plans)
    parts = parts if foreign else [*overview(parts), *parts]
    command = shlex.join(["python", "compare.py", *argv])
    report = write_report(out, parts, notes, command, options.titles, options.csv)
    if options.json:
        print((out / "report.json").read_text(encoding="utf-8"), end="")
        return
    print(printable(report_text(parts, notes, window())))
    drawn = len({name.rpartition(".")[0] for name in report["figures"]})
    written = [f"{out / 'report.html'}, report.json"]
    written += [f"{drawn} figures (SVG, PDF, PNG) in figures/"] * bool(drawn)
    written += [f"{len(report['tables'])} tables in tables/"] * bool(report["tables"])
    print(printable(f"\nWrote {', '.join(written)}"))


def studies(options: argparse.Namespace) -> tuple[list["Plan"], list[str], Path]:
    """What is to be made of the experiments, what to say before everything else, and where it goes."""
    from analysis.collect import collect
    from analysis.report.parts import study_plan
    from experiment.folder import Experiment

    found, notes = collect(options.runs)
    plans = [
        study_plan(
            study,
            [Experiment.open(folder) for folder in study.folders],
            options.reference,
            options.quick,
            options.device,
            len(found),
            options.margin,
        )
        for study in found
    ]
    return plans, notes, Path(options.out or options.runs[0])


def pretrained(paths: Sequence[str], options: argparse.Namespace) -> tuple[list["Plan"], list[str], Path]:
    """The same of GPT-2s in Hugging Face format, for which there is no sweep to compare."""
    from analysis.report.parts import pretrained_plan
    from experiment.pretrained import open_pretrained

    sources = [open_pretrained(path) for path in paths]
    for source in sources:
        _ = source.files  # no weights: an error before anything is drawn
    plans = [pretrained_plan(source, options.quick, options.device, len(sources)) for source in sources]
    return plans, [], Path(options.out or Path("runs") / f"heads-{Path(sources[0].name).name}")


def cli() -> None:
    sys.exit(guard("compare.py", main, sys.argv[1:]))


if __name__ == "__main__":
    cli()
