"""The grammar of the tales: from a stream of numbers to a story with its decisive words marked.

A story is an opening; a sentence for each topic, which names its cue (a job, a season, an animal) and a word that
belongs to it; a plot that has nothing to do with any; and, 25 words or more after the cues, sentences that need such a
word again. Cues and words are drawn alike and from nothing else, so that the nearby words cannot tell which it is.

A template marks a decisive word as `<kind:right|wrong>`; `<word>` is short for a collocation. Kinds: l local, g
long-range, s semantic, a agreement, q a closing quote, and n, which marks no
word but the end of a sentence outside quotes, the counterpart of q.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from data.tales import lexicon, templates

KINDS = {"l": "local", "g": "long_range", "s": "semantic", "a": "syntactic", "q": "syntactic"}
_MARK = re.compile(r"<(?:(\w):)?([^|>]*)\|?([^>]*)>")
_COLLOCATED = tuple(lexicon.COLLOCATIONS.values())
_LEAST_WORDS = lexicon.FAR - 5  # of a plot; the sentences that need a cue have their word in sixth place or later

T = TypeVar("T")


class Dice:
    """Draws that depend on `keys` alone: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 17), in plain integers.

    Python's `random` promises the same draws in every version for `random()` only.
    """

    _MASK = (1 << 64) - 1
    _GAMMA = 0x9E3779B97F4A7C15

    def __init__(self, *keys: int):
        self._state = 0
        for key in keys:
            self._state = self._mix((self._state + key + self._GAMMA) & self._MASK)

    @staticmethod
    def _mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & Dice._MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & Dice._MASK
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1; n is far below 2**32, so that the bias is below anything measurable."""
        self._state = (self._state + self._GAMMA) & self._MASK
        return (self._mix(self._state) >> 32) * n >> 32

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def two(self, items: Sequence[T]) -> tuple[T, T]:
        """Two different items, in random order."""
        first, second = self.below(len(items)), self.below(len(items) - 1)
        return items[first], items[second + (second >= first)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order (Fisher and Yates)."""
        items = list(items)
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]
        return items


@dataclass(frozen=True, slots=True)
class Mark:
    """A decisive word in a text: its characters, its kind (see the module), and a word that would be wrong there."""

    start: int
    end: int
    kind: str
    wrong: str


class _Teller:
    """One story in the making: what its slots hold, and the sentences so far."""

    def __init__(self, dice: Dice):
        self.dice = dice
        self.slots = _cast(dice)
        self.sentences: list[str] = []
        self.words = 0
        self.known = False  # was the hero, and nobody else, the subject just now?
        self.starts, self.middles, self.ends, heads, self.speakers = dice.pick(templates.PLOTS)
        self.heads = dice.shuffled(heads)
        self.cues = {topic: dice.pick(tuple(words)) for topic, (words, _, _) in templates.TOPICS.items()}
        self.remarks = dice.shuffled(lexicon.REMARKS)
        self.calm_remarks = dice.shuffled(lexicon.CALM_REMARKS)

    def say(self, template: str) -> None:
        slots = self.slots
        pronoun = self.known and self.dice.below(4)  # three times in four, where it is clear who is meant
        slots["S"], slots["s"] = (slots["He"], slots["he"]) if pronoun else (slots["n0"], slots["n0"])
        slots["own"] = slots["his"] if pronoun else slots["n0"] + "'s"
        self.known = "{n1}" not in template and ("{S}" in template or "{s}" in template or "{n0}" in template)
        sentence = template.format_map(slots)
        self.words += sentence.count(" ") + 1
        self.sentences.append(sentence)

    def agreement(self) -> str:
        """A sentence whose verb agrees with a noun some words before.

        The noun and its neighbour are singular or plural independently of each other, so that the neighbour tells
        nothing of the verb; only where they differ is the verb a decisive word.
        """
        dice = self.dice
        heads, preposition, adjectives, others, predicates = lexicon.AGREEMENT[self.heads.pop()]
        number, other = dice.below(2), dice.below(2)
        noun = f"he {heads[number]} {preposition} the {dice.pick(adjectives)} {dice.pick(others)[other]}"
        spoken = dice.below(2)
        forms = ("is", "are") if spoken else ("was", "were")
        be = forms[number] if number == other else f"<a:{forms[number]}|{forms[1 - number]}>"
        template = dice.pick(templates.PRESENT if spoken else templates.PAST)
        for slot, words in (
            ("{The}", "T" + noun),
            ("{the}", "t" + noun),
            ("{be}", be),
            ("{end}", dice.pick(predicates)),
        ):
            template = template.replace(slot, words)
        return self._ended(template, spoken)

    def remark(self, calm: bool) -> str:
        """A plain sentence, in or outside quotes; its end does not say which."""
        spoken = self.dice.below(2)
        present, past = (self.calm_remarks if calm else self.remarks).pop()
        return self._ended(present if spoken else past, spoken)

    def _ended(self, sentence: str, spoken: int) -> str:
        return f'{self.dice.pick(self.speakers)}, "{sentence}.<q:">' if spoken else f"{sentence}.<n:>"

    def belonging(self, topic: str, told: bool) -> str:
        """A sentence with a word that belongs to the topic's cue, which it names or which was told long before."""
        dice = self.dice
        words, semantic, long_range = templates.TOPICS[topic]
        cue = other = self.cues[topic]
        while other == cue:
            other = dice.pick(tuple(words))
        right, wrong = dice.pick(words[cue]), dice.pick(words[other])
        template = dice.pick(long_range if told else semantic)
        return template.replace("{cue}", cue).replace("{word}", f"<{'g' if told else 's'}:{right}|{wrong}>")


def _cast(dice: Dice) -> dict[str, str]:
    """What the slots hold: the hero, the friend, and where they live."""
    slots = {"where": dice.pick(templates.WHERE)}
    slots["Where"] = slots["where"].capitalize()
    boy = dice.below(2)
    slots["n0"], same = dice.two(lexicon.BOYS if boy else lexicon.GIRLS)
    slots["n1"] = same if dice.below(2) else dice.pick(lexicon.GIRLS if boy else lexicon.BOYS)
    slots["he"], slots["He"], slots["his"] = ("he", "He", "his") if boy else ("she", "She", "her")
    return slots


def render(dice: Dice) -> tuple[str, list[Mark]]:
    """One story: its text, and its marks in order of place."""
    teller = _Teller(dice)
    teller.say(dice.pick(templates.OPENINGS))
    for topic in dice.shuffled(tuple(templates.TOPICS)):
        teller.say(teller.belonging(topic, told=False))

    before = teller.words
    teller.say(dice.pick(teller.starts))
    teller.say(teller.agreement() if dice.below(2) else dice.pick(teller.middles))
    end = dice.pick(teller.ends)
    while teller.words + end.count(" ") + 1 - before < _LEAST_WORDS:
        teller.say(teller.remark(calm=False))
    teller.say(end)

    for topic in dice.shuffled(tuple(templates.TOPICS)):
        teller.say(teller.belonging(topic, told=True))
    teller.say(teller.agreement() if dice.below(2) else teller.remark(calm=True))
    teller.say(dice.pick(templates.ENDINGS))
    return _unmark(" ".join(teller.sentences), dice)


def _unmark(marked: str, dice: Dice) -> tuple[str, list[Mark]]:
    pieces, marks, end, length = [], [], 0, 0
    for match in _MARK.finditer(marked):
        plain = marked[end : match.start()]
        kind, word, wrong = match.group(1) or "l", match.group(2), match.group(3)
        while kind == "l" and word.startswith(wrong):  # none yet, the same, or the beginning of the same
            wrong = dice.pick(_COLLOCATED)
        length += len(plain)
        marks.append(Mark(length, length + len(word), kind, wrong))
        length += len(word)
        pieces += (plain, word)
        end = match.end()
    pieces.append(marked[end:])
    return "".join(pieces), marks
