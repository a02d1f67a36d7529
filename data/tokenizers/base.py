"""What all tokenizers share: ids of a text, the text of ids, and the bytes and characters that each id stands for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from files import write_checked

END_OF_TEXT = "<|endoftext|>"
META = "headcount_tokenizer.json"


class Tokenizer:
    """Text to token ids and back. `vocab_size` counts every id; `eot` is the id of end-of-text, or None."""

    vocab_size: int
    eot: int | None
    definition: tuple
    """Equal for two tokenizers if and only if they encode alike."""
    _lengths: np.ndarray
    """UTF-8 bytes of each id, int64 (vocab_size,)."""
    _characters: np.ndarray
    """Characters that begin in each id, int64 (vocab_size,)."""

    @property
    def eot_text(self) -> str | None:
        """The name of end-of-text, or None."""
        return None if self.eot is None else END_OF_TEXT

    def token_bytes(self, ids: np.ndarray) -> np.ndarray:
        """UTF-8 bytes that each id stands for: int64, the shape of `ids`. End-of-text stands for none."""
        return self._lengths[ids]

    def token_chars(self, ids: np.ndarray) -> np.ndarray:
        """Characters that begin in each id (one that is cut in two counts in its first part): int64, as `ids`."""
        return self._characters[ids]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; the name of a special token in it is ordinary text."""
        return self.encode_batch([text])[0].tolist()

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, as unsigned integer arrays."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of `ids`; bytes that are not UTF-8, as where a character is cut in two, become U+FFFD."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write into `folder` all that `load_tokenizer` needs."""
        raise NotImplementedError


def write_meta(folder: Path, meta: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_checked(folder / META, meta)
