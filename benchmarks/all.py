"""Every benchmark of this folder, one after another, its tables and figures kept in a folder.

python -m benchmarks.all --nanogpt PATH --out results
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch


def main() -> None:
    options = arguments()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    nanogpt = ["--nanogpt", options.nanogpt] if options.nanogpt else []
    gpu = torch.cuda.is_available()
    work = {
        "sweep-tiny": ["sweep", "--shape", "tiny", "--iters", "100" if gpu else "15", *nanogpt],
        "sampling": ["sampling", "--repeats", "3" if gpu else "1", *nanogpt],
        "attention": ["attention"] + ["--precision", "bf16", "--n_embd", "384", "--tokens", "65536"] * gpu,
        "data": ["data"],
    }
    if gpu:
        work["sweep-char"] = ["sweep", "--shape", "char", "--iters", "50", *nanogpt]
        work["sweep-gpt2"] = ["sweep", "--shape", "gpt2", "--iters", "30", *nanogpt]
    failed = []
    for name, (module, *arguments_) in work.items():
        print(f"── {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments_, "--json", str(out / f"{name}.json")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        (out / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
        print(done.stdout)
        if done.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def arguments() -> argparse.Namespace:
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    result.add_argument("--nanogpt", metavar="PATH", help="a nanoGPT checkout to compare with")
    result.add_argument("--out", default="benchmark-results", help="folder for the tables (.txt) and figures (.json)")
    return result.parse_args()


if __name__ == "__main__":
    main()
