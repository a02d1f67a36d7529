"""A corpus, tokenised once and kept as memory-mapped files: what training reads.

The one idea: the folder's name is a hash of everything that shaped its content, and it appears whole or not at all
(built beside its place, then renamed), so any number of processes may ask for it at once.

    ~/.cache/headcount/<hash>/     (or under HEADCOUNT_CACHE)
      tokenizer/                   see data/tokenizers.py
      train.bin  val.bin           token ids, the smallest unsigned type that holds the vocabulary
      val_relations.bin            tales only: a code a validation token
      meta.json                    counts, and the size and SHA-256 of every other file

Where the tokenizer has an end-of-text token, each document is followed by one, and each split that starts where a
document does opens with one: every document is predicted from its first character on.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.config import RELATIONS, DataConfig
from data.sources import Document, Tales, Text, open_corpus
from data.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, load_tokenizer, pieces
from errors import InputError, WorkError
from files import sha256, sync

FORMAT = 1  # of the files; raised when the same input would be packed otherwise
TRAIN_CHARS = 32_000_000  # that a bpe tokenizer learns from
BATCH_CHARS = 4_000_000  # that are encoded at a time
VERIFY_BYTES = 1 << 30  # up to this total, checksums are verified at every load (about a second); above, sizes alone


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
    if not 0 < config.val_fraction < 1:
        raise InputError(f"data.val_fraction: {config.val_fraction} must lie between 0 and 1, such as 0.1")
    if config.tokenizer not in ("bpe", "char"):
        raise InputError(f"data.tokenizer: {config.tokenizer!r} is unknown; choose bpe or char")
    corpus = open_corpus(config)
    key = _key(config, corpus)
    cache = Path(cache_dir or os.environ.get("HEADCOUNT_CACHE") or Path.home() / ".cache" / "headcount")
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
    building = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
        _build(config, corpus, building, progress)
        try:
            os.rename(building, folder)
        except OSError:  # another process was first, with the same content
            if not folder.exists():
                raise
    except OSError as error:
        raise WorkError(
            f"cannot write to the cache folder {cache}: {error.strerror}; make room, or set HEADCOUNT_CACHE to another"
        ) from None
    finally:
        if building:
            shutil.rmtree(building, ignore_errors=True)
    return load(folder)


def load(folder: Path) -> Dataset:
    """The dataset in `folder`. Raises InputError where a file is missing or not as it was written."""
    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        dtype, files, counts = np.dtype(meta["dtype"]), meta["files"], meta["counts"]
        verify = sum(written["bytes"] for written in files.values()) <= VERIFY_BYTES
        for name, written in files.items():
            size = (folder / name).stat().st_size
            if size != written["bytes"] or (verify and sha256(folder / name) != written["sha256"]):
                raise ValueError(f"{name} is not as it was written")
        relations = np.memmap(folder / "val_relations.bin", np.uint8, "r") if "val_relations.bin" in files else None
        return Dataset(
            tokenizer=load_tokenizer(folder / "tokenizer"),
            train=np.memmap(folder / "train.bin", dtype, "r"),
            val=np.memmap(folder / "val.bin", dtype, "r"),
            val_relations=relations,
            hash=folder.name,
            folder=folder,
            **counts,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"prepared data in {folder} is damaged: {error}") from None


def _key(config: DataConfig, corpus: Tales | Text) -> str:
    """SHA-256 over all that shapes the files: for text, the content and not the path."""
    shaping = {"format": FORMAT, "source": config.source, "corpus": corpus.fingerprint}
    shaping |= {"tokenizer": config.tokenizer, "val_fraction": config.val_fraction}
    shaping |= {"vocab_size": config.vocab_size} if config.tokenizer == "bpe" else {}
    shaping |= {"n_stories": config.n_stories} if config.source == "tales" else {}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def _build(config: DataConfig, corpus: Tales | Text, folder: Path, progress: bool) -> None:
    """Read the corpus twice: to learn the tokenizer and where to split, then to write the tokens."""
    from tqdm import tqdm

    sizes: list[int] = []
    bar_settings = {"unit": "char", "unit_scale": True, "disable": None if progress else True}  # None: if no terminal
    with tqdm(desc="reading", **bar_settings) as bar:
        if config.tokenizer == "char":
            tokenizer = CharTokenizer.train(_measured(corpus, sizes, bar))
        else:
            tokenizer = BPETokenizer.train(_measured(corpus, sizes, bar, TRAIN_CHARS), config.vocab_size)
    split = _split(sizes, config.val_fraction, whole=corpus.tagged)
    tokenizer.save(folder / "tokenizer")
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    counts = {"n_documents": len(sizes), "val_chars": sum(sizes[split[0] :]) - split[1], "val_bytes": 0}
    counts["train_chars"] = sum(sizes) - counts["val_chars"]
    with (
        tqdm(desc="tokenising", total=sum(sizes), **bar_settings) as bar,
        open(folder / "train.bin", "wb") as train,
        open(folder / "val.bin", "wb") as val,
        open(folder / "val_relations.bin", "wb") as relations,
    ):
        if tokenizer.eot is not None:
            train.write(dtype.type(tokenizer.eot).tobytes())
            if split[1] == 0:
                val.write(dtype.type(tokenizer.eot).tobytes())
                relations.write(b"\0")
        for in_val, texts, spans, ends in _batches(corpus, split):
            ids = _encode(tokenizer, texts, ends)
            (val if in_val else train).write(ids.astype(dtype).tobytes())
            if in_val:
                lengths = tokenizer.token_bytes(ids)
                counts["val_bytes"] += int(lengths.sum())
                relations.write(_align(lengths, texts, spans).tobytes())
            bar.update(sum(map(len, texts)))
    if not corpus.tagged:
        (folder / "val_relations.bin").unlink()

    files = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        files[file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    meta = {"format": FORMAT, "config": vars(config), "dtype": dtype.name, "counts": counts, "files": files}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _measured(corpus: Tales | Text, sizes: list[int], bar, limit: int | None = None) -> Iterator[str]:
    """Every document's text, or of a corpus over `limit` characters the same leading share of each. Fills `sizes`."""
    share = min(1.0, limit / corpus.n_bytes) if limit and corpus.n_bytes else 1.0
    left = limit
    for document in corpus.documents():
        sizes.append(len(document.text))
        bar.update(len(document.text))
        text = document.text if left is None else document.text[: min(left, math.ceil(share * len(document.text)))]
        if left is not None:
            left -= len(text)
        if text:
            yield text


