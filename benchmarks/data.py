"""Tokens per second of making a corpus, tokenizing it, and cutting batches.

python -m benchmarks.data [--n_stories 20000]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.common import finish, parser, spread, start, table
from data.batches import batch
from data.config import DataConfig
from data.dataset import prepare


def main() -> None:
    options = arguments()
    device = start(options)
    config = DataConfig(tokenizer=options.tokenizer, vocab_size=options.vocab_size, n_stories=options.n_stories)
    if options.path:
        config.source, config.path = "text", options.path
    rates: dict[str, list[float]] = {"characters/s": [], "tokens/s": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.repeats):
            began = time.perf_counter()
            dataset = prepare(config, Path(folder) / str(number), progress=False)
            seconds = time.perf_counter() - began
            rates["characters/s"].append((dataset.train_chars + dataset.val_chars) / seconds)
            rates["tokens/s"].append((len(dataset.train) + len(dataset.val)) / seconds)
        rows = [["prepare from nothing", name, spread(values, 0)] for name, values in rates.items()]
        batches = []
        seeds = range(options.seeds)
        for iteration in range(200):
            began = time.perf_counter()
            drawn = batch(dataset.train, seeds, iteration, options.batch_size, options.block_size)
            batches.append(drawn.size / (time.perf_counter() - began))
    rows.append([f"batches of {drawn.shape}", "tokens/s", spread(batches, 0)])
    print(table(["", "", "median (lowest–highest)"], rows))
    finish(options, device, {"prepare": rates, "batch_tokens_per_second": statistics.median(batches)})


def arguments() -> argparse.Namespace:
    result = parser(__doc__.splitlines()[0], repeats=3)
    result.add_argument("--path", help="a text file; without it: tales")
    result.add_argument("--n_stories", type=int, default=20_000, help="stories, for tales")
    result.add_argument("--tokenizer", choices=["bpe", "char"], default="bpe", help="how to cut the text")
    result.add_argument("--vocab_size", type=int, default=1024, help="tokens, for bpe")
    result.add_argument("--seeds", type=int, default=15, help="seeds that draw their own batches")
    result.add_argument("--batch_size", type=int, default=16, help="sequences")
    result.add_argument("--block_size", type=int, default=128, help="tokens a sequence")
    return result.parse_args()


if __name__ == "__main__":
    main()
