"""The settings of a corpus: which text, which tokenizer. Light to import: no library is loaded here."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from errors import InputError

RELATIONS = ("local", "long_range", "semantic", "syntactic")
"""The four kinds of relation that the tales corpus tags; a token's code is its index here plus 1, and 0 is none."""

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

_NEEDED = {
    "text": "give a file, a glob, a folder or an address, --data.path my_text.txt",
    "package": "give the name of an installed package, --data.path torch",
    "hub": "give a dataset's name or a folder, --data.path roneneldan/TinyStories",
}
_ONLY_FOR = {
    "path": ("text", "package", "hub"),
    "val_path": ("text",),
    "config": ("hub",),
    "split": ("hub",),
    "val_split": ("hub",),
    "column": ("text", "hub"),
    "separator": ("text", "hub"),
    "line_ends": ("text", "hub"),
    "bad_rows": ("text", "hub"),
    "revision": ("hub",),
    "streaming": ("hub",),
}
"""The sources that a key means something for."""


@dataclass
class DataConfig:
    """Which text to train on, and how it becomes tokens."""

    source: Literal["tales", "text", "package", "hub"] = "tales"
    """Corpus: tales (generated here, nothing to download), text (files of your own, or an address), package (the Python
    sources of an installed package) or hub (a dataset of the Hugging Face hub, or a folder of its files)."""

    path: str | None = None
    """For text: a UTF-8 file, a glob, a folder or an http(s) address; every file is a document, and every row of a
    .jsonl, .ndjson, .json, .csv, .tsv or .parquet file. Compressed files (gzip, zstd, bzip2, xz) are read. For package:
    its name, such as torch. For hub: owner/name, or a folder."""

    val_path: str | None = None
    """For text: what to validate on, as path; null: val_fraction of path."""

    config: str | None = None
    """For hub: the dataset's subset (its config), such as sample-10BT; null: its default."""

    split: str = "train"
    """For hub: the split to train on."""

    val_split: str | None = "auto"
    """For hub: the split to validate on; auto: the dataset's validation split, else its test split, else val_fraction
    of the training split; null: always val_fraction of the training split."""

    column: str = "text"
    """For rows: the column that holds the text, a.b for field b of column a; every row is a document. A list of chat
    messages is one document, a line 'role: content' each. No other column is read, so the others may differ."""

    separator: str | None = None
    """For files of text: what parts documents in a file: line (each line is a document), blank (blank lines part them)
    or a string, such as <|endoftext|>; null: a file is a document."""

    line_ends: Literal["keep", "unix"] = "keep"
    r"""For files of text: unix makes every \r\n and \r of Windows' and old files \n; keep: every character counts."""

    bad_rows: Literal["refuse", "skip", "replace"] = "refuse"
    """For rows that cannot be read (no JSON, no text, half of a surrogate pair): refuse, naming file and line; skip:
    leave them out; replace: put U+FFFD for half of a surrogate pair, and refuse the others."""

    revision: str | None = None
    """For hub: a branch, tag or commit; null: the newest when the corpus is first prepared."""

    streaming: bool = False
    """For hub: read the dataset as it comes and keep no copy of its text, for corpora larger than the disk."""

    max_chars: Annotated[int, Field(gt=0)] | None = None
    """Most of the corpus to use, from its start, characters, val_fraction of them for validation; null: all of it."""

    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Most of the corpus to use, from its start, tokens, val_fraction of them for validation; null: all of it."""

    tokenizer: str = "bpe"
    """bpe (byte-pair encoding trained on this corpus), char (one token a character), gpt2, another encoding of
    tiktoken by its name, such as cl100k_base, or init (that of the GPT-2 of --init)."""

    vocab_size: Annotated[int, Field(gt=0, le=2**24)] = 512
    """Vocabulary size of the bpe tokenizer, tokens; at least 257 (256 bytes and end-of-text)."""

    n_stories: Annotated[int, Field(gt=0)] = 20000
    """For tales: how many stories to generate."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the corpus held out for validation (its end), between 0 and 1, unless it names a split for it."""

    val_tokens: Annotated[int, Field(gt=1)] | None = None
    """Most of the validation split to measure the loss on, from its start, tokens, the same for every run; null: all
    of it."""


def check_data(data: DataConfig) -> None:
    """Check how the values fit together, without touching the corpus. Raises InputError naming the key."""
    for key, sources in _ONLY_FOR.items():
        if data.source not in sources and getattr(data, key) != getattr(DataConfig, key):
            raise InputError(
                f"data.{key} means nothing for source: {data.source}, only for {', '.join(sources)}; leave it out"
            )
    if data.source != "tales" and not data.path:
        raise InputError(f"data.path is needed for source: {data.source}; {_NEEDED[data.source]}")
    if data.separator == "":
        raise InputError("data.separator is empty; give line, blank, a string, or null for a document a file")
    if data.split == data.val_split:
        raise InputError(f"data.val_split must be another split than data.split, got {data.split!r} for both")
    if data.tokenizer == "bpe" and data.vocab_size < 257:
        raise InputError(f"data.vocab_size {data.vocab_size} is too small for bpe: 256 bytes and end-of-text make 257")
    if data.tokenizer not in ("bpe", "char", "init", *TIKTOKEN_SIZES):
        import tiktoken

        if data.tokenizer not in (names := tiktoken.list_encoding_names()):
            raise InputError(
                f"data.tokenizer {data.tokenizer!r} is unknown; choose bpe, char, init, {', '.join(names)}"
            )
