"""Sample text from a trained sweep, all head counts side by side: python sample.py runs/quickstart"""

import argparse
import json
import shutil
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
    p = errors.ArgumentParser(
        prog="sample.py",
        description="Sample text from a trained sweep, all head counts side by side.",
        epilog=EPILOG,
    )
    p.add_argument("runs", metavar="RUNS", help="an experiment's folder, or a GPT-2 in Hugging Face format")
    p.add_argument("--prompt", metavar="TEXT|FILE:path", help="text to go on from; default: the start of a document")
    p.add_argument("--n_head", type=int, nargs="+", metavar="H", help="head counts to sample from; default: all")
    p.add_argument("--run_seed", type=int, metavar="S", help="the training seed to sample; default: the first")
    p.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default: 0)")
    p.add_argument("--num_samples", type=int, default=1, help="samples of each head count (default: 1)")
    p.add_argument("--max_new_tokens", type=int, default=200, help="longest sample, tokens (default: 200)")
    p.add_argument("--temperature", type=float, default=0.8, help="divides the logits, above 0 (default: 0.8)")
    p.add_argument("--top_k", type=int, help="draw from the k likeliest tokens only (default: all)")
    p.add_argument(
        "--top_p", type=float, help="draw from the likeliest tokens that reach this probability (default: 1)"
    )
    p.add_argument("--greedy", action="store_true", help="always the likeliest token")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    p.add_argument("--json", action="store_true", help="print JSON, one object with every sample, and nothing else")
    return p


def check(args: argparse.Namespace) -> None:
    """Raises InputError, naming the option, where a value cannot be used."""
    for name in ("num_samples", "max_new_tokens", "temperature", "top_k"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name} must be above 0, got {value}")
    if args.temperature == float("inf"):
        raise InputError("--temperature must be finite, got inf")
    if args.top_p is not None and not 0 < args.top_p <= 1:
        raise InputError(f"--top_p must be above 0 and at most 1, got {args.top_p}")
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed must be from 0 to 2**63 - 1, got {args.seed}")


def main(argv: Sequence[str]) -> None:
    args = parser().parse_args(argv)
    check(args)
    prompt = _prompt(args.prompt)
    errors.log_to(sys.stderr)

    from tqdm import tqdm

    from experiment.samples import Samples, page

    with tqdm(total=args.max_new_tokens, unit="token", disable=True if args.json else None, leave=False) as bar:
        samples = Samples.draw(
            args.runs,
            n_head=args.n_head,
            run_seed=args.run_seed,
            device=args.device,
            prompt=prompt,
            num_samples=args.num_samples,
            max_new_tokens=args.max_new_tokens,
            seed=args.seed,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            greedy=args.greedy,
            progress=bar.update,
        )
    if args.json:
        print(json.dumps(samples.as_dict(), ensure_ascii=False, indent=2))
    else:
        print(page(samples, shutil.get_terminal_size((100, 24)).columns))


def _prompt(text: str | None) -> str | None:
    """The prompt's text; FILE:path is read from a file."""
    if text is None or not text.startswith("FILE:"):
        try:
            (text or "").encode("utf-8")
        except UnicodeEncodeError:
            raise InputError("--prompt: not UTF-8; give text in UTF-8, or FILE:path") from None
        return text
    from files import read_bytes

    path = Path(text.removeprefix("FILE:"))
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"--prompt {path}: not UTF-8 (byte {error.start})") from None
    except (OSError, ValueError) as error:
        name = str(path) if len(str(path)) < 300 else f"{str(path)[:60]}…"
        raise InputError(f"--prompt {name}: {getattr(error, 'strerror', None) or error}") from None


if __name__ == "__main__":
    sys.exit(errors.guard("sample.py", main, sys.argv[1:]))
