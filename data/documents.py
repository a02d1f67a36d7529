"""Files as a corpus: each a document, or the documents that a separator parts in it, or a document a row.

The one idea: a corpus is opened before anything is built. Every file is read once then, so that a bad one is reported
first and the corpus is known by its content.
"""

import hashlib
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

EOT = re.escape(END_OF_TEXT)
SIGNS = {
    EOT: f"holds {END_OF_TEXT}, which is text like any other; data.separator: '{END_OF_TEXT}' lets it part documents",
    r"\r": "has line ends of Windows, whose \\r is text like any other; data.line_ends: unix leaves it out",
    "\ufeff": "holds U+FEFF, the byte order mark of some file, inside; take it out, or it is text like any other",
    r"\A\s*(?:\{\s*\"|\[\s*\{)": "looks like JSON, and is read as text; name it .json or .jsonl to read data.column",
    r"(?i)\A\s*<(?:!doctype )?html": "is a web page, and its markup is read as text",
    r"\A\s*<\?xml": "is XML, and its markup is read as text",
}
"""What a user should know of a text that holds a pattern."""
SIGNS_OF_ROWS = {EOT: f"holds {END_OF_TEXT}, which is text like any other"}


class Files:
    """Files of one kind, of each split: documents, or what a separator parts in them, or rows."""

    tagged = False
    origin = None

    def __init__(self, config: DataConfig, files: dict[str, list[File]], fingerprint: str, n_chars: int | None = None):
        self.config, self.fingerprint, self.n_chars = config, fingerprint, n_chars
        self.splits = tuple(files)
        self._files = {split: [(file, file.state()) for file in of] for split, of in files.items()}
        self._notes: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        return list(self._notes.values())

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
        config = self.config
        if file.kind is None:
            signs = {sign: said for sign, said in SIGNS.items() if sign != re.escape(config.separator or "")}
            return parted(self._watched(file, text_blocks(file, config.line_ends), signs), config.separator)
        texts = texts_of_rows(
            rows_of(file, config.column), file.name, config, lambda note: self._notes.setdefault(note, note)
        )
        return ((text, True) for text in self._watched(file, texts, SIGNS_OF_ROWS))

    def _watched(self, file: File, texts: Iterator[str], signs: dict[str, str]) -> Iterator[str]:
        """The texts; what a user should know is noted of the first file that shows it."""
        left = {} if self.config.source == "package" else {s: t for s, t in signs.items() if s not in self._notes}
        for text in texts:
            for sign in [sign for sign in left if re.search(sign, text)]:
                self._notes[sign] = f"{file.name} {left.pop(sign)}"
            left = {sign: said for sign, said in left.items() if r"\A" not in sign}
            yield text


def open_files(config: DataConfig, files: dict[str, list[File]]) -> Files:
    """The corpus of these files of each split, after each of them was read once."""
    kinds = {file.kind for of in files.values() for file in of}
    if len(kinds) > 1:
        found = ", ".join(sorted(kind or "text" for kind in kinds))
        key = "path" if len({file.kind for file in files["train"]}) > 1 else "val_path"
        what = "names files of several kinds" if key == "path" else "is of another kind than data.path"
        raise InputError(f"data.{key}: {getattr(config, key)} {what} ({found}); name one kind")
    kind = kinds.pop()
    if kind is None and config.column != DataConfig.column:
        raise InputError(f"data.column means nothing for the text files that {config.path} names; leave it out")
    if kind is not None and config.separator is not None:
        raise InputError(f"data.separator means nothing for {kind} files, where every row is a document; leave it out")
    kept, prints, n_chars = {}, [], None
    for split, of in files.items():
        key = "path" if split == "train" else "val_path"
        read = [(file, *(_read_rows(file) if kind else _read_text(file, config))) for file in of]
        kept[split] = [file for file, _, size in read if size]  # of several, the empty ones hold nothing to learn from
        if not kept[split]:
            raise InputError(f"data.{key}: {getattr(config, key)} is empty; give one with text in it")
        if kind is None and split == "train":
            n_chars = sum(size for _, _, size in read)
        start = [kind, config.column] if kind else []
        prints.append(hash_of(start + [digest for _, digest, size in read if size or kind]))
    if len(prints) == 2 and prints[0] == prints[1]:
        raise InputError("data.val_path holds the text of data.path; give another, or null to hold out val_fraction")
    return Files(config, kept, prints[0] if len(prints) == 1 else hash_of(prints), n_chars)


def _read_rows(file: File) -> tuple[str, int]:
    """SHA-256 and size of a file, bytes."""
    with complaints(file):
        return sha256(file.path), file.path.stat().st_size


def _read_text(file: File, config: DataConfig) -> tuple[str, int]:
    """SHA-256 of the bytes that a text is made of, and its characters.

    Raises InputError where it cannot be read; of a package, a source that is no UTF-8 is taken for empty.
    """
    sha = hashlib.sha256()
    try:
        size = sum(map(len, text_blocks(file, config.line_ends, sha.update)))
    except NotText:
        if config.source != "package":
            raise
        size = 0
    return sha.hexdigest(), size


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and in those in it, sorted; hidden ones are left out."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part[0] == "." for part in file.relative_to(folder).parts))
