"""What a file is, from its name and its first bytes.

The one idea: a file is what its first bytes say, not what it is taken for. Compressed ones are read through; what is no
text (UTF-16, token ids, an archive, a PDF) is refused by its right name, with the way to text.
"""

import codecs
import io
import os
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data.fetch import is_address, raw_address
from errors import InputError
from files import open_regular

KINDS = {
    ".jsonl": ".jsonl",
    ".ndjson": ".jsonl",
    ".jsonlines": ".jsonl",
    ".jl": ".jsonl",
    ".json": ".json",
    ".csv": ".csv",
    ".tsv": ".tsv",
    ".tab": ".tsv",
    ".parquet": ".parquet",
}
"""Endings of names of files that hold a document a row, and which kind they are."""
COMPRESSED = (".gz", ".zst", ".zstd", ".bz2", ".xz")

_SAVE, _SOURCE = "save its text as a .txt file", "give the text that it was made from"
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "a PDF", "take its text out (pdftotext FILE) and give that"),
    (b"PK\x03\x04", "a zip archive, or a document in one (.docx, .xlsx, .epub, .pt)", f"unpack it, or {_SAVE}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a rar archive", "unpack it"),
    (b"{\\rtf", "rich text (.rtf)", _SAVE),
    (b"\xd0\xcf\x11\xe0", "an old Office document", _SAVE),
    (b"SQLite format 3", "an SQLite database", "export the text as .csv"),
    (b"ARROW1", "an Arrow file", "save it as .parquet"),
    (b"PAR1", "a Parquet file", "give it a name that ends in .parquet"),
    (b"\x93NUMPY", "a NumPy array", _SOURCE),
    (b"\x89HDF", "an HDF5 file", _SOURCE),
    (b"\x80\x02", "a pickle", _SOURCE),
    (b"\x80\x04", "a pickle", _SOURCE),
    (b"\x80\x05", "a pickle", _SOURCE),
    (b"\x89PNG", "an image", "give a file of text"),
    (b"\xff\xd8\xff", "an image", "give a file of text"),
    (b"\x7fELF", "a program", "give a file of text"),
)
"""First bytes of files that are no text: what they are, and the way to text."""


class NotText(InputError):
    """A file that is no text in UTF-8."""


@dataclass(frozen=True)
class File:
    """A file of a corpus."""

    path: Path
    name: str
    """What it is called: its path, or the address that it came from."""
    key: str = "path"
    """The key of the config that names it."""

    def __str__(self) -> str:
        return f"data.{self.key}: {self.name}"

    @property
    def kind(self) -> str | None:
        """One of the values of KINDS, or None: text."""
        name = urllib.parse.urlsplit(self.name).path if is_address(self.name) else self.name
        name = name.lower()
        for ending in COMPRESSED:
            name = name.removesuffix(ending)
        return KINDS.get(os.path.splitext(name)[1])

    def state(self) -> tuple[int, int, int]:
        """Differs where the file was written to in between."""
        with complaints(self):
            found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def complaints(file: File) -> Iterator[None]:
    """What goes wrong while the bytes of a file are read, as an InputError that names the file and a mend."""
    import zlib
    from lzma import LZMAError

    try:
        yield
    except FileNotFoundError:
        way = f"paths start from {os.getcwd()}"
        if "://" in file.name:
            way = "of addresses, http:// and https:// are read; a file's path stands without file://"
        raise InputError(f"data.{file.key}: no such file: {file.name}; {way}") from None
    except (EOFError, zlib.error, LZMAError) as error:
        raise InputError(f"{file} is damaged ({error}); fetch or make it again") from None
    except OSError as error:
        if error.strerror == "not a regular file":  # a pipe or a device might never end, and cannot be read twice
            raise InputError(f"{file} is not a regular file; copy its content into one") from None
        if error.errno is None:  # gzip and pyarrow say so of what they unpack
            raise InputError(f"{file} is damaged ({error}); fetch or make it again") from None
        raise InputError(f"data.{file.key}: cannot read {file.name}: {error.strerror}; check its permissions") from None


def open_content(file: File) -> BinaryIO:
    """The bytes of a file, decompressed, under `complaints`. Raises NotText where its first bytes say so."""
    stream = open_regular(file.path)
    stream = _decompressed(stream, stream.peek(6)[:6])
    if not hasattr(stream, "peek"):
        stream = io.BufferedReader(stream)
    if file.kind != ".parquet":
        _refuse(file, stream.peek(4096)[:4096])
    return stream


def _decompressed(stream: BinaryIO, head: bytes) -> BinaryIO:
    """What a stream that begins with `head` holds: itself, or what it was compressed from."""
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.open(stream)
    if head.startswith(b"BZh"):
        import bz2

        return bz2.open(stream)
    if head.startswith(b"\xfd7zXZ\0"):
        import lzma

        return lzma.open(stream)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow

        return pyarrow.CompressedInputStream(stream, "zstd")
    return stream


def _refuse(file: File, head: bytes) -> None:
    """Raise NotText where the first bytes of a file's content are those of something else."""
    for begins, what, mend in _OTHERS:
        if head.startswith(begins):
            raise NotText(f"{file} is {what}; {mend}")
    if head[257:262] == b"ustar":
        raise NotText(f"{file} is a tar archive; unpack it")
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the first begins with UTF-16's
        raise utf16(file, "UTF-32")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise utf16(file)
    if b"\0" in head:
        raise not_text(file, head, head.index(b"\0"))
    begins = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if is_address(file.name) and begins.startswith((b"<!doctype html", b"<html")):
        raise NotText(f"{file} answers with a web page, not with text; {raw_address(file.name)}")


def utf16(file: File, encoding: str = "UTF-16") -> NotText:
    convert = f"iconv -f {encoding} -t UTF-8 FILE > NEW.txt"
    return NotText(f"{file} is {encoding}, not UTF-8; save it as UTF-8, or convert it: {convert}")


def not_text(file: File, part: bytes, offset: int, reason: str = "a NUL character") -> NotText:
    """What a file is where `part` of it has a byte at `offset` (in the file) that no text has."""
    numbers = part[: len(part) // 2 * 2]
    if b"\0" in part and not file.name.endswith(".bin"):
        for encoding in ("utf-16le", "utf-16be"):
            text = numbers.decode(encoding, "replace")
            if sum(c.isprintable() or c in "\n\r\t" for c in text) > 0.95 * len(text):
                return utf16(file, encoding.upper())
    if file.name.endswith(".bin") or (len(numbers) > 8 and not any(numbers[1::2])):
        return NotText(
            f"{file} is no text but numbers, such as the token ids in nanoGPT's train.bin; {_SOURCE} (input.txt)"
        )
    if reason != "a NUL character":
        return NotText(f"{file} is not UTF-8: {reason}; save it as UTF-8")
    return NotText(f"{file} is no text: a NUL character at offset {offset}; give a file of text")
