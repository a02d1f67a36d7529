"""Which relations does a text keep? A reader for the tales that models write: whole, cut short or confused.

It looks for the places where a relation applies (a collocation begun, a job that has its tools, "the keys to the old
box", a quote opened) wherever they stand, and judges the decisive word. A place that says too little to judge
(a job never told, a word cut off by the end of the text) counts neither as kept nor as broken.
"""

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from data.config import RELATIONS
from data.tales import lexicon


@dataclass(frozen=True)
class Check:
    """How often a text keeps and breaks each relation: counts by the names in `data.config.RELATIONS`."""

    kept: dict[str, int]
    broken: dict[str, int]


def check(text: str) -> Check:
    """Count the relations that a text keeps and breaks; any string will do, and none raises."""
    kept, broken = dict.fromkeys(RELATIONS, 0), dict.fromkeys(RELATIONS, 0)
    for judge in (_local, _belonging, _syntactic):
        for relation, fine in judge(text):
            (kept if fine else broken)[relation] += 1
    return Check(kept, broken)


def _any(words: Collection[str]) -> str:
    return "(?:" + "|".join(sorted(map(re.escape, words), key=len, reverse=True)) + ")"


def _cut(text: str, match: re.Match, right: Collection[str]) -> bool:
    """Does the text end within a word that may become the right one?"""
    word = match[2].lower()
    return match.end(2) == len(text) and word not in right and any(r.startswith(word) for r in right)


_ENDED = re.compile(r'[.!?"\n]')

# local

_BEGUN = re.compile(rf"\b({_any(lexicon.COLLOCATIONS)}) (\w+)", re.IGNORECASE)


def _local(text: str) -> Iterator[tuple[str, bool]]:
    for match in _BEGUN.finditer(text):
        right = (lexicon.COLLOCATIONS.get(match[1].lower(), ""),)
        if not _cut(text, match, right):
            yield "local", match[2].lower() in right


_CRIES = _any({cry for cries in lexicon.SOUNDS.values() for cry in cries})

# semantic and long_range: (words by cue, what stands before a word that belongs to one). The cue named last decides.

_TOPICS: tuple[tuple[Mapping[str, Collection[str]], str], ...] = (
    (lexicon.TOOLS, r"\b(care of|busy with|a day without) the (\w+)"),
    (lexicon.SEASONS, r"\b(full of) (\w+)"),
    (
        lexicon.SOUNDS,
        rf"\b(now and then|good animal) ({_CRIES})\b",
    ),
)
_TOPICS = tuple((words, re.compile(rf"\b{_any(words)}\b"), re.compile(before)) for words, before in _TOPICS)


def _belonging(text: str) -> Iterator[tuple[str, bool]]:
    """Semantic where the cue is in the sentence; long-range where nothing that belongs to it was said since FAR words.

    A word is neither where the cue, or one of its words, is in a sentence before and less far away.
    """
    for words, cue, before in _TOPICS:
        cues = list(cue.finditer(text))
        for match in before.finditer(text):
            number = bisect_left(cues, match.start(2), key=re.Match.start)
            if not number or _cut(text, match, right := words[(named := cues[number - 1])[0]]):
                continue
            since = text[named.end() : match.start(2)]
            *_, last = ["", *re.split(rf"\b{_any((named[0], *right))}\b", since)]
            if not _ENDED.search(since):
                yield "semantic", match[2].lower() in right
            elif last.count(" ") >= lexicon.FAR:
                yield "long_range", match[2].lower() in right


# syntactic

_NOUN = _any(lexicon.NUMBER)
_AGREEMENT = re.compile(rf"\b[Tt]he ({_NOUN}) (?!and\b|or\b)\w+ the (?:\w+ )?({_NOUN}) (was|were|is|are)\b")
_QUOTING = re.compile(r'"|[.!?](?=\s)')


def _syntactic(text: str) -> Iterator[tuple[str, bool]]:
    for match in _AGREEMENT.finditer(text):
        number = lexicon.NUMBER[match[1]]
        if number != lexicon.NUMBER[match[2]]:
            yield "syntactic", number == (match[3] in ("were", "are"))
    yield from (("syntactic", fine) for fine in _quotes(text))


def _quotes(text: str) -> Iterator[bool]:
    """A quote is one sentence long: it must close where the sentence ends, and nothing closes that was not opened."""
    is_open = forgotten = False  # forgotten: counted as broken already; a late closing quote is not counted again
    for match in _QUOTING.finditer(text):
        if match[0] != '"':
            if is_open:
                is_open, forgotten = False, True
                yield False
            continue
        spaced = [
            not text[max(match.start() - 1, 0) : match.start()].strip(),
            not text[match.end() : match.end() + 1].strip(),
        ]
        closes = is_open or forgotten if spaced == [True, True] else not spaced[0]
        if not closes:
            if is_open:
                yield False
            is_open = True
        elif not forgotten:
            yield is_open
            is_open = False
        forgotten = False
