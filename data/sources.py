"""Where documents come from: the generated tales, text files, an installed package; `data.tables` has the rest.

The one idea: a corpus is known by its content. Opening one reads every file once, so that a bad file is reported before
anything is built, and gives a fingerprint of the bytes, so that prepared tokens are reused if and only if they would
come out the same, whatever the files are called. And it is a stream: no file is ever held as a whole.

Text files are read here, byte for byte. (The text loader of `datasets` opens files with universal newlines, which turns
every `\\r\\n` and `\\r` into `\\n` before anyone can ask for them.)
"""

import codecs
import glob
import hashlib
import importlib.util
import os
import stat
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

from data.config import DataConfig, kind_of
from data.tokenizers import pieces
from errors import InputError

TALES_SOURCE = ("__init__", "grammar", "lexicon", "templates")  # the files that shape a story
KEPT_STORIES = 50_000  # about 80 MB; telling a story takes longer than all else that is done to it
BLOCK = 1 << 20  # bytes read at a time


class Piece(NamedTuple):
    """A document, or a part of a long one: its text, does the document end with it, and the tagged ranges in it."""

    text: str
    ends: bool = True
    spans: tuple = ()
    """Objects with `start`, `end` (characters of the text) and `relation`."""


class Corpus(Protocol):
    """What the tokens are made from."""

    fingerprint: str
    """Differs where the content does."""
    splits: tuple[str, ...]
    """("train",), or ("train", "val") where the corpus names what is held out."""
    tagged: bool
    """Do documents have relations? Then they are ASCII, a piece each, and never divided between the splits."""
    n_chars: int | None
    """Characters of all documents, where that is known beforehand."""
    origin: dict | None
    """Where the fingerprint is of the request and not of the content: what the answer was."""

    def pieces(self, split: str = "train") -> Iterator[Piece]:
        """Yield the documents of a split, the same each time, in pieces of bounded size."""


@dataclass(frozen=True)
class Tales:
    """`n_stories` generated stories, each a document with its relations tagged."""

    n_stories: int
    fingerprint: str
    told: list[Piece] = field(default_factory=list, repr=False)
    splits = ("train",)
    tagged = True
    n_chars = None  # not known before they are told
    origin = None

    def pieces(self, split: str = "train") -> Iterator[Piece]:
        """Yield every story, in order; up to KEPT_STORIES are told once and kept in memory."""
        from data import tales

        if self.told:
            return iter(self.told)
        telling = (Piece(story.text, True, story.spans) for story in tales.stories(self.n_stories))
        return telling if self.n_stories > KEPT_STORIES else self._keep(telling)

    def _keep(self, telling: Iterator[Piece]) -> Iterator[Piece]:
        told = []
        for piece in telling:
            told.append(piece)
            yield piece
        self.told[:] = told


@dataclass(frozen=True)
class Text:
    """Text files, each a document; `digests` holds each file's SHA-256 as it was when the corpus was opened."""

    files: tuple[Path, ...]
    digests: tuple[str, ...]
    fingerprint: str
    n_chars: int
    splits = ("train",)
    tagged = False
    origin = None

    def pieces(self, split: str = "train") -> Iterator[Piece]:
        """Yield every file's text, in order. Raises InputError where a file changed since the corpus was opened."""
        for file, digest in zip(self.files, self.digests, strict=True):
            yield from in_pieces(_unchanged(file, digest))


def in_pieces(chunks: Iterable[str]) -> Iterator[Piece]:
    """One document, given in chunks, as pieces."""
    cut = pieces(chunks)
    last = next(cut)
    for text in cut:
        yield Piece(last, False)
        last = text
    yield Piece(last)


def open_corpus(config: DataConfig) -> Corpus:
    """Find and check the corpus that `config` asks for. Raises InputError where there is none, or it cannot be read."""
    if config.source == "tales":
        if config.n_stories < 2:
            raise InputError(f"data.n_stories: {config.n_stories} is too few to train and validate on; at least 2")
        source = [digest(Path(__file__).with_name("tales") / f"{name}.py") for name in TALES_SOURCE]
        return Tales(config.n_stories, fingerprint(source))
    if config.source == "package":
        return _read_through(_package(config.path), config.path, skip_not_utf8=True)
    from data import tables

    if config.source == "hub":
        return tables.open_dataset(config)
    path = config.path
    if path.lower().startswith(("http://", "https://")):
        from data.fetch import download

        try:
            urllib.parse.urlsplit(path)
        except ValueError as error:
            raise InputError(f"data.path: {path} is no address ({error}); give one, or a file") from None
        files, kinds = [download(path)], {kind_of(path)}
    else:
        files = _find(path)
        kinds = {kind_of(file.name) for file in files}
    if len(kinds) > 1:
        found = ", ".join(sorted(kind or "text" for kind in kinds))
        raise InputError(f"data.path: {path} names files of several kinds ({found}); name one kind")
    if kind := kinds.pop():
        return tables.open_files(files, kind, config)
    if config.column != DataConfig.column:
        raise InputError(f"data.column means nothing for the text files that {path} names; leave it out")
    return _read_through(files, path)


