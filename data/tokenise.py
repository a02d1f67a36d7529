"""Tokens on disk: batches of pieces tokenised on every core, written in order, each vouched for in a journal."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from data.config import RELATIONS
from data.sources import Piece
from data.tokenizers import Tokenizer

BATCH_CHARS = 1_000_000  # that a thread tokenises at a time


def dtype_of(tokenizer: Tokenizer) -> np.dtype:
    """The smallest unsigned type that holds the vocabulary."""
    return np.min_scalar_type(tokenizer.vocab_size - 1)


class _Encoded(NamedTuple):
    """A batch of P pieces, N tokens."""

    ids: np.ndarray
    """(N,), end-of-text after those that end a document."""
    codes: np.ndarray
    """The relations of the tokens, uint8 (N,); (0,) for a corpus without."""
    sizes: np.ndarray
    """Characters and tokens of each piece, int64 (P, 2)."""
    ends: np.ndarray
    """Does a document end with the piece, bool (P,)."""


def tokenise(
    pieces: Iterator[Piece],
    tokenizer: Tokenizer,
    stem: Path,
    tagged: bool,
    max_tokens: int | None,
    advance: Callable[[int], object],
) -> np.ndarray:
    """Write the tokens of `pieces` to STEM.bin and, if `tagged`, their relations to STEM_relations.bin.

    Where there is an end-of-text, the file opens with one, which `max_tokens` does not count. Returns the characters
    and tokens of each document, int64 (N, 2). Goes on from what STEM.journal vouches for.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque = deque()
    with _Written(stem, tokenizer, max_tokens) as written, ThreadPoolExecutor(cores) as threads:
        for number, batch in enumerate(_batches(pieces)):
            if written.full:
                break
            if number < written.batches:
                advance(sum(len(piece.text) for piece in batch))
                continue
            waiting.append(threads.submit(_encode, tokenizer, batch, tagged))
            if len(waiting) > 2 * cores:
                advance(written.add(waiting.popleft().result()))
        while waiting and not written.full:
            advance(written.add(waiting.popleft().result()))
        for left in waiting:
            left.cancel()
    return np.fromfile(f"{stem}.documents", dtype=np.int64).reshape(-1, 2)


def _batches(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    batch, chars = [], 0
    for piece in pieces:
        batch.append(piece)
        chars += len(piece.text)
        if chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _encode(tokenizer: Tokenizer, batch: list[Piece], tagged: bool) -> _Encoded:
    texts = [piece.text for piece in batch]
    ends = np.array([piece.ends for piece in batch])
    encoded = tokenizer.encode_batch(texts)
    tokens = np.array([len(ids) for ids in encoded])
    if tokenizer.eot is not None:
        eot = np.array([tokenizer.eot], dtype=np.uint32)
        encoded = [part for ids, end in zip(encoded, ends, strict=True) for part in ((ids, eot) if end else (ids,))]
        tokens += ends
    ids = np.concatenate(encoded)
    codes = _align(tokenizer.token_bytes(ids), texts, [piece.spans for piece in batch]) if tagged else np.zeros(0)
    sizes = np.stack([np.array([len(text) for text in texts]), tokens], axis=1)
    return _Encoded(ids.astype(dtype_of(tokenizer)), codes.astype(np.uint8), sizes, ends)


class _Written:
    """The files of a split while they grow.

    STEM.bin and STEM_relations.bin; STEM.documents, two int64 a document: characters, tokens; and STEM.journal, a line
    of JSON a batch: how far each file reached with it, and the SHA-256 of what it added.
    """

    def __init__(self, stem: Path, tokenizer: Tokenizer, max_tokens: int | None):
        self.stem, self.tokenizer, self.max_tokens = stem, tokenizer, max_tokens
        self.batches, self.full, self.begun = 0, False, np.zeros(2, dtype=np.int64)
        self._paths = [Path(f"{stem}{end}") for end in (".bin", "_relations.bin", ".documents")]
        self._reach = [0, 0, 0]  # bytes

    def __enter__(self) -> "_Written":
        journal = Path(f"{self.stem}.journal")
        self._open = ExitStack()
        self._files = []
        for path in self._paths:
            self._files.append(self._open.enter_context(open(path, "a+b")))
        good = b""
        for line in journal.read_bytes().splitlines(keepends=True) if journal.exists() else []:
            try:
                entry = json.loads(line)
                parts = zip(self._files, self._reach, entry["reach"], strict=True)
                added = [_read(file, start, stop) for file, start, stop in parts]
            except (ValueError, KeyError, TypeError):
                break
            if hashlib.sha256(b"".join(added)).hexdigest() != entry["sha256"]:
                break
            good += line
            self.batches += 1
            self._reach, self.full, self.begun = entry["reach"], entry["full"], np.array(entry["begun"])
        for file, reach in zip(self._files, self._reach, strict=True):
            file.truncate(reach)
        self._journal = self._open.enter_context(open(journal, "wb"))
        self._journal.write(good)
        self._journal.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        if not self._reach[1]:
            self._paths[1].unlink()

    def add(self, batch: _Encoded) -> int:
        """Write a batch, up to `max_tokens` in all; returns its characters."""
        ids, codes, sizes, ends = batch
        eot = np.array([] if self.tokenizer.eot is None else [self.tokenizer.eot], dtype=ids.dtype)
        if self.max_tokens is not None:
            before = self._reach[0] // ids.itemsize
            room = self.max_tokens - (before - len(eot) if before else 0)
            if len(ids) >= room:
                self.full = True
                ids, codes = ids[:room], codes[:room]
                last = int(np.searchsorted(np.cumsum(sizes[:, 1]), room))
                sizes, ends = sizes[: last + 1].copy(), np.append(ends[:last], True)
                sizes[last, 1] = room - sizes[:last, 1].sum()
                sizes[last, 0] = self.tokenizer.token_chars(ids[len(ids) - sizes[last, 1] :]).sum()
        if not self._reach[0]:
            ids = np.concatenate([eot, ids])
            codes = np.concatenate([np.zeros(len(eot), np.uint8), codes]) if len(codes) else codes
        totals = np.cumsum(sizes, axis=0) + self.begun
        ended = totals[ends]
        documents = np.diff(ended, axis=0, prepend=np.zeros((1, 2), dtype=np.int64))
        self.begun = totals[-1] - (ended[-1] if len(ended) else 0)
        added = [ids.tobytes(), codes.tobytes(), documents.tobytes()]
        for file, data in zip(self._files, added, strict=True):
            file.write(data)
            file.flush()
        self._reach = [reach + len(data) for reach, data in zip(self._reach, added, strict=True)]
        digest = hashlib.sha256(b"".join(added)).hexdigest()
        entry = {"reach": self._reach, "full": self.full, "begun": self.begun.tolist(), "sha256": digest}
        self._journal.write(json.dumps(entry).encode() + b"\n")
        self._journal.flush()
        self.batches += 1
        return int(sizes[:, 0].sum())


def _read(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


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
