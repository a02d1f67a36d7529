"""The floor under the loss by relation: what nobody can know of a decisive word who knows all that stands before it.

A word that a local or a syntactic relation decides is certain. One that belongs to a job, a season or an animal is so
only where a single word does; of two, drawn alike, log 2 nats are left. And a network sees its corpus through windows
that begin anywhere: where that is behind the cue, it cannot know which of the n cues it was, and log n nats are added.
"""

import math
import re
from collections.abc import Callable, Sequence

from data.config import RELATIONS
from data.tales import lexicon
from data.tales.grammar import KINDS, Dice, render

_TABLES = (lexicon.TOOLS, lexicon.SEASONS, lexicon.SOUNDS)
_BELONGS = {word: (cue, len(words), len(table)) for table in _TABLES for cue, words in table.items() for word in words}


def relation_floor(
    encode: Callable[[str], Sequence[int | str]] = str.split, block_size: int | None = None, n_stories: int = 500
) -> dict[str, float]:
    """The least mean loss on the decisive words of each relation, nats a token: what bounds `val_loss_by_relation`.

    Args:
        encode: text to tokens, such as a tokenizer's; a word's loss is spread over its tokens. Default: words.
        block_size: T, the tokens that a network sees; None: all of the story.
        n_stories: how many stories to take the mean over.
    """
    nats, tokens = dict.fromkeys(RELATIONS, 0.0), dict.fromkeys(RELATIONS, 0)
    for index in range(n_stories):
        text, marks = render(Dice(index))
        for mark in marks:
            relation = KINDS.get(mark.kind)
            if relation is None:
                continue
            word = text[mark.start : mark.end]
            tokens[relation] += len(encode(" " + word if mark.kind != "q" else word))
            if word in _BELONGS and mark.kind in "sg":
                cue, n_words, n_cues = _BELONGS[word]
                *_, named = re.finditer(rf"\b{cue}\b", text[: mark.start])
                hidden = len(encode(text[named.end() : mark.start - 1])) / block_size if block_size else 0.0
                nats[relation] += math.log(n_words) + min(1.0, hidden) * math.log(n_cues)
    return {relation: nats[relation] / tokens[relation] for relation in RELATIONS}
