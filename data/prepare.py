"""The making of a prepared corpus: learn a tokenizer, tokenise on every core, hold out the end for validation.

The one idea: everything on the way is kept as files that are each written whole (the tokenizer, shards of tokens), so
that a preparation that was killed goes on with what it finds; the files that training reads are put together last.
"""

import contextlib
import hashlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from data.config import DataConfig
from data.corpus import Chunk, Corpus
from data.tokenise import Tokens, dtype_of, tokenise
from data.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, load_tokenizer
from errors import InputError
from files import remove_temporaries, sha256, sync, write_checked, write_folder

TRAIN_CHARS = 32_000_000  # that a bpe tokenizer learns from


def build(config: DataConfig, corpus: Corpus, given: Tokenizer | None, folder: Path, progress: bool) -> None:
    """Fill `folder` with the prepared corpus (see data/dataset.py), going on from what a killed build left in it.

    given: the tokenizer, where it is neither learnt from the corpus nor tiktoken's.
    """
    from tqdm import tqdm

    bar_settings = {"unit": "char", "unit_scale": True, "disable": None if progress else True}  # None: if no terminal
    if config.tokenizer not in ("bpe", "char"):
        given = given or BPETokenizer.of_tiktoken(config.tokenizer)
    remove_temporaries(folder)
    for split in corpus.splits:
        if next(corpus.chunks(split), None) is None:
            raise InputError(f"data.path: there is no text in {config.path} to {split} on; give one with text")
    limits = _limits(config, corpus)
    n_chars = corpus.n_chars if config.max_chars is None else min(config.max_chars, corpus.n_chars or config.max_chars)
    with tqdm(desc="reading", total=n_chars, **bar_settings) as bar:
        tokenizer = _tokenizer(config, corpus, folder, limits, given, bar.update)
    tokens = {}
    with tqdm(desc="tokenising", total=n_chars, **bar_settings) as bar:
        for split, (max_chars, max_tokens) in limits.items():
            chunks = limited(corpus.chunks(split), max_chars)
            shards = folder / f"{split}-shards"
            tokens[split] = tokenise(chunks, tokenizer, shards, corpus.tagged, max_tokens, bar.update)

    counts = {"n_documents": sum(len(of.documents) for of in tokens.values())}
    for split, part in _splits(config, tokens, tokenizer, corpus.tagged).items():
        counts |= _write(folder, split, part, tokenizer, corpus.tagged)
    made = sorted([*folder.glob("*.bin"), *(folder / "tokenizer").iterdir()])
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in made}
    meta = {"config": vars(config), "dtype": dtype_of(tokenizer).name, "counts": counts}
    meta |= {"files": digests, "notes": list(corpus.notes)}
    if corpus.origin is not None:  # then the folder's name is of the request: this is of the content
        meta |= {"origin": corpus.origin, "hash": hashlib.sha256("".join(digests.values()).encode()).hexdigest()}
    for path in (*made, folder / "tokenizer"):
        sync(path)
    write_checked(folder / "meta.json", meta)
    for split in tokens:
        shutil.rmtree(folder / f"{split}-shards")


def _limits(config: DataConfig, corpus: Corpus) -> dict[str, tuple[int | None, int | None]]:
    """The most characters and the most tokens of each split that the corpus names."""
    budgets = (config.max_chars, config.max_tokens)
    if "val" not in corpus.splits:
        return {"train": budgets}
    val = [budget and max(1, int(config.val_fraction * budget)) for budget in budgets]
    train = [budget and max(1, budget - held) for budget, held in zip(budgets, val, strict=True)]
    return {"train": tuple(train), "val": tuple(val)}


def limited(chunks: Iterator[Chunk], max_chars: int | None) -> Iterator[Chunk]:
    """The first `max_chars` characters; the document that they end in is cut there."""
    left = math.inf if max_chars is None else max_chars
    for chunk in chunks:
        if len(chunk.text) >= left:
            yield Chunk(chunk.text[:left], True, tuple(span for span in chunk.spans if span.end <= left))
            return
        left -= len(chunk.text)
        yield chunk


