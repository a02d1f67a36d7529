"""Compare head-count runs: what did the number of heads H change, and how sure is that?

Reads run folders that train.py wrote, prints tables by head count with paired differences and error bars, and writes
report.html, figures/ and report.json. Libraries are loaded only where there is work to do: --help answers at once.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from errors import ArgumentParser, InputError, guard, log_to, printable

if TYPE_CHECKING:  # they take seconds to import
    from analysis.report.html import Part
    from analysis.runs import Study

EPILOG = """\
examples:
  python compare.py runs/quickstart                   report.html, figures/ and report.json into the run folder
  python compare.py runs/quickstart --quick           only what the runs have measured already, in seconds
  python compare.py runs/quickstart --reference 4     differences to H = 4, chosen before looking at results
  python compare.py runs/a runs/b --out comparison    pool two experiments that share their settings
  python compare.py runs/quickstart --json | jq '.studies[0].groups[0].sentence'

Head counts are compared within a seed (paired t-test, Holm-corrected). Runs that are unfinished or diverged are left
out and named. exit status: 0 done, 1 failed while working, 2 bad usage or input
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
    result.add_argument("--quick", action="store_true", help="run no network: no head measures, explorer or samples")
    result.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    result.add_argument("--json", action="store_true", help="print report.json on stdout, and nothing else")
    return result


def main(argv: Sequence[str]) -> None:
    """Compare, print and write. Raises InputError for folders that are no experiments and an H that was not run."""
    options = parser().parse_args(argv)
    log_to(sys.stderr)  # what is being worked on: stdout is the result's
    from analysis.collect import collect
    from analysis.report.figures import save_pictures
    from analysis.report.html import write_report
    from analysis.report.terminal import report_text
    from analysis.summary import summarize
    from experiment.folder import refuse_links
    from experiment.pretrained import looks_pretrained
    from files import make_folder, write_json

    foreign = [path for path in options.runs if looks_pretrained(path)]
    own = [path for path in options.runs if path not in foreign]
    if foreign and own:
        raise InputError(f"{foreign[0]} is a GPT-2 and {own[0]} an experiment: give compare.py one or the other")
    if foreign:
        show_pretrained(foreign, options, shlex.join(["python", "compare.py", *argv]))
        return
    out = Path(options.out or own[0])
    if options.out:
        make_folder(out, "--out")
    refuse_links(out / "figures")
    studies, notes = collect(own)
    summaries = [summarize(study, options.reference) for study in studies]
    parts = [
        part(study, summary, options, f"-{number}" if len(studies) > 1 else "", len(studies))
        for number, (study, summary) in enumerate(zip(studies, summaries, strict=True), 1)
    ]
    figures = [path for p in parts for path in save_pictures(p.sections, out / "figures")]
    report = {
        "format": 2,
        "notes": notes,
        "studies": [p.summary | {"sections": {s.id: s.data for s in p.sections if s.data}} for p in parts],
        "figures": [path.relative_to(out).as_posix() for path in figures],
    }
    make_folder(out, "--out")
    write_json(out / "report.json", report)
    command = shlex.join(["python", "compare.py", *argv])
    write_report(out / "report.html", parts, notes, command, out / "figures")
    if options.json:
        print((out / "report.json").read_text(encoding="utf-8"), end="")
        return
    print(printable(report_text(report, shutil.get_terminal_size((100, 24)).columns)))
    drawn = f" and {len(figures)} figures in figures/" if figures else ""
    print(printable(f"\nWrote {out / 'report.html'}, report.json{drawn}"))


def part(study: "Study", summary: dict, options: argparse.Namespace, suffix: str, studies: int) -> "Part":
    """One study's part of the report. suffix: ends every id, where there are several studies."""
    from analysis.report.curves import curves_section
    from analysis.report.html import LOOK_BYTES, Part, facts
    from analysis.report.measured import sections
    from experiment.folder import Experiment

    experiments = [Experiment.open(folder) for folder in study.folders]
    shared = {"device": options.device}
    found = sections(study, experiments, reference=options.reference, quick=options.quick, suffix=suffix, **shared)
    curves = curves_section(study, suffix)
    seen, why = None, "Left out by --quick: the attention explorer and samples have to run the networks."
    if not options.quick:
        from analysis.report.viewer import CannotLook, look

        try:
            seen, why = look(study, experiments, LOOK_BYTES // studies, **shared), None
        except CannotLook as error:
            why = str(error)
    told = facts(experiments[0].config, experiments[0].environment, summary)
    return Part(summary, [*found, *([curves] if curves else [])], told, seen, why)


def show_pretrained(paths: Sequence[str], options: argparse.Namespace, command: str) -> None:
    """The heads of GPT-2s in Hugging Face format, for which there is no sweep to compare."""
    from analysis.report.figures import save_pictures
    from analysis.report.html import LOOK_BYTES, write_report
    from analysis.report.pretrained import pretrained_part
    from experiment.folder import refuse_links
    from files import make_folder, write_json
    from terminal import table

    if options.out:
        make_folder(Path(options.out), "--out")
    share = LOOK_BYTES // len(paths)
    parts = [
        pretrained_part(path, options.device, options.quick, f"-{number}" if len(paths) > 1 else "", share)
        for number, path in enumerate(paths, 1)
    ]
    out = Path(options.out) if options.out else Path("runs") / f"heads-{parts[0].summary['name'].split('/')[-1]}"
    refuse_links(out / "figures")
    for p in parts:
        save_pictures(p.sections, out / "figures")
    report = {p.summary["name"]: {section.id: section.data for section in p.sections} for p in parts}
    make_folder(out, "--out")
    write_json(out / "report.json", report)
    write_report(out / "report.html", parts, [], command, out / "figures")
    if options.json:
        print((out / "report.json").read_text(encoding="utf-8"), end="")
        return
    for p in parts:
        for section in p.sections:
            print(printable("\n".join([f"{p.summary['name']}: {section.title}", section.text[0]])))
            for t in section.tables:
                print(printable("\n" + table(t.head, t.rows) + "\n"))
    print(printable(f"Wrote {out / 'report.html'}, report.json and figures/"))


def cli() -> None:
    sys.exit(guard("compare.py", main, sys.argv[1:]))


if __name__ == "__main__":
    cli()
