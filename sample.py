"""Sample text from a trained sweep, all head counts side by side: python sample.py runs/quickstart"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import errors
from errors import InputError

EPILOG = (
    "Every head count gets the same prompt and the same random numbers, so that what differs is the model. "
    "Exit status: 0 done, 1 failed while working, 2 bad usage or input."
)


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
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    p.add_argument("--json", action="store_true", help="print JSON, one object with every sample, and nothing else")
    return p


def main(argv: Sequence[str]) -> None:
    from experiment.sampling import Sampling
    from experiment.values import Count, Positive, join_lists, typed

    args = parser().parse_args(join_lists(argv, {"--n_head"}))
    given = {name: value for name, value in vars(args).items() if name in Sampling.__dataclass_fields__}
    sampling = Sampling.of(given, "command line", "--", from_text=True)
    types = {"n_head": list[Count], "run_seed": int, "learning_rate": Positive, "iter": Count}
    chosen = {
        name: typed(f"--{name}", hint, getattr(args, name), "command line", from_text=True)
        for name, hint in types.items()
        if getattr(args, name) is not None
    }
    prompt = read_text("--prompt", args.prompt)
    errors.log_to(sys.stderr)

    from tqdm import tqdm

    from experiment.loaded import Runs
    from experiment.samples import Samples, page
    from terminal import window

    runs = Runs.open(args.runs, args.device, chosen.get("iter"))
    runs = runs.select(chosen.get("n_head"), chosen.get("run_seed"), chosen.get("learning_rate")).best()
    with tqdm(total=sampling.max_new_tokens, unit="token", disable=True if args.json else None, leave=False) as bar:
        samples = Samples.draw(runs, prompt, sampling, bar.update)
    if args.json:
        print(json.dumps(samples.as_dict(), ensure_ascii=False, indent=2))
    else:
        print(page(samples, window()))


def read_text(option: str, text: str | None) -> str | None:
    """The text that an option gives; FILE:path is read from a file."""
    if text is None or not text.startswith("FILE:"):
        try:
            (text or "").encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{option}: not UTF-8; give text in UTF-8, or FILE:path") from None
        return text
    from files import read_bytes

    path = Path(text.removeprefix("FILE:"))
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{option} {path}: not UTF-8 (byte {error.start})") from None
    except (OSError, ValueError) as error:
        name = str(path) if len(str(path)) < 300 else f"{str(path)[:60]}…"
        raise InputError(f"{option} {name}: {getattr(error, 'strerror', None) or error}") from None


def cli() -> None:
    sys.exit(errors.guard("sample.py", main, sys.argv[1:]))


if __name__ == "__main__":
    cli()
