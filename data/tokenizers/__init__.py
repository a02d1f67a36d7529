"""Text to token ids and back: `char` (a token a character), `bpe` (byte-pair encoding trained on the corpus) and
tiktoken's own encodings (`gpt2` and others).

The one idea: every id stands for a known number of UTF-8 bytes (`token_bytes`; 0 for end-of-text), so token positions
and text positions translate into each other by a cumulative sum, and a loss in nats a token into bits a byte.

rustbpe trains, tiktoken encodes; both cut text into words with a pattern first (GPT-2's where trained here), so no
token crosses a word.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data.fetch import PATIENCE, reason, within
from data.tokenizers.export import tokenizer_json
from errors import InputError
from files import read_bytes, read_checked, write_checked

END_OF_TEXT = "<|endoftext|>"
# GPT-2's words: contractions, letters, digits, other marks (each with one space before it), and white space
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
META = "headcount_tokenizer.json"
RANKS = "bpe.tiktoken"
HF = "tokenizer.json"
PIECE = 1 << 16  # characters
LONGEST = 1 << 20  # characters; only in a text with no safe place to cut in so many
_SAFE_CUT = re.compile(r"\S(?= )|[A-Za-z0-9](?=[\r\n])|(?<=\S)\n(?=[^\s/])")


def pieces(chunks: Iterable[str], size: int = PIECE) -> Iterator[str]:
    """Cut a text, given in chunks, into pieces of about `size` characters that encode to the same tokens as the whole.

    Where to cut does not depend on the chunks. A cut stands before a space, between a letter or digit and a line end,
    or after a line end that is alone: no word of tiktoken's patterns goes on there, and a look-ahead over white space
    finds the same on either side. LONGEST characters with no such place (no text for people) are cut as they come.
    """
    text = ""
    for chunk in chunks:
        text += chunk
        start = 0
        while len(text) - start > LONGEST + 1:  # no cut depends on more than the character that follows it
            end = _cut(text, start, size)
            yield text[start:end]
            start = end
        text = text[start:]
    start = 0
    while len(text) - start > size and (end := _cut(text, start, size)) < len(text):
        yield text[start:end]
        start = end
    yield text[start:]


def _cut(text: str, start: int, size: int) -> int:
    """Where the piece that starts at `start` ends."""
    found = _SAFE_CUT.search(text, start + size, start + LONGEST + 1)
    return found.end() if found else min(start + LONGEST, len(text))


class Tokenizer:
    """What both kinds share. `vocab_size` counts every id; `eot` is the id of end-of-text, or None."""

    vocab_size: int
    eot: int | None
    _lengths: np.ndarray
    _characters: np.ndarray

    def token_bytes(self, ids: np.ndarray) -> np.ndarray:
        """UTF-8 bytes that each id stands for: int64, the shape of `ids`. End-of-text stands for none."""
        return self._lengths[ids]

    def token_chars(self, ids: np.ndarray) -> np.ndarray:
        """Characters that begin in each id (one that is cut in two counts in its first part): int64, as `ids`."""
        return self._characters[ids]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; the name of a special token in it is ordinary text."""
        return self.encode_batch([text])[0].tolist()

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, as unsigned integer arrays."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of `ids`; bytes that are not UTF-8, as where a character is cut in two, become U+FFFD."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write into `folder` all that `load_tokenizer` needs."""
        raise NotImplementedError


class CharTokenizer(Tokenizer):
    """One token a character: `characters`, sorted, have the ids 0, 1, …; end-of-text, where there is one, is last."""

    def __init__(self, characters: str, has_eot: bool):
        self.characters = characters
        self.eot = len(characters) if has_eot else None
        self.vocab_size = len(characters) + has_eot
        self._texts = [*characters, END_OF_TEXT]
        self._lengths = np.array([len(c.encode("utf-8")) for c in characters] + [0])
        self._characters = np.array([1] * len(characters) + [0])
        points = _code_points(characters)
        self._ids = np.full(int(points.max(initial=0)) + 2, -1, dtype=np.int32)  # by code point; -1 is unknown
        self._ids[points] = np.arange(len(characters))

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """The characters of `texts`; end-of-text is a token only where there is more than one document to part."""
        seen: set[str] = set()
        n_documents = 0
        for text in texts:
            n_documents += 1
            for piece in pieces([text]):
                seen.update(piece)
        return cls("".join(sorted(seen)), has_eot=n_documents > 1)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `Tokenizer.encode_batch`. Raises InputError naming the characters that are not in the vocabulary."""
        points = _code_points("".join(texts))
        ids = self._ids[np.minimum(points, len(self._ids) - 1)]
        if len(ids) and ids.min() < 0:
            unknown = sorted(set(points[ids < 0].tolist()))
            named = ", ".join(f"{chr(point)!r} (U+{point:04X})" for point in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            shown = self.characters if len(self.characters) <= 120 else self.characters[:120] + "…"
            raise InputError(
                f"the char tokenizer does not know {named}{more}; it can encode only the {len(self.characters)} "
                f"characters of its corpus: {shown!r}\nleave the others out, or train with data.tokenizer: bpe, "
                "which encodes any text"
            )
        return np.split(ids.astype(np.uint32), np.cumsum([len(text) for text in texts])[:-1])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return "".join([self._texts[i] for i in np.asarray(ids).tolist()])

    def save(self, folder: Path) -> None:
        meta = {"kind": "char", "vocab_size": self.vocab_size, "characters": self.characters}
        _write_meta(folder, meta | {"special_tokens": _specials(self.eot)})


class BPETokenizer(Tokenizer):
    """Byte-pair encoding: `ranks` maps each token's bytes to its id, `special_tokens` names to ids.

    Without `special_tokens` there is end-of-text, with the last id. An encoding of tiktoken's may leave ids unused.
    """

    def __init__(self, ranks: dict[bytes, int], pattern: str = PATTERN, special_tokens: dict[str, int] | None = None):
        import tiktoken

        self.pattern = pattern
        self.ranks = ranks
        self.special_tokens = special_tokens or {END_OF_TEXT: len(ranks)}
        self.eot = self.special_tokens[END_OF_TEXT]
        ids = [*ranks.values(), *self.special_tokens.values()]
        self.vocab_size = max(ids) + 1
        self._lengths = np.zeros(self.vocab_size, dtype=np.int64)
        self._lengths[list(ranks.values())] = [len(token) for token in ranks]
        self._characters = np.zeros(self.vocab_size, dtype=np.int64)
        self._characters[list(ranks.values())] = [sum(byte & 0xC0 != 0x80 for byte in token) for token in ranks]
        self._used = np.zeros(self.vocab_size, dtype=bool)
        self._used[ids] = True
        self._encoding = tiktoken.Encoding(
            "headcount", pat_str=pattern, mergeable_ranks=ranks, special_tokens=self.special_tokens
        )

    @classmethod
    def of_tiktoken(cls, name: str) -> "BPETokenizer":
        """tiktoken's encoding of that name. Raises InputError where its file is not there and cannot be fetched."""
        import tiktoken

        try:  # tiktoken itself would wait for its server without end
            encoding = within(PATIENCE, lambda: tiktoken.get_encoding(name))
        except Exception as error:
            raise InputError(
                f"data.tokenizer: {name} needs tiktoken's file of it, which cannot be had ({reason(error)}); set "
                "TIKTOKEN_CACHE_DIR to a folder that holds it,\nfilled where there is a network by TIKTOKEN_CACHE_DIR="
                f"FOLDER python -c \"import tiktoken; tiktoken.get_encoding('{name}')\", or choose data.tokenizer: bpe"
            ) from None
        return cls(encoding._mergeable_ranks, encoding._pat_str, encoding._special_tokens)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BPETokenizer":
        """Learn `vocab_size` - 257 merges from `texts`; the result depends on nothing but the texts' content.

        Raises InputError where `vocab_size` is under 257, or over what the corpus can fill: a vocabulary with ids that
        never occur would only add dead weight and make losses harder to compare.
        """
        import rustbpe

        if vocab_size < 257:
            raise InputError(f"data.vocab_size: {vocab_size} is too small; at least 257 (256 bytes and end-of-text)")
        trainer = rustbpe.Tokenizer()
        trainer.train_from_iterator((p for text in texts for p in pieces([text])), vocab_size - 1, pattern=PATTERN)
        ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
        if len(ranks) + 1 < vocab_size:
            raise InputError(
                f"data.vocab_size: {vocab_size} is more than this corpus can fill; "
                f"at most {len(ranks) + 1}, or give a larger corpus"
            )
        return cls(ranks)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `Tokenizer.encode_batch`; half of a surrogate pair, which has no UTF-8, becomes U+FFFD."""
        return [np.array(self._encoding.encode_ordinary(text), dtype=np.uint32) for text in texts]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        ids = np.asarray(ids, dtype=np.int64)
        return self._encoding.decode(ids[self._used[ids]].tolist(), errors="replace")  # an unused id has no text

    def save(self, folder: Path) -> None:
        by_rank = sorted(self.ranks.items(), key=lambda item: item[1])
        lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in by_rank)
        for_hf = tokenizer_json(self.ranks, self.pattern, self.special_tokens).encode("utf-8")
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / RANKS).write_bytes(lines)
        (Path(folder) / HF).write_bytes(for_hf)
        meta = {"kind": "bpe", "vocab_size": self.vocab_size, "pattern": self.pattern}
        meta |= {"special_tokens": self.special_tokens, "sha256": hashlib.sha256(lines).hexdigest()}
        _write_meta(folder, meta | {"files": {HF: hashlib.sha256(for_hf).hexdigest()}})


def load_tokenizer(folder: Path) -> CharTokenizer | BPETokenizer:
    """The tokenizer that `save` wrote. Raises InputError where a file is missing, or is not as it was written."""
    folder = Path(folder)
    file = folder / META
    try:
        meta = read_checked(file)
        if meta["kind"] == "char":
            tokenizer = CharTokenizer(meta["characters"], has_eot=bool(meta["special_tokens"]))
        elif meta["kind"] == "bpe":
            pattern, digest = meta["pattern"], meta["sha256"]
            file = folder / RANKS
            lines = read_bytes(file)
            if hashlib.sha256(lines).hexdigest() != digest:
                raise ValueError("its checksum does not match")
            pairs = (line.split() for line in lines.splitlines())
            ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
            file = folder / META
            tokenizer = BPETokenizer(ranks, pattern, meta["special_tokens"])
        else:
            raise ValueError(f"its kind is {meta['kind']!r}, not char or bpe")
        if tokenizer.vocab_size != meta["vocab_size"]:
            raise ValueError(f"it holds {tokenizer.vocab_size} tokens and not {meta['vocab_size']}")
        for name, digest in meta.get("files", {}).items():  # for other programs
            if Path(name).name != name:
                raise ValueError(f"it names a file of another folder, {name!r}")
            file = folder / name
            if hashlib.sha256(read_bytes(file)).hexdigest() != digest:
                raise ValueError("its checksum does not match")
    except OSError as error:
        raise InputError(f"tokenizer: cannot read {file}: {error.strerror}; restore it from where it came") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"tokenizer: {file} is damaged: {what}; restore it from where it came") from None
    return tokenizer


def fingerprint(tokenizer: CharTokenizer | BPETokenizer) -> object:
    """What two tokenizers have in common only if they encode alike."""
    if isinstance(tokenizer, CharTokenizer):
        return tokenizer.characters, tokenizer.eot
    return tokenizer.ranks, tokenizer.pattern, tokenizer.special_tokens


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _specials(eot: int | None) -> dict[str, int]:
    return {} if eot is None else {END_OF_TEXT: eot}


def _write_meta(folder: Path, meta: dict) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_checked(Path(folder) / META, meta)
