"""Sample text from a trained sweep, all head counts side by side: python sample.py runs/quickstart"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import errors
from errors import InputError

if TYPE_CHECKING:
    from experiment.loaded import Runs
    from experiment.sampling import Sampling

EPILOG = (
    "Every head count gets the same prompt and the same random numbers, so that what differs is the model. "
    "Exit status: 0 done, 1 failed while working, 2 bad usage or input."
)

log = logging.getLogger("headcount")


def parser() -> argparse.ArgumentParser:
    from experiment.sampling import Sampling
    from experiment.values import add_options

    p = errors.ArgumentParser(
        prog="sample.py",
        description="Sample text from a trained sweep, all head counts side by side.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    p.add_argument("runs", metavar="RUNS", help="an experiment's folder, or a GPT-2 in Hugging Face format")
    p.add_argument("--prompt", metavar="TEXT|FILE:path", help="text to go on from; default: the start of a document")
    p.add_argument("--n_head", metavar="H", help="head counts to sample from, 1,4 or 1 4; default: all")
    p.add_argument("--run_seed", metavar="S", help="the training seed to sample; default: the first")
    p.add_argument("--learning_rate", metavar="LR", help="the swept learning rate to sample; default: the best")
    p.add_argument("--iter", metavar="N", help="sample from the checkpoint of this iteration; default: the newest")
    add_options(p, Sampling)
    p.add_argument(
        "--num_scored",
        metavar="N",
        help="texts of each H, over all seeds, that are measured: on tales the share of relations kept, by H, "
        "with intervals; on any corpus how varied they are and how likely other head counts find them; 0: none "
        "(default: 64; of a GPT-2 that was not trained here 0)",
    )
    p.add_argument(
        "--score",
        metavar="TEXT|FILE:path",
        help="no samples: nats per token and bits per byte of this text under each H",
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    p.add_argument("--json", action="store_true", help="print JSON, one object with every sample, and nothing else")
    return p


def main(argv: Sequence[str]) -> None:
    from experiment.sampling import SCORED, Sampling
    from experiment.values import Count, NotNegativeCount, Positive, join_lists, typed

    args = parser().parse_args(join_lists(argv, {"--n_head"}))
    given = {name: value for name, value in vars(args).items() if name in Sampling.__dataclass_fields__}
    sampling = Sampling.of(given, "command line", "--", from_text=True)
    types = {
        "n_head": list[Count],
        "run_seed": int,
        "learning_rate": Positive,
        "iter": Count,
        "num_scored": NotNegativeCount,
    }
    chosen = {
        name: typed(f"--{name}", hint, getattr(args, name), "command line", from_text=True)
        for name, hint in types.items()
        if getattr(args, name) is not None
    }
    prompt, scored = read_text("--prompt", args.prompt), read_text("--score", args.score)
    if scored == "":
        raise InputError("--score: there is no text in it")
    if scored is not None and (
        unused := ["prompt"] * (prompt is not None) + [k for k, v in given.items() if v is not None]
    ):
        raise InputError(f"--score draws no samples: leave out {', '.join(f'--{name}' for name in unused)}")
    errors.log_to(sys.stderr)

    from experiment.loaded import Runs

    runs = Runs.open(args.runs, args.device, chosen.get("iter"))
    runs = runs.select(chosen.get("n_head"), chosen.get("run_seed"), chosen.get("learning_rate"))
    if len({run.setting for run in runs.values()}) > len({run.n_head for run in runs.values()}):
        swept = [axis for axis in ("learning_rate", "weight_decay") if len({r.axes[axis] for r in runs.values()}) > 1]
        runs = runs.best()
        log.info(chosen_settings(runs, swept))
    if scored is not None:
        show_score(runs, scored, args.json)
    else:
        number = chosen.get("num_scored", SCORED if runs.experiment else 0)
        show_samples(runs, prompt, sampling, number, args.json)


def chosen_settings(runs: "Runs", swept: Sequence[str]) -> str:
    """Which of the swept values each head count has, in words."""
    told = [
        f"{' and '.join(f'{run.axes[axis]:g}' for axis in swept)} for H = {run.n_head}"
        for run in runs.first_seeds().values()
    ]
    names = " and ".join(axis.replace("_", " ") for axis in swept)
    option = " (--learning_rate chooses)" if "learning_rate" in swept else ""
    return f"each H at the {names} with the lowest loss: {', '.join(told)}{option}"


def show_score(runs: "Runs", text: str, as_json: bool) -> None:
    from analysis.measure.sampled import score
    from terminal import table, window

    rows = score(runs, text)
    if as_json:
        print(json.dumps({"text": text, "runs": rows}, ensure_ascii=False, indent=2))
        return
    head = ["run", "H", "tokens", "nats/token", "bits/byte", "perplexity"]
    keys = ["run", "n_head", "tokens", "nats_per_token", "bits_per_byte", "perplexity"]
    cells = [[f"{row[k]:.4f}" if isinstance(row[k], float) else str(row[k]) for k in keys] for row in rows]
    print(errors.printable(table(head, cells, window())))


def show_samples(runs: "Runs", prompt: str | None, sampling: "Sampling", num_scored: int, as_json: bool) -> None:
    from tqdm import tqdm

    from experiment.samples import Samples, page
    from terminal import counted, window

    measured = None
    seeds = len({run.axes.get("seed") for run in runs.values()})
    total = sampling.max_new_tokens * (1 + (seeds if num_scored else 0))
    with tqdm(total=total, unit="token", disable=True if as_json else None, leave=False) as bar:
        samples = Samples.draw(runs.first_seeds(), prompt, sampling, bar.update)
        if num_scored:
            from analysis.measure.sampled import text_measures

            each = replace(sampling, num_samples=1 if sampling.certain else -(-num_scored // seeds))
            measured = text_measures(runs, samples.prompt, each, bar.update)
    if measured:
        from analysis.sampled import summarize_texts, texts_report

        summary = summarize_texts(measured)
    if as_json:
        more = {"scored": {"runs": measured, "summary": summary}} if measured else {}
        print(json.dumps(samples.as_dict() | more, ensure_ascii=False, indent=2))
        return
    print(page(samples, window()))
    if measured:
        print(f"\nmeasured: {counted(measured[0]['texts'], 'text')} of each run, drawn in the same way\n")
        print(errors.printable(texts_report(summary, window())))


def read_text(option: str, text: str | None) -> str | None:
    """The text that an option gives; FILE:path is read from a file, without what Windows adds to it."""
    if text is None or not text.startswith("FILE:"):
        try:
            (text or "").encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{option}: not UTF-8; give text in UTF-8, or FILE:path") from None
        return text
    from files import read_bytes

    path = Path(text.removeprefix("FILE:"))
    try:
        return read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{option} {path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        name = str(path) if len(str(path)) < 300 else f"{str(path)[:60]}…"
        raise InputError(f"{option} {name}: {getattr(error, 'strerror', None) or error}") from None


def cli() -> None:
    sys.exit(errors.guard("sample.py", main, sys.argv[1:]))


if __name__ == "__main__":
    cli()
