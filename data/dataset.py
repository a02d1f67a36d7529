"""A corpus, tokenised once and kept as memory-mapped files: what training reads.

The one idea: the folder's name is a hash of everything that shaped its content, and it appears whole or not at all
(built beside its place by one process at a time, then renamed). A build that was killed goes on where it was.

    ~/.cache/headcount/<hash>/     (or under HEADCOUNT_CACHE)
      tokenizer/                   see data/tokenizers
      train.bin  val.bin           token ids, the smallest unsigned type that holds the vocabulary
      val_relations.bin            tales only: a code a validation token
      meta.json                    counts, and the SHA-256 of every other file

Where the tokenizer has an end-of-text token, each document is followed by one, and each split that starts where a
document does opens with one: every document is predicted from its first character on.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from data.config import DataConfig, check_data
from data.corpus import Corpus
from data.prepare import build
from data.sources import open_corpus
from data.tokenizers import Tokenizer, load_tokenizer
from errors import InputError, WorkError
from files import cache_folder, read_checked, sha256

log = logging.getLogger("headcount")

FORMAT = 2  # of the tokens; raised when the same input would be tokenised otherwise


@dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared corpus. The arrays are read-only memory maps."""

    tokenizer: Tokenizer
    train: np.ndarray
    """Training tokens (N,), uint8, uint16 or uint32."""
    val: np.ndarray
    """Validation tokens (N,), of the same type."""
    val_relations: np.ndarray | None
    """For tales, uint8 (N,): 1 + index in RELATIONS where a validation token overlaps a tagged range, 0 elsewhere."""
    train_chars: int
    val_chars: int
    val_bytes: int
    """UTF-8 bytes of the validation text: nats per token × tokens / (ln 2 × val_bytes) is bits per byte."""
    hash: str
    folder: Path
    n_documents: int
    notes: list[str]
    """What a user should know of the text."""

    def require(self, block_size: int) -> None:
        """Raise InputError unless both splits hold a window of `block_size` tokens and the one that follows."""
        name, tokens = min(("training", self.train), ("validation", self.val), key=lambda split: len(split[1]))
        if len(tokens) <= block_size:
            few = f"at most {len(tokens) - 1} with this corpus, or " * (len(tokens) > 1)
            raise InputError(
                f"model.block_size: {block_size} is too long: the {name} split has "
                f"{len(tokens)} token{'s' * (len(tokens) != 1)}; {few}give a larger one"
                + " (or a larger data.val_fraction or data.val_tokens)"
                * (name == "validation")
            )


def prepare(
    config: DataConfig, cache_dir: Path | None = None, progress: bool = True, given: Tokenizer | None = None
) -> Dataset:
    """The tokens that `config` asks for, from the cache, or built into it.

    cache_dir: HEADCOUNT_CACHE or ~/.cache/headcount where None. progress: a bar in characters, on a terminal's stderr.
    given: the tokenizer that data.tokenizer: init stands for.
    Raises InputError for a corpus or setting that cannot be used, WorkError where the cache folder cannot be written.
    """
    check_data(config)
    if config.tokenizer != "init":
        given = None
    elif given is None:
        raise InputError("data.tokenizer: init takes the tokenizer of --init; give that, or choose bpe or char")
    corpus = open_corpus(config)
    hash_ = data_hash(config, corpus, given)
    cache = Path(cache_dir or cache_folder())
    folder = cache / hash_
    dataset = None
    if folder.exists():
        try:
            dataset = load_dataset(folder)
        except InputError as error:
            log.warning(f"{error}; building it again")
    try:
        if not dataset:
            cache.mkdir(parents=True, exist_ok=True)
            _remove_old(cache)
            with FileLock(cache / f".{hash_}.lock"):  # which the system frees when the process ends, however it ends
                _build(config, corpus, given, folder, progress)
            dataset = load_dataset(folder)
    except OSError as error:
        raise WorkError(
            f"cannot write to the cache folder {cache}: {error.strerror}; make room, or set HEADCOUNT_CACHE to another"
        ) from None
    for note in dataset.notes:
        log.warning(note)
    return bounded(dataset, config.val_tokens)


