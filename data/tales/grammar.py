"""The grammar of the tales: from a stream of numbers to a story with its decisive words marked.

A story is an opening, facts (who does what, which colour, place, owner or pet's name), a plot of at least 25 words
that needs none of them, and then sentences that need a fact again. Which of two values is asked for is drawn last and
from nothing else, so that neither the nearby words nor "the colour seen last" can tell.

A template marks a decisive word as `<kind:right|wrong>`; `<word>` is short for a collocation. Kinds: l local, g
long-range, s semantic, a agreement, q a closing quote that minimal pairs may ask for, c any other closing quote, and n,
which marks no word but the end of a sentence outside quotes, the counterpart of q.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from data.tales import lexicon, templates

KINDS = {"l": "local", "g": "long_range", "s": "semantic", "a": "syntactic", "q": "syntactic", "c": "syntactic"}
_MARK = re.compile(r"<(?:(\w):)?([^|>]*)\|?([^>]*)>")
_COLLOCATED = tuple(lexicon.COLLOCATIONS.values())
_POOLS = {
    "j": tuple(lexicon.JOBS),
    "t": lexicon.THINGS,
    "c": lexicon.COLOURS,
    "p": lexicon.PLACES,
    "k": lexicon.KIN,
    "a": lexicon.PETS,
    "m": lexicon.PET_NAMES,
}
_VALUE = {"job": "n", "place": "p", "colour": "c", "owner": "k", "pet": "m"}
_LEAST_WORDS = 20  # from the sentence of the last fact to that of the first recall: 25 from word to word
_LEAST_WORDS_BEFORE_ENDING = 75  # the shortest ending has 5

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
        self.afterwards = dice.shuffled(templates.AFTERWARDS)
        self.others = dice.shuffled(templates.OTHER_SEMANTIC)
        self.remarks = dice.shuffled(lexicon.REMARKS)
        self.calm_remarks = dice.shuffled(lexicon.CALM_REMARKS)

    def say(self, template: str) -> None:
        slots = self.slots
        pronoun = self.known and self.dice.below(4)  # three times in four, where it is clear who is meant
        slots["S"], slots["s"] = (slots["He"], slots["he"]) if pronoun else (slots["n0"], slots["n0"])
        slots["Own"], slots["own"] = (
            (slots["His"], slots["his"]) if pronoun else (slots["n0"] + "'s", slots["n0"] + "'s")
        )
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

    def semantic(self, goods: int, part: int) -> str:
        """A sentence that ends in a word that belongs to a job, season or animal some words before.

        Args:
            goods: for a job, 0 asks for a tool and 1 for goods.
            part: 0 for the opening, 1 for the plot, 2 for the end; no template is in two.
        """
        dice = self.dice
        if dice.below(5) < 3:
            cue = self.slots["j0"]
            other = dice.pick(_POOLS["j"])
            while other == cue:
                other = dice.pick(_POOLS["j"])
            template = dice.pick((templates.GOODS if goods else templates.TOOLS)[part])
            right, wrong = dice.pick(lexicon.JOBS[cue][goods]), dice.pick(lexicon.JOBS[other][goods])
        else:
            words, choices = self.others.pop()
            template = dice.pick(choices[part])
            cue, other = dice.two(tuple(words))
            right, wrong = dice.pick(words[cue]), dice.pick(words[other])
        return template.replace("{cue}", cue).replace("{word}", f"<s:{right}|{wrong}>")

    def decoy(self, fact: str) -> str:
        value = self.slots[f"{_VALUE[fact]}{self.dice.below(2)}"]
        return self.dice.pick(templates.DECOYS[fact]).replace("{decoy}", value)

    def recall(self, fact: str) -> str:
        """A sentence that needs one of the two values of a fact again; which one is drawn here, from nothing else."""
        dice, slots = self.dice, self.slots
        one = dice.below(2)
        key = _VALUE[fact]
        needed = f"<g:{slots[f'{key}{one}']}|{slots[f'{key}{1 - one}']}>"
        template = dice.pick(templates.RECALLS[fact]).replace("{n}" if fact in ("job", "pet") else f"{{{key}}}", needed)
        for slot, name in (("{t}", f"t{one}"), ("{a}", f"a{one}"), ("{j}", f"j{one}"), ("{jo}", f"j{1 - one}")):
            template = template.replace(slot, slots[name])
        if template.startswith("{S}") and dice.below(2):
            template = f"{self.afterwards.pop()} {{s}}{template[3:]}"
        return template


def _cast(dice: Dice) -> dict[str, str]:
    """What the slots hold; 0 and 1 of a kind are drawn alike and differ."""
    slots = {
        "young": dice.pick(templates.YOUNG),
        "kind": dice.pick(templates.KIND),
        "where": dice.pick(templates.WHERE),
    }
    slots["Where"] = slots["where"].capitalize()
    boy = dice.below(2)
    slots["n0"], same = dice.two(lexicon.BOYS if boy else lexicon.GIRLS)
    slots["n1"] = same if dice.below(2) else dice.pick(lexicon.GIRLS if boy else lexicon.BOYS)
    slots["he"], slots["him"], slots["his"] = ("he", "him", "his") if boy else ("she", "her", "her")
    slots["He"], slots["His"] = slots["he"].capitalize(), slots["his"].capitalize()
    for key, pool in _POOLS.items():
        slots[key + "0"], slots[key + "1"] = dice.two(pool)
    return slots


def _fact_sentences(dice: Dice, facts: Sequence[str], slots: dict[str, str]) -> list[str]:
    """Templates that state the facts (jobs are stated in the opening)."""
    for i in "01":
        slots["x" + i] = f"a {slots['c' + i]} {slots['t' + i]}" if "colour" in facts else f"a {slots['t' + i]}"
    slots["d"] = "the" if "colour" in facts or "owner" in facts else "a"
    things = []
    if "owner" in facts:
        things.append(dice.pick(templates.OWNER_INTROS))
    elif "colour" in facts:
        things.append(dice.pick(templates.COLOUR_INTROS))
    if "place" in facts:
        things.append(dice.pick(templates.PLACE_INTROS))
    if "pet" not in facts:
        return things
    pets = [dice.pick(templates.PET_INTROS)]
    return pets + things if dice.below(2) else things + pets


def render(dice: Dice) -> tuple[str, list[Mark]]:
    """One story: its text, and its marks in order of place."""
    teller = _Teller(dice)
    facts = dice.shuffled(tuple(_VALUE))[: 1 + dice.below(2)]
    goods = dice.below(2)

    if "job" in facts:  # the oldest fact: few words should part it from its recall
        teller.say(dice.pick(templates.OPENINGS_WITH_JOBS))
    else:
        teller.say(dice.pick(templates.OPENINGS))
        teller.say(dice.pick(templates.FRIENDS))
        if dice.below(4):
            teller.say(teller.semantic(goods, 0))
    for sentence in _fact_sentences(dice, facts, teller.slots):
        teller.say(sentence)

    told = teller.words
    teller.say(dice.pick(teller.starts))
    scenes = dice.shuffled(
        (teller.agreement, lambda: dice.pick(teller.middles), lambda: teller.decoy(dice.pick(facts)))
    )
    if not dice.below(6):
        scenes[0] = lambda: teller.semantic(1 - goods, 1)
    del scenes[3 - len(facts) + (dice.below(6) == 0) :]
    for scene in scenes:
        teller.say(scene())
    end = dice.pick(teller.ends)
    while teller.words + end.count(" ") + 1 - told < _LEAST_WORDS:
        teller.say(teller.remark(calm=False))
    teller.say(end)

    # A place is found before a colour is seen, and a thing seen before it is given back.
    recalled = [fact for fact in _VALUE if fact in facts and fact != "pet"]
    if "pet" in facts:
        recalled.insert(0 if "job" not in facts and dice.below(2) else 1, "pet")
    for fact in recalled:
        teller.say(teller.recall(fact))
    if dice.below(2):
        teller.say(teller.semantic(dice.below(2), 2))
    if dice.below(4):
        teller.say(teller.agreement() if dice.below(4) else teller.remark(calm=True))
    while teller.words < _LEAST_WORDS_BEFORE_ENDING:
        teller.say(teller.remark(calm=True))
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
