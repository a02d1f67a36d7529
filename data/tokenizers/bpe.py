"""Byte-pair encoding: rustbpe learns it from a corpus, tiktoken encodes with it, as with OpenAI's own encodings.

Both cut text into words with a pattern first (GPT-2's where trained here), so no token crosses a word.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.fetch import PATIENCE, reason, within
from data.tokenizers.base import END_OF_TEXT, Tokenizer, write_meta
from data.tokenizers.export import bpe_json
from errors import InputError

# GPT-2's words: contractions, letters, digits, other marks (each with one space before it), and white space
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
RANKS = "bpe.tiktoken"
HF = "tokenizer.json"


class BPETokenizer(Tokenizer):
    """`ranks` maps each token's bytes to its id, `special_tokens` names to ids.

    Without `special_tokens` there is end-of-text, with the last id. An encoding of tiktoken's may leave ids unused.
    """

    def __init__(self, ranks: dict[bytes, int], pattern: str = PATTERN, special_tokens: dict[str, int] | None = None):
        import tiktoken

        self.pattern = pattern
        self.ranks = ranks = dict(sorted(ranks.items(), key=lambda item: item[1]))
        self.special_tokens = special_tokens or {END_OF_TEXT: len(ranks)}
        self.eot = self.special_tokens[END_OF_TEXT]
        self.definition = ("bpe", ranks, pattern, self.special_tokens)
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
        trainer.train_from_iterator(iter(texts), vocab_size - 1, pattern=PATTERN)
        ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
        if len(ranks) + 1 < vocab_size:
            raise InputError(
                f"data.vocab_size: {vocab_size} is more than this corpus can fill; "
                f"at most {len(ranks) + 1}, or give a larger corpus"
            )
        return cls(ranks)

    @classmethod
    def read(cls, lines: bytes, pattern: str, special_tokens: dict[str, int]) -> "BPETokenizer":
        """The tokenizer of a file in tiktoken's format: a line a token, its bytes in base64 and its id."""
        pairs = (line.split() for line in lines.splitlines())
        return cls({base64.b64decode(token): int(rank) for token, rank in pairs}, pattern, special_tokens)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `Tokenizer.encode_batch`; half of a surrogate pair, which has no UTF-8, becomes U+FFFD."""
        return [np.array(self._encoding.encode_ordinary(text), dtype=np.uint32) for text in texts]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        ids = np.asarray(ids, dtype=np.int64)
        return self._encoding.decode(ids[self._used[ids]].tolist(), errors="replace")  # an unused id has no text

    def save(self, folder: Path) -> None:
        folder = Path(folder)
        lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in self.ranks.items())
        for_hf = bpe_json(self.ranks, self.pattern, self.special_tokens).encode("utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RANKS).write_bytes(lines)
        (folder / HF).write_bytes(for_hf)
        meta = {"kind": "bpe", "vocab_size": self.vocab_size, "pattern": self.pattern}
        meta |= {"special_tokens": self.special_tokens, "sha256": hashlib.sha256(lines).hexdigest()}
        write_meta(folder, meta | {"files": {HF: hashlib.sha256(for_hf).hexdigest()}})
