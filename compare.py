"""Compare head-count runs: what did the number of heads H change, and how sure is that?

Reads run folders that train.py wrote, prints tables by head count with paired differences and error bars, and writes
figures/ and report.json. Libraries are loaded only once there is work to do, so that --help answers at once.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from errors import ArgumentParser, guard, printable

EPILOG = """\
examples:
  python compare.py runs/quickstart                   tables, figures and report.json into the run folder
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
    result.add_argument("runs", nargs="+", metavar="RUNS", help="an experiment's folder, as train.py wrote it")
    result.add_argument("--out", metavar="DIR", help="where figures/ and report.json go (default: the first RUNS)")
    result.add_argument("--reference", type=int, metavar="H", help="compare with this H (default: the lowest loss)")
    result.add_argument("--json", action="store_true", help="print report.json on stdout, and nothing else")
    return result


def main(argv: Sequence[str]) -> None:
    """Compare, print and write. Raises InputError for folders that are no experiments and an H that was not run."""
    options = parser().parse_args(argv)
    from analysis.collect import collect
    from analysis.figures import draw
    from analysis.summary import summarize
    from analysis.text import report_text
    from experiment.pretrained import looks_pretrained
    from files import write_json

    foreign = [path for path in options.runs if looks_pretrained(path)]
    if foreign:
        _show_pretrained(foreign, options)
        if len(foreign) == len(options.runs):
            return
    studies, notes = collect([path for path in options.runs if path not in foreign])
    report = {"format": 1, "notes": notes, "studies": [summarize(study, options.reference) for study in studies]}
    out = Path(options.out or options.runs[0])
    figures = []
    for number, study in enumerate(studies, 1):
        groups = study.groups()
        for (rate, decay), runs in groups.items():
            suffix = f"-{number}" if len(studies) > 1 else ""
            title = f"{study.name}: D = {study.n_embd}, {study.n_layer} layers"
            if len(groups) > 1:
                suffix += f"-lr{rate:g}-wd{decay:g}"
                title += f", learning rate {rate:g}, weight decay {decay:g}"
            figures += draw(runs, out / "figures", title, suffix, options.reference)
    report["figures"] = [path.relative_to(out).as_posix() for path in figures]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "report.json", report)
    if options.json:
        print((out / "report.json").read_text(encoding="utf-8"), end="")
        return
    print(printable(report_text(report, shutil.get_terminal_size((100, 24)).columns)))
    wrote = f"\nWrote {out / 'report.json'}" + (f" and {len(figures)} figures in {out / 'figures'}" if figures else "")
    print(printable(wrote))


def _show_pretrained(paths: Sequence[str], options: argparse.Namespace) -> None:
    """The heads of GPT-2s in Hugging Face format, for which there is no sweep to compare."""
    import json

    from analysis.pretrained import pretrained_section
    from experiment.table import columns

    sections = [pretrained_section(path, say=lambda text: None) for path in paths]
    if options.json:
        print(json.dumps({section.title: section.data for section in sections}, indent=2))
        return
    for section in sections:
        print(section.title, *section.text, sep="\n")
        for table in section.tables:
            print("\n" + columns(table.head, table.rows) + "\n")


if __name__ == "__main__":
    sys.exit(guard("compare.py", main, sys.argv[1:]))
