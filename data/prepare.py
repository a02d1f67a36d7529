"""The making of a prepared corpus: learn a tokenizer, tokenise on every core, hold out the end for validation.

The one idea: the corpus streams past in batches whose borders depend on nothing but the corpus. Batches are tokenised
in threads (tiktoken works outside Python's lock) and written in order, each with a line in a journal: its place and its
checksum. So memory stays flat, the result does not depend on the number of cores, and a build that was killed reads
past what the journal vouches for and goes on.
"""

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from data.config import DataConfig
from data.sources import Corpus, Piece
from data.tokenise import dtype_of, tokenise
from data.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, load_tokenizer
from errors import InputError
from files import sha256, sync, write_checked, write_folder, write_text

TRAIN_CHARS = 32_000_000  # that a bpe tokenizer learns from
BLOCK = 1 << 20  # tokens that are read back at a time


def build(config: DataConfig, corpus: Corpus, folder: Path, progress: bool, format_: int) -> None:
    """Fill `folder` with the prepared corpus (see data/dataset.py), going on from what a killed build left in it."""
    from tqdm import tqdm

    bar_settings = {"unit": "char", "unit_scale": True, "disable": None if progress else True}  # None: if no terminal
    fetched = None if config.tokenizer in ("bpe", "char") else BPETokenizer.of_tiktoken(config.tokenizer)
    _start_again_where_the_answer_changed(corpus, folder)
    limits = _limits(config, corpus)
    n_chars = corpus.n_chars if config.max_chars is None else min(config.max_chars, corpus.n_chars or config.max_chars)
    with tqdm(desc="reading", total=n_chars, **bar_settings) as bar:
        tokenizer = _tokenizer(config, corpus, folder, limits, fetched, bar.update)
    documents = {}
    with tqdm(desc="tokenising", total=n_chars, **bar_settings) as bar:
        for split, (max_chars, max_tokens) in limits.items():
            pieces = limited(corpus.pieces(split), max_chars)
            documents[split] = tokenise(pieces, tokenizer, folder / split, corpus.tagged, max_tokens, bar.update)
            if not len(documents[split]):
                key = "path" if split == "train" else "val_split"
                raise InputError(f"data.{key}: there is no text in it; give one with text")
    n_documents = sum(map(len, documents.values()))
    if "val" not in documents:
        val_chars = _hold_out(documents["train"], tokenizer, folder / "train", folder / "val", corpus.tagged, config)
        train_chars = int(documents["train"][:, 0].sum()) - val_chars
    else:
        train_chars, val_chars = (int(documents[split][:, 0].sum()) for split in ("train", "val"))

    dtype = dtype_of(tokenizer)
    n_val = (folder / "val.bin").stat().st_size // dtype.itemsize
    blocks = (_tokens(folder / "val.bin", dtype, i, min(i + BLOCK, n_val)) for i in range(0, n_val, BLOCK))
    val_bytes = sum(int(tokenizer.token_bytes(ids).sum()) for ids in blocks)
    counts = {"n_documents": n_documents, "val_chars": val_chars, "val_bytes": val_bytes, "train_chars": train_chars}
    names = ["train.bin", "val.bin", *(["val_relations.bin"] if corpus.tagged else [])]
    names += [f"tokenizer/{file.name}" for file in (folder / "tokenizer").iterdir()]
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in sorted(names)}
    meta = {"format": format_, "config": vars(config), "dtype": dtype.name, "counts": counts, "files": files}
    if corpus.origin is not None:  # then the folder's name is of the request: this is of the content
        digests = "".join(written["sha256"] for written in files.values())
        meta |= {"origin": corpus.origin, "hash": hashlib.sha256(digests.encode()).hexdigest()}
    write_checked(folder / "meta.json", meta)
    for path in [path for path in folder.iterdir() if path.is_file() and path.name not in (*names, "meta.json")]:
        path.unlink()
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _start_again_where_the_answer_changed(corpus: Corpus, folder: Path) -> None:
    """Remove what was built from another answer of the hub to the same request."""
    if corpus.origin is None:
        return
    file, text = folder / "origin.json", json.dumps(corpus.origin)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_text(file, text)


def _limits(config: DataConfig, corpus: Corpus) -> dict[str, tuple[int | None, int | None]]:
    """The most characters and the most tokens of each split that the corpus names."""
    budgets = (config.max_chars, config.max_tokens)
    if "val" not in corpus.splits:
        return {"train": budgets}
    val = [budget and max(1, int(config.val_fraction * budget)) for budget in budgets]
    train = [budget and max(1, budget - held) for budget, held in zip(budgets, val, strict=True)]
    return {"train": tuple(train), "val": tuple(val)}


def limited(pieces: Iterator[Piece], max_chars: int | None) -> Iterator[Piece]:
    """The first `max_chars` characters; the document that they end in is cut there."""
    left = math.inf if max_chars is None else max_chars
    for piece in pieces:
        if len(piece.text) >= left:
            yield Piece(piece.text[:left], True, tuple(span for span in piece.spans if span.end <= left))
            return
        left -= len(piece.text)
        yield piece


