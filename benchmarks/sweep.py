"""Time of one training step of one run: nanoGPT's own loop, this project one run at a time, this project's stack.

python -m benchmarks.sweep --nanogpt PATH [--shape tiny]      PATH: a checkout of github.com/karpathy/nanoGPT
"""

import argparse
import json
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.common import finish, interleaved, parser, seconds, spread, start, table
from benchmarks.subject import SHAPES, WARM_UP, Shape, random_tokens
from model.describe import flops_per_token

NANOGPT_LINE = re.compile(r"^iter \d+: loss .*time ([\d.]+)ms", re.MULTILINE)


def main() -> None:
    options = arguments()
    device = start(options)
    shape = SHAPES[options.shape]
    if options.precision == "auto":
        options.precision = "bf16" if device.type == "cuda" else "fp32"
    peak = product_peak(device, torch.bfloat16 if options.precision == "bf16" else torch.float32)
    print(f"{options.shape}: {shape}")
    print(f"precision: {options.precision}; product peak {peak / 1e12:.3f} TFLOP/s\n")
    with tempfile.TemporaryDirectory() as data:
        competitors = {}
        if options.nanogpt:
            competitors["nanoGPT, one run after another"] = lambda: nanogpt(options, shape, Path(data), device.type)
        if not options.stack_only:
            competitors["Headcount, one run at a time"] = lambda: ours(options, shape, alone=True)
        if len(shape.n_head) * shape.seeds > 1:
            competitors["Headcount, the stack"] = lambda: ours(options, shape, alone=False)
        results = interleaved(competitors, options.repeats)
    finish(options, device, report(shape, peak, results))


def arguments() -> argparse.Namespace:
    result = parser(__doc__.splitlines()[0], repeats=3)
    result.add_argument("--shape", choices=SHAPES, default="tiny", help="network and sweep")
    result.add_argument("--seeds", type=int, help="seeds of the stack; the shape's own by default")
    result.add_argument("--nanogpt", metavar="PATH", help="a nanoGPT checkout to compare with")
    result.add_argument("--iters", type=int, default=20, help="timed steps of each competitor and round")
    result.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of this project")
    result.add_argument("--compile", choices=["auto", "true", "false"], default="auto", help="of this project")
    result.add_argument("--stack_only", action="store_true", help="leave out the runs one at a time")
    return result.parse_args()


def product_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large square matrix product, the best of several: what the machine can do."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(6))


def nanogpt(options: argparse.Namespace, shape: Shape, data: Path, device: str) -> dict:
    """nanoGPT's train.py as it stands, a process for each H; its own per-iteration times.

    Compiled where its README has it compiled: on a GPU, not on a CPU.
    """
    model, tokens = shape.model, random_tokens(shape)
    tokens.tofile(data / "train.bin")
    tokens[: 4 * model.block_size].tofile(data / "val.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": shape.vocab_size}))
    settings = {
        "dataset": data,  # an absolute path wins over nanoGPT's data folder
        "out_dir": data / "out",
        "device": device,
        "compile": device == "cuda",
        "eval_iters": 1,
        "eval_interval": 10**6,
        "log_interval": 1,
        "max_iters": options.iters + WARM_UP,
        "gradient_accumulation_steps": 1,
        "batch_size": shape.batch_size,
        "block_size": model.block_size,
        "n_layer": model.n_layer,
        "n_embd": model.n_embd,
        "dropout": model.dropout,
        "beta2": 0.99,
    }
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    times, first = [], 0.0
    for n_head in shape.n_head:
        command = ["train.py", *(f"--{key}={value}" for key, value in (settings | {"n_head": n_head}).items())]
        found = [float(ms) for ms in NANOGPT_LINE.findall(run(command, cwd=options.nanogpt, env=environment))]
        first += found[0] / 1e3
        times.append(statistics.median(found[WARM_UP:]))
    return {"ms": statistics.mean(times), "start_s": first}


def ours(options: argparse.Namespace, shape: Shape, alone: bool) -> dict:
    """This project's training step in a process of its own; see subject.py."""
    settings = {key: getattr(options, key) for key in ("shape", "device", "iters", "threads", "precision")}
    settings["compile"] = {"true": True, "false": False}.get(options.compile, "auto")
    settings |= {"seeds": options.seeds or shape.seeds, "alone": alone}
    return json.loads(run(["-m", "benchmarks.subject", json.dumps(settings)]).splitlines()[-1])


def run(command: list[str], **where: object) -> str:
    """What a Python program prints. Ends this one where it fails."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, **where)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def report(shape: Shape, peak: float, results: dict[str, list[dict]]) -> dict:
    tokens = shape.batch_size * shape.model.block_size
    forward = statistics.mean(sum(flops_per_token(shape.model, shape.vocab_size, h).values()) for h in shape.n_head)
    flops = 3 * forward * tokens
    medians = {name: statistics.median(r["ms"] for r in rounds) for name, rounds in results.items()}
    base = next(iter(medians.values()))
    rows = [
        [
            name,
            spread([r["ms"] for r in rounds], 2),
            f"{tokens / medians[name] * 1e3:,.0f}",
            f"{flops / (medians[name] / 1e3) / peak:.1%}",
            f"{base / medians[name]:.2f}",
            f"{statistics.median(r['start_s'] for r in rounds):.1f}",
            f"{rounds[-1]['peak_mib']:,.0f}" if "peak_mib" in rounds[-1] else "–",
        ]
        for name, rounds in results.items()
    ]
    head = ["", "ms a run-iteration", "tokens/s", "of peak", "times faster", "start-up, compile (s)", "peak MiB"]
    print(table(head, rows))
    floor = flops / peak * 1e3
    print(f"\nFloor by arithmetic: {floor:.2f} ms a run-iteration ({flops / 1e9:.2f} GFLOP at the peak).")
    return {"shape": str(shape), "peak_flops": peak, "floor_ms": floor, "results": results}


if __name__ == "__main__":
    main()
