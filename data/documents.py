"""Files as a corpus: each a document, or the documents that a separator parts in it, or a document a row.

The one idea: a corpus is opened before anything is built. Every file is read once then, so that a bad one is reported
first and the corpus is known by its content.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from data.config import DataConfig
from data.corpus import Chunk, chunked, hash_of, parted
from data.formats import File, NotText, complaints
from data.readers import rows_of, text_blocks, texts_of_rows
from data.tokenizers import END_OF_TEXT
from errors import InputError
from files import sha256

log = logging.getLogger("headcount")

SIGNS = {
    r"\r\n": "has Windows line ends, whose \\r is text like any other; data.line_ends: unix leaves it out",
    re.escape(END_OF_TEXT): f"holds {END_OF_TEXT}, which is text like any other; data.separator: '{END_OF_TEXT}' lets "
    "it part documents",
    r"\A\s*(?:\{\s*\"|\[\s*\{)": "looks like JSON, and is read as text; name it .json or .jsonl to read data.column",
    r"(?i)\A\s*<(?:!doctype )?html": "is a web page, and its markup is read as text",
}
"""What a user should know of a text that holds a pattern."""


class Files:
    """Files of one kind, of each split: documents, or what a separator parts in them, or rows."""

    tagged = False
    origin = None

    def __init__(self, config: DataConfig, files: dict[str, list[File]], fingerprint: str, n_chars: int | None = None):
        self.config, self.fingerprint, self.n_chars = config, fingerprint, n_chars
        self.splits = tuple(files)
        self._files = {split: [(file, file.state()) for file in of] for split, of in files.items()}
        self._said: set[str] = set()

    def chunks(self, split: str = "train") -> Iterator[Chunk]:
        """Yield every document, in order. Raises InputError where a file changed since the corpus was opened."""
        for file, state in self._files[split]:
            try:
                yield from chunked(self._fragments(file))
            except InputError:
                if file.state() == state:
                    raise
            if file.state() != state:
                raise InputError(f"data.path: {file.name} changed while it was being read; run the same command again")

    def _fragments(self, file: File) -> Iterator[tuple[str, bool]]:
        if file.kind is None:
            return parted(self._watched(file, text_blocks(file, self.config.line_ends)), self.config.separator)
        texts = texts_of_rows(rows_of(file, self.config.column), file.name, self.config, self._say)
        return ((text, True) for text in self._watched(file, texts))

    def _watched(self, file: File, texts: Iterator[str]) -> Iterator[str]:
        """The texts; what a user should know of the first file that shows it is said, once."""
        left = {sign: said for sign, said in SIGNS.items() if self.config.source != "package"}
        left.pop(re.escape(self.config.separator or ""), None)
        for number, text in enumerate(texts):
            if left and (file.kind is None or END_OF_TEXT in text):
                for sign in [sign for sign in left if (number == 0 or r"\A" not in sign) and re.search(sign, text)]:
                    self._say(f"{file.name} {left.pop(sign)}", key=sign)
            yield text

    def _say(self, message: str, key: str = "") -> None:
        if (key or message) not in self._said:
            self._said.add(key or message)
            log.warning(message)


def open_files(config: DataConfig, files: dict[str, list[File]]) -> Files:
    """The corpus of these files of each split, after each of them was read once."""
    kinds = {file.kind for of in files.values() for file in of}
    if len(kinds) > 1:
        found = ", ".join(sorted(kind or "text" for kind in kinds))
        raise InputError(f"data.path: {config.path} names files of several kinds ({found}); name one kind")
    kind = kinds.pop()
    if kind is None and config.column != DataConfig.column:
        raise InputError(f"data.column means nothing for the text files that {config.path} names; leave it out")
    if kind is not None and config.separator is not None:
        raise InputError(f"data.separator means nothing for {kind} files, where every row is a document; leave it out")
    kept, prints, n_chars = {}, [], None
    for split, of in files.items():
        digests = {file: (_digest(file), None) if kind else _read_through(file, config) for file in of}
        kept[split] = [file for file, (digest, _) in digests.items() if digest]
        if not kept[split]:
            path = config.path if split == "train" else config.val_path
            raise InputError(f"data.{'path' if split == 'train' else 'val_path'}: {path} is empty; give text")
        if kind is None and split == "train":
            n_chars = sum(chars for _, chars in digests.values())
        prints.append(
            hash_of([*([kind, config.column] if kind else []), *(digest for digest, _ in digests.values() if digest)])
        )
    return Files(config, kept, prints[0] if len(prints) == 1 else hash_of(prints), n_chars)


def _digest(file: File) -> str:
    with complaints(file):
        return sha256(file.path)


def _read_through(file: File, config: DataConfig) -> tuple[str | None, int]:
    """SHA-256 of the bytes that a text is made of, and its characters; None for one with nothing to learn from.

    Raises InputError where it cannot be read; of a package, a source that is no UTF-8 is left out.
    """
    sha = hashlib.sha256()
    try:
        chars = sum(map(len, text_blocks(file, config.line_ends, sha.update)))
    except NotText:
        if config.source == "package":
            return None, 0
        raise
    return (sha.hexdigest() if chars else None), chars


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and in those in it, sorted; hidden ones are left out."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part[0] == "." for part in file.relative_to(folder).parts))
