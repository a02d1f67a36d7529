"""Memory and time of preparing a corpus much larger than the memory that it may take.

python -m benchmarks.corpus [--gigabytes 2] [--kind jsonl]

The corpus is generated: documents of one to sixty tales, told once and drawn at random. Memory is the highest resident
set while it is prepared (Linux: VmHWM), above what the process held when everything was imported.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import finish, parser, start, table
from data.config import DataConfig
from data.dataset import prepare
from data.tales import stories

TOLD = 5_000


def main() -> None:
    options = arguments()
    device = start(options)
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        warm, large = (
            write(folder / kind, options.kind, size)
            for kind, size in (("warm", 2e6), ("large", 1e9 * options.gigabytes))
        )
        setting = {"source": "text", "tokenizer": options.tokenizer, "vocab_size": 1024}
        if options.kind != "text":
            setting["column"] = "text"
        prepare(DataConfig(path=str(warm), **setting), folder / "warm-cache", progress=False)
        before = reset_peak()
        began = time.perf_counter()
        dataset = prepare(DataConfig(path=str(large), **setting), folder / "cache")
        seconds = time.perf_counter() - began
        above = (peak() - before) / 2**20
        tokens = len(dataset.train) + len(dataset.val)
    head = ["", "text", "documents", "tokens", "seconds", "MB/s", "memory above the start"]
    row = [options.kind, f"{options.gigabytes:g} GB", f"{dataset.n_documents:,}", f"{tokens:,}", f"{seconds:.0f}"]
    print(table(head, [[*row, f"{1e3 * options.gigabytes / seconds:.1f}", f"{above:,.0f} MiB"]]))
    finish(
        options,
        device,
        {"kind": options.kind, "gigabytes": options.gigabytes, "seconds": seconds, "mebibytes_above": above},
    )


def write(path: Path, kind: str, size: float) -> Path:
    """A file of at least `size` bytes of documents."""
    path = path.with_suffix({"text": ".txt", "jsonl": ".jsonl", "parquet": ".parquet"}[kind])
    texts = documents(size)
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        schema = pyarrow.schema([("text", pyarrow.string())])
        with pyarrow.parquet.ParquetWriter(path, schema) as file:
            while rows := [text for text, _ in zip(texts, range(10_000), strict=False)]:
                file.write_table(pyarrow.table({"text": rows}, schema=schema))
        return path
    with open(path, "w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}) + "\n" if kind == "jsonl" else text + "\n\n")
    return path


def documents(size: float) -> Iterator[str]:
    dice, told, written = random.Random(0), [story.text for story in stories(TOLD)], 0
    while written < size:
        text = f"Chapter {dice.randrange(10**9)}. " + "\n".join(dice.choices(told, k=dice.randint(1, 60)))
        written += len(text)
        yield text


def reset_peak() -> int:
    """Start the highest resident set anew; returns bytes resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def arguments() -> argparse.Namespace:
    result = parser(__doc__.splitlines()[0])
    result.add_argument("--gigabytes", type=float, default=2, help="size of the corpus")
    result.add_argument("--kind", choices=["text", "jsonl", "parquet"], default="jsonl", help="of its file")
    result.add_argument("--tokenizer", default="bpe", help="bpe, char, gpt2 or another of tiktoken's")
    result.add_argument("--dir", help="where it is written, with the prepared tokens; the system's folder by default")
    return result.parse_args()


if __name__ == "__main__":
    main()
