"""Which relations does a text keep? A reader for the tales that models write: whole, cut short or confused.

It looks for the places where a relation applies (a collocation begun, a fact stated and asked for again, "the keys to
the old box", a quote opened) wherever they stand, and judges the decisive word. A place that says too little to judge
(a fact never stated, a word cut off by the end of the text) counts neither as kept nor as broken.
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
    judges = {"local": _local, "long_range": _long_range, "semantic": _semantic, "syntactic": _syntactic}
    for relation, judge in judges.items():
        for fine in judge(text):
            (kept if fine else broken)[relation] += 1
    return Check(kept, broken)


def _any(words: Collection[str]) -> str:
    return "(?:" + "|".join(sorted(map(re.escape, words), key=len, reverse=True)) + ")"


def _cut(text: str, match: re.Match, right: Collection[str]) -> bool:
    """Does the text end within a word that may become the right one?"""
    word = match[2].lower()
    return match.end(2) == len(text) and word not in right and any(r.startswith(word) for r in right)


# local

_BEGUN = re.compile(rf"\b({_any(lexicon.COLLOCATIONS)}) (\w+)", re.IGNORECASE)


def _local(text: str) -> Iterator[bool]:
    for match in _BEGUN.finditer(text):
        right = (lexicon.COLLOCATIONS.get(match[1].lower(), ""),)
        if not _cut(text, match, right):
            yield match[2].lower() in right


# long_range: every pattern has two groups. A fact: what, and its value in `value`; a recall: the same.

_THING, _COLOUR, _KIN = _any(lexicon.THINGS), _any(lexicon.COLOURS), _any(lexicon.KIN)
_JOB, _PET = _any(lexicon.JOBS), _any(lexicon.PETS)
_WHOSE, _WHO = r"(?:his|her|\w+'s)", r"(?:he|she|[A-Z]\w+)"
_NAME = r"[A-Z][a-z]+"
_NAMED = rf"\b(?P<what>{_JOB}|{_PET}) called (?P<value>{_NAME})\b"
_FACTS = {
    "colour": (rf"\b(?P<value>{_COLOUR}) (?P<what>{_THING})\b",),
    "place": (rf"\b(?P<what>{_THING}) by the (?P<value>{_any(lexicon.PLACES)})\b",),
    "owner": (
        rf"\b(?P<value>{_KIN}) had lent (?:him|her) an? (?:{_COLOUR} )?(?P<what>{_THING})\b",
        rf"\b(?P<what>{_THING}) (?:from|that belonged to) {_WHOSE} (?P<value>{_KIN})\b",
    ),
    "name": (_NAMED, rf"\b(?P<value>{_NAME})(?:,| was) an? (?:[a-z]+ )?(?P<what>{_JOB})\b"),
}
_RECALLS = {
    "colour": (
        rf"\b({_THING}) (?:until it was|looked as|had kept its) (\w+)",
        rf"\bwas there an? ({_THING}) so (\w+)",
        rf"\bnew ({_THING}), and of course {_WHO} chose (\w+)",
    ),
    "place": (
        rf"\b({_THING}) (?:again|was still) by the (\w+)",
        rf"\bget the ({_THING}), {_WHO} walked all the way to the (\w+)",
        rf"\b({_THING}), and there it was, by the (\w+)",
    ),
    "owner": (
        rf"\b({_THING}) (?:back to|and carried it home to) {_WHOSE} (\w+)",
        rf"\bthe ({_THING}) {_WHO} had to thank {_WHOSE} (\w+)",
    ),
    "name": (
        rf'\bthe ({_JOB}|{_PET}) and said, "(?:Thank you|Good night|Well done|Come in|Sleep well), (\w+)',
        rf"\bfor the ({_JOB}|{_PET}), and on it was the name (\w+)",
    ),
}
_FACTS = {fact: [re.compile(pattern) for pattern in patterns] for fact, patterns in _FACTS.items()}
_RECALLS = {fact: [re.compile(pattern) for pattern in patterns] for fact, patterns in _RECALLS.items()}


def _long_range(text: str) -> Iterator[bool]:
    for fact, patterns in _RECALLS.items():
        stated: dict[str, list[tuple[int, str]]] = {}
        for m in sorted((m for p in _FACTS[fact] for m in p.finditer(text)), key=re.Match.end):
            stated.setdefault(m["what"], []).append((m.end(), m["value"].lower()))
        for pattern in patterns:
            for match in pattern.finditer(text):
                facts = stated.get(match[1], [])
                before = bisect_left(facts, (match.start(2), ""))  # the fact stated last counts
                if before and not _cut(text, match, (facts[before - 1][1],)):
                    yield match[2].lower() == facts[before - 1][1]


# semantic: (words by cue, what stands before the decisive word). The cue is the last one named in the same sentence.

_LONGEST_SENTENCE = 300  # characters
_TOOLS = {job: tools for job, (tools, _) in lexicon.JOBS.items()}
_GOODS = {job: goods for job, (_, goods) in lexicon.JOBS.items()}
_CRIES = _any({cry for cries in lexicon.SOUNDS.values() for cry in cries})
_SEMANTIC: tuple[tuple[Mapping[str, Collection[str]], str], ...] = (
    (_TOOLS, r"\b(care of|busy with|proud of|a day without|look after|thinking of) the (\w+)"),
    (_GOODS, r"\b(had plenty of|thought only of|the town for|to buy|dreaming of) (\w+)"),
    (lexicon.SEASONS, r"\b(full of) (\w+)"),
    (lexicon.YOUNG, r"\b(fond of|close to|down the road with) her (\w+)"),
    (lexicon.SOUNDS, rf"\b(behind the house|across the road|on the hill) ({_CRIES})\b"),
)
_SEMANTIC = tuple((words, re.compile(rf"\b{_any(words)}\b"), re.compile(before)) for words, before in _SEMANTIC)


def _semantic(text: str) -> Iterator[bool]:
    for words, cue, before in _SEMANTIC:
        for match in before.finditer(text):
            furthest = max(match.start() - _LONGEST_SENTENCE, 0)
            sentence = max(text.rfind(mark, furthest, match.start()) for mark in '.!?"\n') + 1
            cues = cue.findall(text, max(sentence, furthest), match.start())
            if cues and not _cut(text, match, words[cues[-1]]):
                yield match[2].lower() in words[cues[-1]]


# syntactic

_NOUN = _any(lexicon.NUMBER)
_AGREEMENT = re.compile(rf"\b[Tt]he ({_NOUN}) (?!and\b|or\b)\w+ the (?:\w+ )?({_NOUN}) (was|were|is|are)\b")
_QUOTING = re.compile(r'"|[.!?](?=\s)')


def _syntactic(text: str) -> Iterator[bool]:
    for match in _AGREEMENT.finditer(text):
        number = lexicon.NUMBER[match[1]]
        if number != lexicon.NUMBER[match[2]]:
            yield number == (match[3] in ("were", "are"))
    yield from _quotes(text)


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