def _tokenizer(
    config: DataConfig,
    corpus: Corpus,
    folder: Path,
    limits: dict[str, tuple[int | None, int | None]],
    fetched: Tokenizer | None,
    advance: Callable[[int], object],
) -> Tokenizer:
    """The tokenizer, saved in `folder`: the one that is there already, or `fetched`, or one made from the corpus.

    char takes in all of the corpus; bpe learns from TRAIN_CHARS of its training split, where its length is known from
    the same leading share of every piece of it, otherwise from its start.
    """
    with contextlib.suppress(InputError):
        return load_tokenizer(folder / "tokenizer")

    def texts(splits: Iterable[str]) -> Iterator[str]:
        nonlocal n_documents
        for split in splits:
            for piece in limited(corpus.pieces(split), limits[split][0]):
                n_documents += piece.ends
                advance(len(piece.text))
                yield piece.text

    def sample() -> Iterator[str]:
        left = TRAIN_CHARS
        share = min(1.0, left / min(corpus.n_chars or 1, limits["train"][0] or math.inf)) if corpus.n_chars else 1.0
        for text in texts(["train"]):
            text = text[: min(left, math.ceil(share * len(text)))]
            left -= len(text)
            yield text
            if not left:
                return

    n_documents = 0
    if config.tokenizer == "char":
        characters = CharTokenizer.train(texts(limits)).characters
        tokenizer = CharTokenizer(characters, has_eot=n_documents > 1)
    else:
        tokenizer = fetched or BPETokenizer.train(sample(), config.vocab_size)
    write_folder(folder / "tokenizer", tokenizer.save)
    return tokenizer


def _hold_out(
    documents: np.ndarray, tokenizer: Tokenizer, train: Path, val: Path, tagged: bool, config: DataConfig
) -> int:
    """Move the end of TRAIN.bin (and TRAIN_relations.bin) to VAL.bin; returns the characters moved.

    documents: characters and tokens of each, int64 (N, 2).
    """
    document, wanted = split_at(documents[:, 0], config.val_fraction, whole=tagged)
    opens = np.array([] if tokenizer.eot is None else [tokenizer.eot], dtype=dtype_of(tokenizer))
    at = len(opens) + int(documents[:document, 1].sum())
    chars = int(documents[:document, 0].sum())
    if wanted:  # in the middle of a document
        opens = opens[:0]
        stop = at + int(documents[document, 1])
        while wanted > 0:
            ids = _tokens(Path(f"{train}.bin"), opens.dtype, at, min(at + BLOCK, stop))
            block = np.cumsum(tokenizer.token_chars(ids))
            n = min(int(np.searchsorted(block, wanted)) + 1, len(block))
            at, chars, wanted = at + n, chars + int(block[n - 1]), wanted - int(block[n - 1])
    _move(Path(f"{train}.bin"), Path(f"{val}.bin"), opens, at)
    if tagged:
        _move(Path(f"{train}_relations.bin"), Path(f"{val}_relations.bin"), np.zeros(len(opens), np.uint8), at)
    return int(documents[:, 0].sum()) - chars


def _tokens(file: Path, dtype: np.dtype, start: int, stop: int) -> np.ndarray:
    """Tokens [start, stop) of a file. Read, not mapped: pages of a map would stay in memory."""
    return np.fromfile(file, dtype, stop - start, offset=start * dtype.itemsize)


def _move(source: Path, target: Path, opens: np.ndarray, at: int) -> None:
    """Write `opens` and what follows the first `at` elements of `source`, of the same type, to `target`; cut it off."""
    with open(source, "r+b") as file, open(target, "wb") as moved:
        moved.write(opens.tobytes())
        file.seek(at * opens.itemsize)
        shutil.copyfileobj(file, moved, 1 << 20)
        file.truncate(at * opens.itemsize)


def split_at(sizes: np.ndarray, val_fraction: float, whole: bool) -> tuple[int, int]:
    """Where validation starts: (document, character in it), from the documents' characters (N,).

    That is at the start of a document, the nearest to the wanted place; unless that is off by more than half of the
    wanted share, as with a single document (cut as nanoGPT cuts Shakespeare) or a few of very unlike lengths: then the
    document there is cut in two. With `whole`, documents are never cut.
    """
    starts = np.cumsum([0, *sizes])
    wanted = int((1 - val_fraction) * starts[-1])
    nearest = int(np.abs(starts[1:-1] - wanted).argmin()) + 1 if len(sizes) > 1 else 0
    off = abs(int(starts[nearest]) - wanted)
    if nearest and (whole or off <= val_fraction * starts[-1] / 2):
        return nearest, 0
    if not 0 < wanted < starts[-1]:
        raise InputError(
            f"data.val_fraction: {val_fraction} of {starts[-1]} characters leaves a split empty; give a larger corpus"
        )
    document = int(np.searchsorted(starts, wanted, side="right")) - 1
    return document, wanted - int(starts[document])
