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

import numpy as np
import torch

from benchmarks.common import finish, interleaved, parser, product_peak, spread, start, table
from benchmarks.subject import SHAPES, Shape
from model.describe import flops_per_token

NANOGPT_LINE = re.compile(r"^iter (\d+): loss .*time ([\d.]+)ms", re.MULTILINE)


def main() -> None:
    options = arguments()
    device = start(options)
    shape = SHAPES[options.shape]
    if options.seeds:
        shape.seeds = options.seeds
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    peak = product_peak(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    print(f"{options.shape}: {shape}")
    print(f"precision: {precision}; product peak {peak / 1e12:.3f} TFLOP/s\n")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_tokens(data, shape)
        competitors = {}
        if options.nanogpt:
            competitors["nanoGPT, one run after another"] = lambda: nanogpt(options, shape, data, device.type)
        if not options.stack_only:
            competitors["Headcount, one run at a time"] = lambda: ours(options, shape, precision, alone=True)
        if len(shape.n_head) * shape.seeds > 1:
            competitors["Headcount, the stack"] = lambda: ours(options, shape, precision, alone=False)
        results = interleaved(competitors, options.repeats)
    finish(options, device, report(shape, peak, results))


def arguments() -> argparse.Namespace:
    result = parser(__doc__.splitlines()[0], repeats=3)
    result.add_argument("--shape", choices=SHAPES, default="tiny", help="network and sweep")
    result.add_argument("--seeds", type=int, default=0, help="seeds of the stack; 0: the shape's own")
    result.add_argument("--nanogpt", metavar="PATH", help="a nanoGPT checkout to compare with")
    result.add_argument(
        "--nanogpt_compile",
        choices=["auto", "on", "off"],
        default="auto",
        help="auto: on where nanoGPT's README has it on: on a GPU, off on a CPU",
    )
    result.add_argument("--iters", type=int, default=20, help="timed steps of each competitor and round")
    result.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of this project")
    result.add_argument("--compile", choices=["auto", "true", "false"], default="auto", help="of this project")
    result.add_argument("--stack_only", action="store_true", help="leave out the runs one at a time")
    return result.parse_args()


def write_tokens(folder: Path, shape: Shape) -> None:
    """Random tokens in nanoGPT's format; a step takes as long on them as on text."""
    tokens = np.random.default_rng(0).integers(0, shape.vocab_size, 1_000_000, dtype=np.uint16)
    tokens.tofile(folder / "train.bin")
    tokens[: 4 * shape.block_size].tofile(folder / "val.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": shape.vocab_size}))


def nanogpt(options: argparse.Namespace, shape: Shape, data: Path, device: str) -> dict:
    """nanoGPT's train.py as it stands, a process for each H; its own per-iteration times."""
    compiled = {"on": True, "off": False}.get(options.nanogpt_compile, device == "cuda")
    settings = {
        "dataset": data,  # an absolute path wins over nanoGPT's data folder
        "out_dir": data / "out",
        "device": device,
        "compile": compiled,
        "eval_iters": 1,
        "eval_interval": 10**6,
        "log_interval": 1,
        "max_iters": options.iters + shape.warm_up,
        "gradient_accumulation_steps": 1,
        "batch_size": shape.batch_size,
        "block_size": shape.block_size,
        "n_layer": shape.n_layer,
        "n_embd": shape.n_embd,
        "dropout": shape.dropout,
        "beta2": 0.99,
    }
    times, first = [], 0.0
    for n_head in shape.n_head:
        flags = [f"--{key}={value}" for key, value in (settings | {"n_head": n_head}).items()]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "CUDA_VISIBLE_DEVICES": visible()}
        done = subprocess.run(
            [sys.executable, "train.py", *flags],
            cwd=options.nanogpt,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"nanoGPT failed:\n{done.stderr[-2000:]}")
        found = [float(ms) for _, ms in NANOGPT_LINE.findall(done.stdout)]
        first += found[0] / 1e3
        times.append(statistics.median(found[shape.warm_up :]))
    return {"ms": statistics.mean(times), "start_s": first, "by_head": dict(zip(shape.n_head, times, strict=True))}


def visible() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0")


def ours(options: argparse.Namespace, shape: Shape, precision: str, alone: bool) -> dict:
    """This project's training step in a process of its own, as nanoGPT's is; see subject.py."""
    command = [sys.executable, "-m", "benchmarks.subject", "--shape", options.shape, "--device", options.device]
    command += ["--iters", str(options.iters), "--threads", str(options.threads), "--seeds", str(shape.seeds)]
    command += ["--precision", precision, "--compile", options.compile] + ["--alone"] * alone
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(shape: Shape, peak: float, results: dict[str, list[dict]]) -> dict:
    flops = 3 * statistics.mean(sum(flops_per_token(shape.model(), shape.vocab_size, h).values()) for h in shape.n_head)
    tokens = shape.batch_size * shape.block_size
    base = statistics.median(r["ms"] for r in results[next(iter(results))])
    rows, figures = [], {}
    for name, rounds in results.items():
        times = [r["ms"] for r in rounds]
        median = statistics.median(times)
        memory = rounds[-1].get("peak_bytes")
        rows.append(
            [
                name,
                spread(times, 2),
                f"{tokens / median * 1e3:,.0f}",
                f"{flops * tokens / (median / 1e3) / peak:.1%}",
                f"{base / median:.2f}",
                f"{statistics.median(r['start_s'] for r in rounds):.1f}",
                f"{memory / 2**20:,.0f}" if memory else "–",
            ]
        )
        figures[name] = {"ms_per_run_iteration": times, "ratio": base / median, "peak_bytes": memory}
    head = ["", "ms a run-iteration", "tokens/s", "of peak", "times faster", "start-up, compile (s)", "peak MiB"]
    print(table(head, rows))
    floor = flops * tokens / peak * 1e3
    print(f"\nFloor by arithmetic: {floor:.2f} ms a run-iteration ({flops * tokens / 1e9:.2f} GFLOP at the peak).")
    return {"shape": vars(shape), "peak_flops": peak, "floor_ms": floor, "results": figures}


if __name__ == "__main__":
    main()
