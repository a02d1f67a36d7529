"""A corpus, tokenised once and kept as memory-mapped files: what training reads.

The one idea: the folder's name is a hash of everything that shaped its content, and it appears whole or not at all
(built beside its place by one process at a time, then renamed). A build that was killed goes on where it was.

    ~/.cache/headcount/<hash>/     (or under HEADCOUNT_CACHE)
      tokenizer/                   see data/tokenizers.py
      train.bin  val.bin           token ids, the smallest unsigned type that holds the vocabulary
      val_relations.bin            tales only: a code a validation token
      meta.json                    counts, and the size and SHA-256 of every other file

Where the tokenizer has an end-of-text token, each document is followed by one, and each split that starts where a
document does opens with one: every document is predicted from its first character on.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.config import DataConfig, check
from data.prepare import build
from data.sources import Corpus, open_corpus
from data.tokenizers import Tokenizer, load_tokenizer
from errors import InputError, WorkError
from files import cache_folder, read_checked, sha256

FORMAT = 2  # of the files; raised when the same input would be packed otherwise


@dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared corpus. The arrays are read-only memory maps."""

    tokenizer: Tokenizer
    train: np.ndarray
    """Training tokens (N,), uint8, uint16 or uint32."""
    val: np.ndarray
    """Validation tokens (N,), of the same type."""
    val_relations: np.ndarray | None
    """For tales, uint8 (N,): 1 + place in RELATIONS where a validation token overlaps a tagged range, 0 elsewhere."""
    train_chars: int
    val_chars: int
    val_bytes: int
    """UTF-8 bytes of the validation text: nats per token × tokens / (ln 2 × val_bytes) is bits per byte."""
    hash: str
    folder: Path
    n_documents: int

    def require(self, block_size: int) -> None:
        """Raise InputError unless both splits hold a window of `block_size` tokens and the one that follows."""
        name, tokens = min(("training", self.train), ("validation", self.val), key=lambda split: len(split[1]))
        if len(tokens) <= block_size:
            raise InputError(
                f"model.block_size: {block_size} is too long: the {name} split has {len(tokens)} tokens; "
                f"at most {len(tokens) - 1} with this corpus, or give a larger one"
            )


def prepare(config: DataConfig, cache_dir: Path | None = None, progress: bool = True) -> Dataset:
    """The tokens that `config` asks for, from the cache, or built into it.

    cache_dir: HEADCOUNT_CACHE or ~/.cache/headcount where None. progress: a bar in characters, on a terminal's stderr.
    Raises InputError for a corpus or setting that cannot be used, WorkError where the cache folder cannot be written.
    """
    check(config)
    corpus = open_corpus(config)
    key = _key(config, corpus)
    cache = Path(cache_dir or cache_folder())
    folder = cache / key
    if folder.exists():
        try:
            return load(folder)
        except InputError as error:
            print(f"{error}; building it again", file=sys.stderr)
            aside = cache / f".building-{os.getpid()}-{key}"
            with contextlib.suppress(FileNotFoundError):  # another process saw it too
                os.rename(folder, aside)
            shutil.rmtree(aside, ignore_errors=True)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_old(cache)
        with _alone(cache / f".building-{key}") as building:
            if not folder.exists():  # as it does where another process has built it meanwhile
                try:
                    build(config, corpus, building, progress, FORMAT)
                    os.rename(building, folder)
                except (InputError, OSError):
                    shutil.rmtree(building, ignore_errors=True)
                    raise
    except OSError as error:
        raise WorkError(
            f"cannot write to the cache folder {cache}: {error.strerror}; make room, or set HEADCOUNT_CACHE to another"
        ) from None
    return load(folder)


def load(folder: Path) -> Dataset:
    """The dataset in `folder`. Raises InputError where a file is missing or not as it was written."""
    folder = Path(folder)
    try:
        meta = read_checked(folder / "meta.json")
        dtype, files, counts = np.dtype(meta["dtype"]), meta["files"], meta["counts"]
        for name, written in files.items():
            if sha256(folder / name) != written["sha256"]:  # about a second a GB
                raise ValueError(f"{name} is not as it was written")
        relations = np.memmap(folder / "val_relations.bin", np.uint8, "r") if "val_relations.bin" in files else None
        return Dataset(
            tokenizer=load_tokenizer(folder / "tokenizer"),
            train=np.memmap(folder / "train.bin", dtype, "r"),
            val=np.memmap(folder / "val.bin", dtype, "r"),
            val_relations=relations,
            hash=meta.get("hash", folder.name),
            folder=folder,
            **counts,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"prepared data in {folder} is damaged: {error}") from None


def _key(config: DataConfig, corpus: Corpus) -> str:
    """SHA-256 over all that shapes the files: for text, the content and not the path."""
    shaping = {"format": FORMAT, "source": config.source, "corpus": corpus.fingerprint}
    shaping |= {"tokenizer": config.tokenizer, "val_fraction": config.val_fraction}
    shaping |= {"vocab_size": config.vocab_size} if config.tokenizer == "bpe" else {}
    shaping |= {"n_stories": config.n_stories} if config.source == "tales" else {}
    shaping |= {key: getattr(config, key) for key in ("max_chars", "max_tokens") if getattr(config, key) is not None}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _alone(building: Path) -> Iterator[Path]:
    """Hold `building` (made where it is not there) while no other process does. Left empty, it is removed."""
    while True:
        building.mkdir(exist_ok=True)
        handle = os.open(building, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # the system frees it when the process ends, however it ends
            try:
                same = os.stat(building).st_ino == os.fstat(handle).st_ino
            except FileNotFoundError:
                same = False
            if same:  # else the one who held it put it in place, or removed it
                yield building
                return
        finally:
            with contextlib.suppress(OSError):
                building.rmdir()
            os.close(handle)


def _remove_old(cache: Path) -> None:
    """Remove what builds that were killed more than a day ago left behind."""
    for left in cache.glob(".building-*"):
        with contextlib.suppress(OSError):
            newest = max(file.stat().st_mtime for file in (left, *left.iterdir()))
            if time.time() - newest > 86400:
                shutil.rmtree(left, ignore_errors=True)