def _tokenizer(
    config: DataConfig,
    corpus: Corpus,
    folder: Path,
    limits: dict[str, tuple[int | None, int | None]],
    given: Tokenizer | None,
    advance: Callable[[int], object],
) -> Tokenizer:
    """The tokenizer, saved in `folder`: the one that is there already, or `given`, or one made from the corpus.

    char takes in all of the corpus; bpe learns from TRAIN_CHARS of its training split, where its length is known from
    the same leading share of every chunk of it, otherwise from its start.
    """
    with contextlib.suppress(InputError):
        return load_tokenizer(folder / "tokenizer")

    def chunks(splits: Iterable[str]) -> Iterator[Chunk]:
        for split in splits:
            for chunk in limited(corpus.chunks(split), limits[split][0]):
                advance(len(chunk.text))
                yield chunk

    def sample() -> Iterator[str]:
        left = TRAIN_CHARS
        share = min(1.0, left / min(corpus.n_chars or 1, limits["train"][0] or math.inf)) if corpus.n_chars else 1.0
        for chunk in chunks(["train"]):
            text = chunk.text[: min(left, math.ceil(share * len(chunk.text)))]
            left -= len(text)
            yield text
            if not left:
                return

    if given:
        tokenizer = given
    elif config.tokenizer == "char":
        characters, n_documents = set(), 0
        for chunk in chunks(limits):
            characters.update(chunk.text)
            n_documents += chunk.ends
        tokenizer = CharTokenizer("".join(sorted(characters)), has_eot=n_documents > 1)
    else:
        tokenizer = BPETokenizer.train(sample(), config.vocab_size)
    write_folder(folder / "tokenizer", tokenizer.save)
    return tokenizer


Part = tuple[Tokens, int, int, bool]
"""Tokens [start, stop) of some, and whether an end-of-text opens them: every document follows one."""


def _splits(config: DataConfig, tokens: dict[str, Tokens], tokenizer: Tokenizer, whole: bool) -> dict[str, Part]:
    """What training and validation read: the corpus's own splits, or the end of "train" held out."""
    totals = {split: int(of.documents[:, 1].sum()) for split, of in tokens.items()}
    if "val" in tokens:
        return {split: (of, 0, totals[split], True) for split, of in tokens.items()}
    of = tokens["train"]
    document, chars = split_at(of.documents[:, 0], config.val_fraction, whole)
    at, left = int(of.documents[:document, 1].sum()), chars
    for ids, _ in of.between(at, totals["train"]) if chars else ():
        reach = np.cumsum(tokenizer.token_chars(ids))
        n = min(int(np.searchsorted(reach, left)) + 1, len(reach))
        at, left = at + n, left - int(reach[n - 1])
        if left <= 0:
            break
    return {"train": (of, 0, at, True), "val": (of, at, totals["train"], not chars)}


def _write(folder: Path, split: str, part: Part, tokenizer: Tokenizer, tagged: bool) -> dict[str, int]:
    """Write SPLIT.bin, and for a tagged validation split its relations; returns its characters and bytes."""
    tokens, start, stop, opens = part
    opening = np.array([tokenizer.eot] if opens and tokenizer.eot is not None else [], dtype=dtype_of(tokenizer))
    counts = {f"{split}_chars": 0, f"{split}_bytes": 0}
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(folder / f"{split}.bin", "wb"))
        file.write(opening.tobytes())
        relations = None
        if tagged and split == "val":
            relations = stack.enter_context(open(folder / "val_relations.bin", "wb"))
            relations.write(bytes(len(opening)))
        for ids, codes in tokens.between(start, stop):
            file.write(ids.tobytes())
            counts[f"{split}_chars"] += int(tokenizer.token_chars(ids).sum())
            counts[f"{split}_bytes"] += int(tokenizer.token_bytes(ids).sum())
            if relations:
                relations.write(codes.tobytes())
    return counts


def split_at(sizes: np.ndarray, val_fraction: float, whole: bool) -> tuple[int, int]:
    """Where validation starts: (document, character in it), from the documents' characters (N,).

    That is at the start of a document, the nearest to the wanted place; unless that is off by more than half of the
    wanted share, as with a single document (cut as nanoGPT cuts Shakespeare) or a few of very unlike lengths: then the
    document there is cut in two. With `whole`, documents are never cut.
    """
    starts = np.cumsum([0, *sizes])
    wanted = int((1 - val_fraction) * starts[-1])
    nearest = int(np.abs(starts[1:-1] - wanted).argmin()) + 1 if len(sizes) > 1 else 0
    off = abs(int(starts[nearest]) - wanted)
    if nearest and (whole or off <= val_fraction * starts[-1] / 2):
        return nearest, 0
    if not 0 < wanted < starts[-1]:
        raise InputError(
            f"data.val_fraction: {val_fraction} of {starts[-1]} characters leaves a split empty; give a larger corpus"
        )
    document = int(np.searchsorted(starts, wanted, side="right")) - 1
    return document, wanted - int(starts[document])
