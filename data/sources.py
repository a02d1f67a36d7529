"""Where documents come from: the generated tales, or text files of your own.

The one idea: a corpus is known by its content. Opening one reads every file once, so that a bad file is reported before
anything is built, and gives a fingerprint of the bytes, so that prepared tokens are reused if and only if they would
come out the same, whatever the files are called.

Text files are read here, byte for byte. (The text loader of `datasets` opens files with universal newlines, which turns
every `\\r\\n` and `\\r` into `\\n` before anyone can ask for them.)
"""

import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data.config import DataConfig
from errors import InputError

TALES_SOURCE = ("tales", "tales_grammar", "tales_lexicon", "tales_templates")  # the files that shape a story
KEPT_STORIES = 50_000  # about 80 MB; telling a story takes longer than all else that is done to it


class Document(NamedTuple):
    """One document: its text, and the tagged character ranges in it (objects with `start`, `end`, `relation`)."""

    text: str
    spans: tuple = ()


@dataclass(frozen=True)
class Tales:
    """`n_stories` generated stories, each a document with its relations tagged."""

    n_stories: int
    fingerprint: str
    told: list[Document] = field(default_factory=list, repr=False)
    tagged = True
    n_bytes = 0  # not known before they are told

    def documents(self) -> Iterator[Document]:
        """Yield every story, in order, the same ones each time; up to KEPT_STORIES are told once and kept in memory."""
        from data import tales

        if self.told:
            return iter(self.told)
        telling = (Document(story.text, story.spans) for story in tales.stories(self.n_stories))
        return telling if self.n_stories > KEPT_STORIES else self._keep(telling)

    def _keep(self, telling: Iterator[Document]) -> Iterator[Document]:
        told = []
        for document in telling:
            told.append(document)
            yield document
        self.told[:] = told


@dataclass(frozen=True)
class Text:
    """Text files, each a document; `digests` holds each file's SHA-256 as it was when the corpus was opened."""

    files: tuple[Path, ...]
    digests: tuple[str, ...]
    fingerprint: str
    n_bytes: int
    tagged = False

    def documents(self) -> Iterator[Document]:
        """Yield every file's text, in order. Raises InputError where a file changed since the corpus was opened."""
        for file, digest in zip(self.files, self.digests, strict=True):
            data = _read(file)
            if hashlib.sha256(data).hexdigest() != digest:
                raise InputError(f"data.path: {file} changed while it was being read; run the same command again")
            yield Document(data.decode("utf-8"))


def open_corpus(config: DataConfig) -> Tales | Text:
    """Find and check the corpus that `config` asks for. Raises InputError where there is none, or it cannot be read."""
    if config.source == "tales":
        if config.path is not None:
            raise InputError(f"data.path: {config.path!r} is given, but data.source is tales; add data.source: text")
        if config.n_stories < 2:
            raise InputError(f"data.n_stories: {config.n_stories} is too few to train and validate on; at least 2")
        source = [_read(Path(__file__).with_name(f"{name}.py")) for name in TALES_SOURCE]
        return Tales(config.n_stories, _fingerprint(hashlib.sha256(code).hexdigest() for code in source))
    if config.source != "text":
        raise InputError(f"data.source: {config.source!r} is unknown; choose tales or text")

    files, digests, n_bytes = [], [], 0
    for file in _find(config.path):
        data = _read(file)
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"data.path: {file} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start} "
                f"({error.reason}); save it as UTF-8"
            ) from None
        if data:  # of several files, the empty ones hold nothing to learn from
            files.append(file)
            digests.append(hashlib.sha256(data).hexdigest())
            n_bytes += len(data)
    if not files:
        raise InputError(f"data.path: {config.path} is empty; give a file with text in it")
    return Text(tuple(files), tuple(digests), _fingerprint(digests), n_bytes)


def _find(path: str | None) -> list[Path]:
    """The files that `path` names, sorted: one file, or every file that a glob (`*`, `?`, `[]`, `**`) matches."""
    if not path:
        raise InputError(
            "data.path: missing; data.source: text needs a UTF-8 file or a glob, such as data.path: notes.txt"
        )
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


def _read(file: Path) -> bytes:
    """All bytes of a regular file. A pipe or a device is refused: it might never end, and cannot be read twice."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise InputError(f"data.path: {file} is not a regular file; copy its content into one")
        return file.read_bytes()
    except FileNotFoundError:
        raise InputError(f"data.path: no such file: {file}; paths start from {os.getcwd()}") from None
    except OSError as error:
        raise InputError(f"data.path: cannot read {file}: {error.strerror}; check its permissions") from None


def _fingerprint(digests) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
