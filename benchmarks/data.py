"""Time and memory of preparing a corpus, and tokens per second of cutting batches from it.

python -m benchmarks.data                                    tales, as they are made
python -m benchmarks.data --kind jsonl --gigabytes 2         a file much larger than the memory that it may take

The file is generated: documents of one to sixty tales, told once and drawn at random. Memory is the highest resident
set while it is prepared (Linux: VmHWM), above what the process held after it had prepared a small one.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.common import MIB, finish, parser, spread, start, table
from data.batches import batch
from data.config import DataConfig
from data.dataset import Dataset, prepare
from data.tales import stories

STORY_BYTES = 572
ENDING = {"text": ".txt", "jsonl": ".jsonl", "parquet": ".parquet"}
SEEDS, BATCH_SIZE, BLOCK_SIZE = range(15), 16, 128


def main() -> None:
    options = arguments()
    device = start(options)
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        small, large = (corpus(options, folder / size, share) for size, share in (("small", 1e-3), ("large", 1.0)))
        prepare(small, folder / "warm", progress=False)
        times, memory = [], []
        for number in range(options.repeats):
            before, began = reset_peak(), time.perf_counter()
            dataset = prepare(large, folder / str(number))
            times.append(time.perf_counter() - began)
            memory.append((peak() - before) / MIB)
        cut = cut_batches(dataset)
    tokens, characters = len(dataset.train) + len(dataset.val), dataset.train_chars + dataset.val_chars
    rows = [
        ["documents, tokens", f"{dataset.n_documents:,}, {tokens:,}"],
        ["seconds to prepare", spread(times)],
        ["characters/s", spread([characters / s for s in times], 0)],
        ["tokens/s", spread([tokens / s for s in times], 0)],
        ["MiB above the start", spread(memory, 0)],
        ["tokens/s in batches", spread(cut, 0)],
    ]
    print(table([options.kind, "median (lowest–highest)"], rows))
    figures = {"kind": options.kind, "tokens": tokens, "seconds": times, "mib_above": memory}
    finish(options, device, figures | {"batch_tokens_per_second": statistics.median(cut)})


def arguments() -> argparse.Namespace:
    result = parser(__doc__.splitlines()[0], repeats=3)
    result.add_argument("--kind", choices=["tales", *ENDING], default="tales", help="what is prepared")
    result.add_argument("--gigabytes", type=float, default=0.01, help="its size")
    result.add_argument("--tokenizer", default="bpe", help="bpe, char, gpt2 or another of tiktoken's")
    result.add_argument("--dir", help="where files are written; the system's folder by default")
    return result.parse_args()


def corpus(options: argparse.Namespace, path: Path, share: float) -> DataConfig:
    """The corpus that the options ask for, or a share of it."""
    size = share * 1e9 * options.gigabytes
    settings = {"tokenizer": options.tokenizer, "vocab_size": 1024}
    if options.kind == "tales":
        return DataConfig(n_stories=max(100, int(size / STORY_BYTES)), **settings)
    path = path.with_suffix(ENDING[options.kind])
    texts = documents(size)
    if options.kind == "parquet":
        write_parquet(path, texts)
    else:
        with open(path, "w", encoding="utf-8") as file:
            for text in texts:
                file.write(json.dumps({"text": text}) + "\n" if options.kind == "jsonl" else text + "\n\n")
    return DataConfig(source="text", path=str(path), **settings)


def documents(size: float) -> Iterator[str]:
    dice, told, written = random.Random(0), [story.text for story in stories(5_000)], 0
    while written < size:
        text = f"Chapter {dice.randrange(10**9)}. " + "\n".join(dice.choices(told, k=dice.randint(1, 60)))
        written += len(text)
        yield text


def write_parquet(path: Path, texts: Iterator[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("text", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(path, schema) as file:
        while rows := list(islice(texts, 10_000)):
            file.write_table(pyarrow.table({"text": rows}, schema=schema))


def cut_batches(dataset: Dataset) -> list[float]:
    """Tokens per second of a batch for each of several seeds."""
    rates = []
    for iteration in range(200):
        began = time.perf_counter()
        drawn = batch(dataset.train, SEEDS, iteration, BATCH_SIZE, BLOCK_SIZE)
        rates.append(drawn.size / (time.perf_counter() - began))
    return rates


def reset_peak() -> int:
    """Start the highest resident set anew; returns bytes resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
