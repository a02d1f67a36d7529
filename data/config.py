"""The settings of a corpus: which text, which tokenizer. Light to import: no library is loaded here."""

import contextlib
import glob
import urllib.parse
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from errors import InputError

RELATIONS = ("local", "long_range", "semantic", "syntactic")
"""The four kinds of relation that the tales corpus tags; a token's code is its place here plus 1, and 0 is none."""

TIKTOKEN_SIZES = {
    "gpt2": 50257,
    "r50k_base": 50257,
    "p50k_base": 50281,
    "p50k_edit": 50284,
    "cl100k_base": 100277,
    "o200k_base": 200019,
    "o200k_harmony": 201088,
}
"""tiktoken's encodings and their vocabulary sizes, known here without their files."""

TABLES = (".jsonl", ".json", ".parquet")
"""Names of files that hold a document a row."""


@dataclass
class DataConfig:
    """Which text to train on, and how it becomes tokens."""

    source: Literal["tales", "text", "package", "hub"] = "tales"
    """Corpus: tales (generated here, nothing to download), text (files of your own, or an address), package (the Python
    sources of an installed package) or hub (a dataset of the Hugging Face hub, or a folder of its files)."""

    path: str | None = None
    """For text: a UTF-8 file, a glob or an http(s) address; every file is a document, and every row of a .jsonl, .json
    or .parquet file. For package: its name, such as torch. For hub: owner/name, or a folder."""

    config: str | None = None
    """For hub: the dataset's subset (its config), such as sample-10BT; null: its default."""

    split: str = "train"
    """For hub: the split to train on."""

    val_split: str | None = "auto"
    """For hub: the split to validate on; auto: the dataset's validation split, else its test split, else val_fraction
    of the training split; null: always val_fraction of the training split."""

    column: str = "text"
    """For hub, .jsonl, .json and .parquet: the column that holds the text; every row is a document. Of .jsonl and
    .parquet no other column is read, so the others may differ from row to row and from file to file."""

    revision: str | None = None
    """For hub: a branch, tag or commit; null: the newest when the corpus is first prepared."""

    streaming: bool = False
    """For hub: read the dataset as it comes and keep no copy of its text, for corpora larger than the disk."""

    max_chars: Annotated[int, Field(gt=0)] | None = None
    """Most of the corpus to use, from its start, characters, val_fraction of them for validation; null: all of it."""

    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Most of the corpus to use, from its start, tokens, val_fraction of them for validation; null: all of it."""

    tokenizer: str = "bpe"
    """bpe (byte-pair encoding trained on this corpus), char (one token a character), gpt2, or another encoding of
    tiktoken by its name, such as cl100k_base."""

    vocab_size: Annotated[int, Field(gt=0, le=2**24)] = 512
    """Vocabulary size of the bpe tokenizer, tokens; at least 257 (256 bytes and end-of-text)."""

    n_stories: Annotated[int, Field(gt=0)] = 20000
    """For tales: how many stories to generate."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the corpus held out for validation (its end), between 0 and 1, unless it names a split for it."""


def kind_of(path: str) -> str | None:
    """The one of TABLES that a file's name or an address ends in, or None: a file of text."""
    name = path
    if path.lower().startswith(("http://", "https://")):
        with contextlib.suppress(ValueError):  # open_corpus says what is wrong
            name = urllib.parse.urlsplit(path).path
    return next((kind for kind in TABLES if name.lower().endswith(kind)), None)


def check(data: DataConfig) -> None:
    """Check how the values fit together, without touching the corpus. Raises InputError naming the key."""
    if data.source == "tales" and data.path:
        raise InputError("data.path means nothing for source: tales; leave it out, or set data.source to text")
    if data.source != "tales" and not data.path:
        wanted = {
            "text": "give a file, a glob or an address, --data.path my_text.txt",
            "package": "give the name of an installed package, --data.path torch",
            "hub": "give a dataset's name or a folder, --data.path roneneldan/TinyStories",
        }[data.source]
        raise InputError(f"data.path is needed for source: {data.source}; {wanted}")
    for key in ("config", "split", "val_split", "revision", "streaming", "column"):
        if getattr(data, key) != getattr(DataConfig, key) and data.source != "hub":
            if key == "column" and data.source == "text" and (kind_of(data.path) or glob.has_magic(data.path)):
                continue  # what files a glob names is known when it is opened
            where = "for source: hub" + " and for .jsonl, .json and .parquet files" * (key == "column")
            raise InputError(f"data.{key} means nothing here, only {where}; leave it out")
    if data.split == data.val_split:
        raise InputError(f"data.val_split must be another split than data.split, got {data.split!r} for both")
    if data.tokenizer == "bpe" and data.vocab_size < 257:
        raise InputError(f"data.vocab_size {data.vocab_size} is too small for bpe: 256 bytes and end-of-text make 257")
    if data.tokenizer not in ("bpe", "char", *TIKTOKEN_SIZES):
        import tiktoken

        if data.tokenizer not in (names := tiktoken.list_encoding_names()):
            raise InputError(f"data.tokenizer {data.tokenizer!r} is unknown; choose bpe, char, {', '.join(names)}")