def _read_through(files: list[Path], path: str, skip_not_utf8: bool = False) -> Text:
    """The corpus of these text files, each read once to check it."""
    kept, digests, n_chars = [], [], 0
    for file in files:
        sha = hashlib.sha256()
        try:
            chars = sum(map(len, _decoded(file, sha)))
        except _NotUTF8 as error:
            if skip_not_utf8:
                continue
            raise InputError(f"data.path: {file} is not UTF-8: {error}; save it as UTF-8") from None
        if chars:  # of several files, the empty ones hold nothing to learn from
            kept.append(file)
            digests.append(sha.hexdigest())
            n_chars += chars
    if not kept:
        raise InputError(f"data.path: {path} is empty; give one with text in it")
    return Text(tuple(kept), tuple(digests), fingerprint(digests), n_chars)


class _NotUTF8(Exception):
    """The message says which byte, and where."""


def _decoded(file: Path, sha: "hashlib._Hash") -> Iterator[str]:
    """The text of a UTF-8 file, block by block; `sha` (of hashlib) takes in its bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = 0
    for block in chain(_blocks(file), [b""]):
        begun = before - len(decoder.getstate()[0])
        sha.update(block)
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise _NotUTF8(f"byte 0x{byte:02x} at offset {begun + error.start} ({error.reason})") from None
        before += len(block)


def _unchanged(file: Path, digest: str) -> Iterator[str]:
    """The text of a file that has that SHA-256. Raises InputError, at the latest at its end, where it has another."""
    sha = hashlib.sha256()
    try:
        yield from _decoded(file, sha)
        same = sha.hexdigest() == digest
    except _NotUTF8:
        same = False
    if not same:
        raise InputError(f"data.path: {file} changed while it was being read; run the same command again")


def _find(path: str) -> list[Path]:
    """The files that `path` names, sorted: one file, or every file that a glob (`*`, `?`, `[]`, `**`) matches."""
    path = os.path.expanduser(path)
    if os.path.lexists(path) or not glob.has_magic(path):
        found = [path]
        if os.path.isdir(path):
            raise InputError(
                f"data.path: {path} is a folder; name its files with a glob, such as {os.path.join(path, '*.txt')}"
            )
    else:
        found = sorted(name for name in glob.glob(path, recursive=True) if not os.path.isdir(name))
        if not found:
            raise InputError(f"data.path: no file matches {path}; paths start from {os.getcwd()}")
    return [Path(name) for name in found]


def _package(name: str) -> list[Path]:
    """The Python sources of an installed package, sorted by their place in it. The package is not imported."""
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    found = [(file.relative_to(folder).parts, file) for folder in folders for file in folder.rglob("*.py")]
    files = [file for _, file in sorted(found) if file.is_file()]
    if spec and not folders and (spec.origin or "").endswith(".py"):
        files = [Path(spec.origin)]
    if not files:
        raise InputError(
            f"data.path: no installed package named {name!r} has Python sources; give one's import name, such as torch"
        )
    return files


def digest(file: Path) -> str:
    """SHA-256 of a file's bytes. Raises InputError where it cannot be read."""
    sha = hashlib.sha256()
    for block in _blocks(file):
        sha.update(block)
    return sha.hexdigest()


def fingerprint(parts: Iterable[str]) -> str:
    """One hash of many."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    """A regular file's bytes. A pipe or a device is refused: it might never end, and cannot be read twice."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise InputError(f"data.path: {file} is not a regular file; copy its content into one")
        with open(file, "rb") as opened:
            while block := opened.read(BLOCK):
                yield block
    except FileNotFoundError:
        raise InputError(f"data.path: no such file: {file}; paths start from {os.getcwd()}") from None
    except OSError as error:
        raise InputError(f"data.path: cannot read {file}: {error.strerror}; check its permissions") from None
