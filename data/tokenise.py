"""Tokens on disk: a corpus tokenised on every core, in shards that are each written whole.

The one idea: a shard holds the tokens of a batch of chunks whose borders depend on nothing but the corpus. So the
result does not depend on the number of cores, memory stays flat, and a preparation that was killed finds the shards
that it had made (each under the checksums that a .npz file has) and makes the others.
"""

import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.config import RELATIONS
from data.corpus import Chunk
from data.tokenizers import Tokenizer

BATCH_CHARS = 1_000_000  # that a thread tokenises at a time


def dtype_of(tokenizer: Tokenizer) -> np.dtype:
    """The smallest unsigned type that holds the vocabulary."""
    return np.min_scalar_type(tokenizer.vocab_size - 1)


class Shard(NamedTuple):
    """A batch of C chunks, N tokens."""

    ids: np.ndarray
    """(N,), with end-of-text, where the tokenizer has one, after those that end a document."""
    codes: np.ndarray
    """The tokens' relations, uint8 (N,): 1 + index in RELATIONS, 0 for none; (0,) for a corpus without."""
    sizes: np.ndarray
    """Characters and tokens of each chunk, int64 (C, 2)."""
    ends: np.ndarray
    """Does a document end with the chunk, bool (C,)."""


class Tokens:
    """The tokens of a split, N in all, on disk."""

    def __init__(self, tokenizer: Tokenizer, shards: list[tuple[Path, np.ndarray, np.ndarray]], max_tokens: int | None):
        """shards: each one's file, `sizes` and `ends`. What is beyond `max_tokens` is left out."""
        self._files = [(file, int(sizes[:, 1].sum())) for file, sizes, _ in shards]
        sizes = np.concatenate([np.zeros((0, 2), np.int64), *(sizes for _, sizes, _ in shards)])
        ends = np.concatenate([np.zeros(0, bool), *(ends for _, _, ends in shards)])
        reach = np.cumsum(sizes[:, 1])
        if max_tokens is not None and len(reach) and reach[-1] >= max_tokens:
            last = int(np.searchsorted(reach, max_tokens))
            begins = int(reach[last] - sizes[last, 1])
            sizes, ends = sizes[: last + 1], np.append(ends[:last], True)
            sizes[last, 1] = max_tokens - begins
            sizes[last, 0] = sum(tokenizer.token_chars(ids).sum() for ids, _ in self.between(begins, max_tokens))
        ended = np.cumsum(sizes, axis=0)[ends]
        self.documents = np.diff(ended, axis=0, prepend=np.zeros((1, 2), dtype=np.int64))
        """Characters and tokens of each document, int64 (number of documents, 2)."""

    def between(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The tokens [start, stop), and their relations, shard by shard."""
        for file, n in self._files:
            if start < n and stop > 0:
                with np.load(file) as shard:
                    yield shard["ids"][max(0, start) : stop], shard["codes"][max(0, start) : stop]
            start, stop = start - n, stop - n


def tokenise(
    chunks: Iterator[Chunk],
    tokenizer: Tokenizer,
    folder: Path,
    tagged: bool,
    max_tokens: int | None,
    advance: Callable[[int], object],
) -> Tokens:
    """The tokens of `chunks`, up to `max_tokens`, with their relations if `tagged`.

    folder: for the shards; those that it holds whole are not made again. advance: called with characters done.
    """
    folder.mkdir(exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shards, n_tokens = [], 0
    with ThreadPoolExecutor(cores) as threads:
        jobs = (
            (_make, folder / f"{number:06}.npz", tokenizer, batch, tagged)
            for number, batch in enumerate(_batches(chunks))
        )
        try:
            for file, sizes, ends in _in_order(threads, jobs, 2 * cores):
                shards.append((file, sizes, ends))
                advance(int(sizes[:, 0].sum()))
                n_tokens += int(sizes[:, 1].sum())
                if max_tokens is not None and n_tokens >= max_tokens:
                    break
        finally:
            threads.shutdown(cancel_futures=True)
    return Tokens(tokenizer, shards, max_tokens)


def _in_order(threads: Executor, jobs: Iterator[tuple], ahead: int) -> Iterator:
    """The results of the jobs (a function and its arguments), in order; at most `ahead` are begun before their turn."""
    waiting: deque = deque()
    for job in jobs:
        waiting.append(threads.submit(*job))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batches(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    batch, chars = [], 0
    for chunk in chunks:
        batch.append(chunk)
        chars += len(chunk.text)
        if chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _make(file: Path, tokenizer: Tokenizer, batch: list[Chunk], tagged: bool) -> tuple[Path, np.ndarray, np.ndarray]:
    """The shard of a batch in its file, made where it is not there whole: the file, `sizes` and `ends`."""
    try:
        with np.load(file) as held:
            shard = Shard(**held)  # which proves the checksums
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        shard = _encode(tokenizer, batch, tagged)
        temporary = file.with_suffix(".tmp")
        with open(temporary, "wb") as out:
            np.savez(out, **shard._asdict())
        os.replace(temporary, file)
    return file, shard.sizes, shard.ends


def _encode(tokenizer: Tokenizer, batch: list[Chunk], tagged: bool) -> Shard:
    texts = [chunk.text for chunk in batch]
    ends = np.array([chunk.ends for chunk in batch])
    encoded = tokenizer.encode_batch(texts)
    tokens = np.array([len(ids) for ids in encoded])
    if tokenizer.eot is not None:
        eot = np.array([tokenizer.eot], dtype=np.uint32)
        encoded = [part for ids, end in zip(encoded, ends, strict=True) for part in ((ids, eot) if end else (ids,))]
        tokens += ends
    ids = np.concatenate(encoded)
    codes = _align(tokenizer.token_bytes(ids), texts, [chunk.spans for chunk in batch]) if tagged else np.zeros(0)
    sizes = np.stack([np.array([len(text) for text in texts]), tokens], axis=1)
    return Shard(ids.astype(dtype_of(tokenizer)), codes.astype(np.uint8), sizes, ends)


def _align(lengths: np.ndarray, texts: list[str], spans: list[tuple]) -> np.ndarray:
    """Relation code of each token, uint8 (N,), from the tokens' byte lengths (N,) and the texts' tagged ranges.

    Tagged texts are ASCII: characters are bytes. A token that overlaps a range has its code; where ranges overlap, the
    last one counts.
    """
    codes = np.zeros(len(lengths), dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, texts)])
    flat = [
        (offset + span.start, offset + span.end, 1 + RELATIONS.index(span.relation))
        for offset, of_text in zip(offsets.tolist(), spans, strict=False)
        for span in of_text
    ]
    if flat:
        start, end, code = np.array(flat).T
        token_ends = np.cumsum(lengths)
        first = np.searchsorted(token_ends, start, side="right")  # the first token that ends after the range starts
        stop = np.searchsorted(token_ends - lengths, end, side="left")  # the first that starts at its end or after
        n = stop - first
        tokens = np.arange(n.sum()) + np.repeat(first - np.cumsum(n) + n, n)
        codes[tokens] = np.repeat(code, n)
    return codes
