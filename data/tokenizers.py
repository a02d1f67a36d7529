"""Text to token ids and back: `char` (a token a character) and `bpe` (byte-pair encoding trained on the corpus).

The one idea: every id stands for a known number of UTF-8 bytes (`token_bytes`; 0 for end-of-text), so token positions
and text positions translate into each other by a cumulative sum, and a loss in nats a token into bits a byte.

rustbpe trains, tiktoken encodes; both cut text into words with GPT-2's pattern first, so no token crosses a word.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from errors import InputError

END_OF_TEXT = "<|endoftext|>"
# GPT-2's words: contractions, letters, digits, other marks (each with one space before it), and white space
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
META = "headcount_tokenizer.json"
RANKS = "bpe.tiktoken"
PIECE = 1 << 16  # characters
_SAFE_CUT = re.compile(r"\S(?=[\r\n])")


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """Cut a long text into pieces of about `size` characters that encode to the same tokens as the whole.

    A cut stands between a line's last visible character and its line end: no word of the pattern holds both, and the
    only look-ahead, `\\s+(?!\\S)`, is about the run of white space that a cut leaves whole.
    """
    start = 0
    while len(text) - start > size and (cut := _SAFE_CUT.search(text, start + size)):
        yield text[start : cut.end()]
        start = cut.end()
    yield text[start:]


class Tokenizer:
    """What both kinds share. `vocab_size` counts every id; `eot` is the id of end-of-text, or None."""

    vocab_size: int
    eot: int | None
    _lengths: np.ndarray

    def token_bytes(self, ids: np.ndarray) -> np.ndarray:
        """UTF-8 bytes that each id stands for: int64, the shape of `ids`. End-of-text stands for none."""
        return self._lengths[ids]

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
            for piece in pieces(text):
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
        digest = hashlib.sha256(self.characters.encode("utf-8")).hexdigest()
        meta = {"kind": "char", "vocab_size": self.vocab_size, "characters": self.characters}
        _write_meta(folder, meta | {"special_tokens": _specials(self.eot), "sha256": digest})


class BPETokenizer(Tokenizer):
    """Byte-pair encoding: `ranks` maps each token's bytes to its id; end-of-text has the last id."""

    def __init__(self, ranks: dict[bytes, int], pattern: str = PATTERN):
        import tiktoken

        self.pattern = pattern
        self.ranks = ranks
        self.eot = len(ranks)
        self.vocab_size = len(ranks) + 1
        self._lengths = np.zeros(self.vocab_size, dtype=np.int64)
        self._lengths[list(ranks.values())] = [len(token) for token in ranks]
        self._encoding = tiktoken.Encoding(
            "headcount",
            pat_str=pattern,
            mergeable_ranks=ranks,
            special_tokens={END_OF_TEXT: self.eot},
            explicit_n_vocab=self.vocab_size,
        )

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
        trainer.train_from_iterator((p for text in texts for p in pieces(text)), vocab_size - 1, pattern=PATTERN)
        ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
        if len(ranks) + 1 < vocab_size:
            raise InputError(
                f"data.vocab_size: {vocab_size} is more than this corpus can fill; "
                f"at most {len(ranks) + 1}, or give a larger corpus"
            )
        return cls(ranks)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `Tokenizer.encode_batch`, on every core."""
        share = -(-len(texts) // (4 * (os.cpu_count() or 1)))  # a few shares a thread even out their sizes
        shares = [texts[start : start + share] for start in range(0, len(texts), share or 1)]
        if len(shares) <= 1:
            return self._encode_all(texts)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return [ids for part in threads.map(self._encode_all, shares) for ids in part]

    def _encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> np.ndarray:
        try:
            return self._encoding.encode_to_numpy(text, disallowed_special=())
        except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8: U+FFFD, as tiktoken does elsewhere
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            return self._encoding.encode_to_numpy(text, disallowed_special=())

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return self._encoding.decode(np.asarray(ids, dtype=np.int64).tolist(), errors="replace")

    def save(self, folder: Path) -> None:
        by_rank = sorted(self.ranks.items(), key=lambda item: item[1])
        lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in by_rank)
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / RANKS).write_bytes(lines)
        meta = {"kind": "bpe", "vocab_size": self.vocab_size, "pattern": self.pattern}
        _write_meta(folder, meta | {"special_tokens": _specials(self.eot), "sha256": hashlib.sha256(lines).hexdigest()})


def load_tokenizer(folder: Path) -> CharTokenizer | BPETokenizer:
    """The tokenizer that `save` wrote. Raises InputError where a file is missing, or is not as it was written."""
    folder = Path(folder)
    file = folder / META
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        if meta["kind"] == "char":
            if hashlib.sha256(meta["characters"].encode("utf-8")).hexdigest() != meta["sha256"]:
                raise ValueError("its checksum does not match")
            tokenizer = CharTokenizer(meta["characters"], has_eot=bool(meta["special_tokens"]))
        elif meta["kind"] == "bpe":
            pattern, digest = meta["pattern"], meta["sha256"]
            file = folder / RANKS
            lines = file.read_bytes()
            if hashlib.sha256(lines).hexdigest() != digest:
                raise ValueError("its checksum does not match")
            pairs = (line.split() for line in lines.splitlines())
            tokenizer = BPETokenizer({base64.b64decode(token): int(rank) for token, rank in pairs}, pattern)
        else:
            raise ValueError(f"its kind is {meta['kind']!r}, not char or bpe")
        if tokenizer.vocab_size != meta["vocab_size"]:
            raise ValueError(f"it holds {tokenizer.vocab_size} tokens and not {meta['vocab_size']}")
    except OSError as error:
        raise InputError(f"tokenizer: cannot read {file}: {error.strerror}; restore it from where it came") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"tokenizer: {file} is damaged: {what}; restore it from where it came") from None
    return tokenizer


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _specials(eot: int | None) -> dict[str, int]:
    return {} if eot is None else {END_OF_TEXT: eot}


def _write_meta(folder: Path, meta: dict) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