def _split(sizes: list[int], val_fraction: float, whole: bool) -> tuple[int, int]:
    """Where validation starts: (document, character in it), by character counts.

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


def _batches(corpus: Tales | Text, split: tuple[int, int]) -> Iterator[tuple[bool, list[str], list[tuple], list[bool]]]:
    """(in validation?, texts, their tagged ranges, does a document end with the text?), about BATCH_CHARS at a time."""

    def parts() -> Iterator[tuple[bool, Document, bool]]:
        for number, document in enumerate(corpus.documents()):
            if split == (number, 0) or number != split[0]:
                yield number >= split[0], document, True
            else:
                yield False, Document(document.text[: split[1]]), False
                yield True, Document(document.text[split[1] :]), True

    now, texts, spans, ends, chars = False, [], [], [], 0
    for in_val, document, ends_document in parts():
        cuts = list(pieces(document.text))
        for i, text in enumerate(cuts):
            if texts and (in_val != now or chars > BATCH_CHARS):
                yield now, texts, spans, ends
                texts, spans, ends, chars = [], [], [], 0
            now = in_val
            texts.append(text)
            spans.append(document.spans if len(cuts) == 1 else ())
            ends.append(ends_document and i == len(cuts) - 1)
            chars += len(text)
    yield now, texts, spans, ends


def _encode(tokenizer: Tokenizer, texts: list[str], ends: list[bool]) -> np.ndarray:
    """Ids of the texts, one after another, with end-of-text after those that end a document."""
    eot = np.array([] if tokenizer.eot is None else [tokenizer.eot], dtype=np.uint32)
    encoded = tokenizer.encode_batch(texts)
    return np.concatenate(
        [part for text, end in zip(encoded, ends, strict=True) for part in ((text, eot) if end else (text,))]
    )


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


def _sweep(cache: Path) -> None:
    """Remove what builds that were killed more than a day ago left behind."""
    for left in cache.glob(".building-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > 86400:
                shutil.rmtree(left, ignore_errors=True)
