"""The embedded corpus: English micro-stories that know which relation decides their words.

A story is a function of (seed, index), the same on every platform and Python version. A sample, `story(0, 4949)`:

    Under a high mountain lived Dan and Mary.
    It was winter, and the whole valley was full of snow.
                                                    ^^^^ semantic: of winter
    Dan was a tailor and always busy with the cloth.
                                              ^^^^^ semantic: a tailor's
    Dan had a sheep that every now and then bleated.
                                            ^^^^^^^ semantic: a cow would have mooed
    One night the wind blew harder than ever before.
    Dan whispered, "The doors behind the old cottage are shut."
                                                     ^^^ syntactic: the doors, not the cottage
                                                              ^ syntactic: a quote was open
    Slowly but surely the wind died down.
               ^^^^^^ local: after "slowly but"
    The woods were still full of frost.
                                 ^^^^^ long_range: it was winter
    Dan took great care of the cloth again.
                               ^^^^^ long_range: he was a tailor
    In the yard the good animal bleated.
                                ^^^^^^^ long_range: it was a sheep
    The tea was ready.
    That night Dan was soon fast asleep.
                                 ^^^^^^ local: after "soon fast"

Semantic and long-range ask the same kind of question, what belongs to a cue (a job, a season, an animal): one in the
sentence that names the cue, the other 25 to 100 words later. So their difference is what distance costs.

A language model never sees the tags. They say, word by word, on which kind of relation it fails, and `pairs` asks it
directly: which of two continuations, only one of which keeps the relation, does it find more likely?

Words within two words' reach decide nothing but `local`: the candidates for every other decisive word are drawn alike,
so that a bigram or a trigram model only guesses (the tests hold it to that). `data.tales.grammar` tells the stories,
`data.tales.checker` reads them back, and `data.tales.floor` knows how low the loss on decisive words can be.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from data.config import RELATIONS
from data.tales.checker import Check, check
from data.tales.floor import relation_floor
from data.tales.grammar import KINDS, Dice, Mark, render

__all__ = ["Check", "Pair", "Span", "Story", "check", "pairs", "relation_floor", "stories", "story"]

_STORIES, _PAIRS, _WHICH = range(3)  # streams of numbers that never meet
_KINDS_OF = {relation: [kind for kind, its in KINDS.items() if its == relation] for relation in RELATIONS}
_SYNTACTIC_TURNS = ("a", "q", "a", "n")


@dataclass(frozen=True)
class Span:
    """Where a decisive word stands: characters [start, end) of `Story.text`, and its relation, one of `RELATIONS`."""

    start: int
    end: int
    relation: str


@dataclass(frozen=True)
class Pair:
    """A forced choice: `context + right` keeps the relation, `context + wrong` breaks it.

    The context is a story from its start to just before the decisive word; right and wrong begin with the space where
    there is one. After a sentence that ends alike in speech and outside it, the choice is between closing the quote
    (`."`) and going on with the tale (`. Then`): as often the one as the other is right, and the full stop is on both
    sides because a tokenizer may join it to the quote.
    """

    relation: str
    context: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Story:
    """A story of 80 to 150 words, and its decisive words in order of place."""

    text: str
    spans: tuple[Span, ...]


def story(seed: int, index: int) -> Story:
    """The story number `index` of a corpus; any two whole numbers will do (they count modulo 2**64)."""
    text, marks = render(Dice(_STORIES, seed, index))
    return Story(text, tuple(Span(mark.start, mark.end, KINDS[mark.kind]) for mark in marks if mark.kind in KINDS))


def stories(n: int, seed: int = 0, start: int = 0) -> Iterator[Story]:
    """The stories `start` to `start + n - 1` of a corpus."""
    return (story(seed, index) for index in range(start, start + n))


def pairs(n_per_relation: int, seed: int) -> list[Pair]:
    """Minimal pairs from stories that are in no corpus, whatever its seed; at most one a story and relation.

    Returns:
        n_per_relation pairs of each relation, in the order of `RELATIONS`. Of the syntactic ones half ask for number
        agreement, a quarter for a closing quote, and a quarter for none where no quote is open.
    """
    found: dict[str, list[Pair]] = {relation: [] for relation in RELATIONS}
    index = 0
    while any(len(some) < n_per_relation for some in found.values()):
        text, marks = render(Dice(_PAIRS, seed, index))
        dice = Dice(_WHICH, seed, index)
        index += 1
        for relation, some in found.items():
            turn = _SYNTACTIC_TURNS[len(some) % len(_SYNTACTIC_TURNS)]
            kinds = turn if relation == "syntactic" else _KINDS_OF[relation]
            asked = [mark for mark in marks if mark.kind in kinds and (mark.kind not in "qn" or mark.end < len(text))]
            if asked and len(some) < n_per_relation:
                some.append(_pair(relation, text, dice.pick(asked)))
    return [pair for some in found.values() for pair in some]


def _pair(relation: str, text: str, mark: Mark) -> Pair:
    if mark.kind not in "qn":
        return Pair(relation, text[: mark.start - 1], " " + text[mark.start : mark.end], " " + mark.wrong)
    closed, going_on = '."', ". " + text[mark.end :].split(maxsplit=1)[0]
    right, wrong = (closed, going_on) if mark.kind == "q" else (going_on, closed)
    return Pair(relation, text[: mark.start - 1], right, wrong)
