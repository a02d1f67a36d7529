"""One token a character."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.tokenizers.base import END_OF_TEXT, Tokenizer, write_meta
from errors import InputError


class CharTokenizer(Tokenizer):
    """`characters`, sorted, have the ids 0, 1, …; end-of-text, where there is one, is last."""

    def __init__(self, characters: str, has_eot: bool):
        self.characters = characters
        self.eot = len(characters) if has_eot else None
        self.vocab_size = len(characters) + has_eot
        self.definition = ("char", characters, has_eot)
        self._texts = [*characters, END_OF_TEXT]
        self._lengths = np.array([len(c.encode("utf-8")) for c in characters] + [0])
        self._characters = np.array([1] * len(characters) + [0])
        points = _code_points(characters)
        self._ids = np.full(int(points.max(initial=0)) + 2, -1, dtype=np.int32)  # by code point; -1 is unknown
        self._ids[points] = np.arange(len(characters))

    @classmethod
    def train(cls, documents: Iterable[str]) -> "CharTokenizer":
        """The characters of the documents; end-of-text is a token only where there is more than one to part."""
        documents = list(documents)
        return cls("".join(sorted(set().union(*documents))), has_eot=len(documents) > 1)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `Tokenizer.encode_batch`. Raises InputError naming the characters that are not in the vocabulary."""
        points = _code_points("".join(texts))
        ids = self._ids[np.minimum(points, len(self._ids) - 1)]
        if len(ids) and ids.min() < 0:
            unknown = sorted(set(points[ids < 0].tolist()))
            named = ", ".join(f"{chr(point)!r} (U+{point:04X})" for point in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            shown = self.characters if len(self.characters) <= 120 else self.characters[:120] + "…"
            raise InputError(
                f"the char tokenizer does not know {named}{more}; it can encode only the {len(self.characters)} "
                f"characters of its corpus: {shown!r}\nleave the others out, or train with data.tokenizer: bpe, "
                "which encodes any text"
            )
        return np.split(ids.astype(np.uint32), np.cumsum([len(text) for text in texts])[:-1])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return "".join([self._texts[i] for i in np.asarray(ids).tolist()])

    def save(self, folder: Path) -> None:
        specials = {} if self.eot is None else {END_OF_TEXT: self.eot}
        meta = {"kind": "char", "vocab_size": self.vocab_size, "characters": self.characters}
        write_meta(Path(folder), meta | {"special_tokens": specials})


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
