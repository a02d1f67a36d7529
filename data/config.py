"""The settings of a corpus: which text, which tokenizer. Light to import: no library is loaded here."""

from dataclasses import dataclass
from typing import Literal

RELATIONS = ("local", "long_range", "semantic", "syntactic")
"""The four kinds of relation that the tales corpus tags; a token's code is its place here plus 1, and 0 is none."""


@dataclass
class DataConfig:
    """Which text to train on, and how it becomes tokens."""

    source: Literal["tales", "text"] = "tales"
    """Corpus: tales (generated here, nothing to download) or text (files of your own)."""

    path: str | None = None
    """For text: a UTF-8 file or a glob; every file is a document."""

    tokenizer: Literal["bpe", "char"] = "bpe"
    """bpe (byte-pair encoding trained on this corpus) or char (one token a character)."""

    vocab_size: int = 512
    """Vocabulary size of the bpe tokenizer, tokens; at least 257 (256 bytes and end-of-text)."""

    n_stories: int = 20000
    """For tales: how many stories to generate."""

    val_fraction: float = 0.1
    """Share of the corpus held out for validation, between 0 and 1."""