def _build(config: DataConfig, corpus: Corpus, given: Tokenizer | None, folder: Path, progress: bool) -> None:
    """Make `folder`, unless another process has done so by now."""
    with contextlib.suppress(InputError):
        load_dataset(folder)
        return
    answer = hashlib.sha256(json.dumps(corpus.origin).encode()).hexdigest()[:8]  # of a hub, which may change
    building = folder.with_name(f".building-{folder.name}-{answer}")
    building.mkdir(exist_ok=True)
    try:
        build(config, corpus, given, building, progress)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        os.rename(building, folder)
    except (InputError, OSError):
        shutil.rmtree(building, ignore_errors=True)
        raise


def load_dataset(folder: Path) -> Dataset:
    """The dataset in `folder`. Raises InputError where a file is missing or not as it was written."""
    folder = Path(folder)
    try:
        meta = read_checked(folder / "meta.json")
        dtype, files, counts = np.dtype(meta["dtype"]), meta["files"], meta["counts"]
        for name, written in files.items():
            if sha256(folder / name) != written:  # about a second a GB
                raise ValueError(f"{name} is not as it was written")
        relations = np.memmap(folder / "val_relations.bin", np.uint8, "r") if "val_relations.bin" in files else None
        return Dataset(
            tokenizer=load_tokenizer(folder / "tokenizer"),
            train=np.memmap(folder / "train.bin", dtype, "r"),
            val=np.memmap(folder / "val.bin", dtype, "r"),
            val_relations=relations,
            hash=meta.get("hash", folder.name),
            folder=folder,
            notes=meta["notes"],
            **{name: counts[name] for name in ("train_chars", "val_chars", "val_bytes", "n_documents")},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"prepared data in {folder} is damaged, or of an older version: {what}") from None


def bounded(dataset: Dataset, val_tokens: int | None) -> Dataset:
    """The dataset with the first `val_tokens` of its validation split alone."""
    if val_tokens is None or val_tokens >= len(dataset.val):
        return dataset
    val, relations = dataset.val[:val_tokens], dataset.val_relations
    return replace(
        dataset,
        val=val,
        val_relations=None if relations is None else relations[:val_tokens],
        val_chars=int(dataset.tokenizer.token_chars(val).sum()),
        val_bytes=int(dataset.tokenizer.token_bytes(val).sum()),
    )


def data_hash(config: DataConfig, corpus: Corpus, given: Tokenizer | None) -> str:
    """SHA-256 over all that shapes the tokens: for text, the content and not the path."""
    shaping = {"format": FORMAT, "source": config.source, "corpus": corpus.fingerprint}
    shaping |= {"tokenizer": config.tokenizer, "val_fraction": config.val_fraction}
    shaping |= {"vocab_size": config.vocab_size} if config.tokenizer == "bpe" else {}
    shaping |= {"n_stories": config.n_stories} if config.source == "tales" else {}
    shaping |= {key: getattr(config, key) for key in ("max_chars", "max_tokens") if getattr(config, key) is not None}
    for key in ("separator", "line_ends", "bad_rows"):
        shaping |= {} if getattr(config, key) == getattr(DataConfig, key) else {key: getattr(config, key)}
    shaping |= {"given": hashlib.sha256(repr(given.definition).encode()).hexdigest()} if given else {}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def _remove_old(cache: Path) -> None:
    """Remove what builds that were killed more than a day ago left behind."""
    for left in cache.glob(".building-*"):
        with contextlib.suppress(OSError):
            newest = max(file.stat().st_mtime for file in (left, *left.rglob("*")))
            if time.time() - newest > 86400:
                shutil.rmtree(left, ignore_errors=True)
