"""Every benchmark that this device can run, one after another, its tables and figures kept in a folder.

python -m benchmarks.all --nanogpt PATH --out results
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

CPU = {
    "sweep-tiny": "sweep --shape tiny --iters 15 NANOGPT",
    "sampling": "sampling --repeats 1 NANOGPT",
    "attention": "attention",
    "data": "data",
}
GPU = {
    "sweep-tiny": "sweep --shape tiny --iters 100 NANOGPT",
    "sampling": "sampling NANOGPT",
    "attention": "attention --precision bf16 --n_embd 384 --tokens 65536",
    "data": "data",
    "sweep-char": "sweep --shape char --iters 50 NANOGPT",
    "sweep-gpt2": "sweep --shape gpt2 --iters 30 NANOGPT",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", metavar="PATH", help="a nanoGPT checkout to compare with")
    parser.add_argument(
        "--out", type=Path, default="benchmark-results", help="folder for tables (.txt) and figures (.json)"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, words in (GPU if torch.cuda.is_available() else CPU).items():
        print(f"── {name}", flush=True)
        module, *flags = words.removesuffix(" NANOGPT").split()
        if words.endswith("NANOGPT") and options.nanogpt:
            flags += ["--nanogpt", options.nanogpt]
        command = [sys.executable, "-m", f"benchmarks.{module}", *flags, "--json", options.out / f"{name}.json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        (options.out / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
        print(done.stdout)
        failed += [name] * bool(done.returncode)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
