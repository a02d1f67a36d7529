"""What a corpus is: documents, streamed in chunks of bounded size.

The one idea: a corpus is known by its content. Its fingerprint changes with the text and with nothing else, so that
prepared tokens are reused if and only if they would come out the same, whatever the files are called. And it is a
stream: no document is ever held as a whole.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

CHUNK = 1 << 16  # characters
LONGEST = 1 << 20  # characters; only in a text with no safe place to cut in so many
_SAFE_CUT = re.compile(r"\S(?= )|[A-Za-z0-9](?=[\r\n])|(?<=\S)\n(?=[^\s/])")
SEPARATORS = {"line": r"\r?\n", "blank": r"\r?\n(?:[ \t]*\r?\n)+"}
"""data.separator by name; any other is a string that stands between documents."""


class Chunk(NamedTuple):
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
    """Do documents have relations? Then they are ASCII, a chunk each, and never divided between the splits."""
    n_chars: int | None
    """Characters of the training split, where that is known beforehand."""
    origin: dict | None
    """Where the fingerprint is of the request and not of the content: what the answer was."""
    notes: Sequence[str]
    """What a user should know of the text, as found in what has been read of it."""

    def chunks(self, split: str = "train") -> Iterator[Chunk]:
        """Yield the documents of a split, the same each time, in chunks of bounded size; empty ones are left out."""


def chunked(fragments: Iterable[tuple[str, bool]], size: int = CHUNK) -> Iterator[Chunk]:
    """Chunks of about `size` characters that encode to the same tokens as the whole documents.

    fragments: (text, does a document end here). Where to cut does not depend on the fragments. A cut stands before a
    space, between a letter or digit and a line end, or after a line end that is alone: no word of tiktoken's patterns
    goes on there, and a look-ahead over white space finds the same on either side. LONGEST characters with no such
    place (no text for people) are cut as they come.
    """
    text = ""
    for fragment, ends in fragments:
        text += fragment
        start = 0
        # no cut depends on more than the character that follows it, nor on where the next fragment begins
        while len(text) - start > (size if ends else LONGEST + 1):
            found = _SAFE_CUT.search(text, start + size, start + LONGEST + 1)
            end = found.end() if found else min(start + LONGEST, len(text))
            if end == len(text):
                break
            yield Chunk(text[start:end], False)
            start = end
        text = text[start:]
        if ends and text:
            yield Chunk(text)
            text = ""


def parted(blocks: Iterable[str], separator: str | None) -> Iterator[tuple[str, bool]]:
    """Fragments for `chunked`: the text in `blocks` as one document, or as the documents that `separator` parts.

    Up to four line ends on either side of a separator that is no line end itself go with it.
    """
    if separator is None:
        yield from ((block, False) for block in blocks)
        yield "", True
        return
    pattern = re.compile(SEPARATORS.get(separator) or _literal(separator))
    text = ""
    for block in blocks:
        text += block
        # what may be the beginning of a separator waits for the next block
        cut = len(text.rstrip()) if separator in SEPARATORS else max(0, len(text) - len(separator) - 16)
        start = 0
        for found in pattern.finditer(text):
            if found.start() >= cut:
                break
            yield text[start : found.start()], True
            start = found.end()
        if start < cut:
            yield text[start:cut], False
        text = text[max(start, cut) :]
    yield from ((part, True) for part in pattern.split(text))


def _literal(separator: str) -> str:
    beside = r"(?:\r?\n){0,4}" if separator.strip() else ""
    return beside + re.escape(separator) + beside


def hash_of(parts: Iterable[str]) -> str:
    """One hash of many."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
