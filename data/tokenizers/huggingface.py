"""The tokenizer of a GPT-2 that was made elsewhere, through Hugging Face's `tokenizers`."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.tokenizers.base import END_OF_TEXT, Tokenizer, write_meta
from data.tokenizers.export import byte_names
from errors import InputError

if TYPE_CHECKING:
    import tokenizers


class HFTokenizer(Tokenizer):
    """A tokenizer read from tokenizer.json, or from GPT-2's older vocab.json and merges.txt."""

    def __init__(self, tokenizer: "tokenizers.Tokenizer", eot: int | None):
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.eot = eot
        text = tokenizer.to_str()
        self.definition = ("huggingface", text, eot)
        vocab = tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values(), default=-1) + 1
        self._lengths = np.zeros(self.vocab_size, dtype=np.int64)
        self._characters = np.zeros(self.vocab_size, dtype=np.int64)
        special = {END_OF_TEXT, *(token.content for token in tokenizer.get_added_tokens_decoder().values())}
        as_bytes = "ByteLevel" in str(json.loads(text).get("decoder"))
        begins = {name for byte, name in enumerate(byte_names()) if byte & 0xC0 != 0x80}  # a character, in UTF-8
        for token, i in vocab.items():
            if token not in special:  # in a byte-level vocabulary a character stands for a byte
                plain = token if as_bytes else tokenizer.decode([i])
                self._lengths[i] = len(token) if as_bytes else len(plain.encode("utf-8"))
                self._characters[i] = sum(c in begins for c in token) if as_bytes else len(plain)

    @property
    def eot_text(self) -> str | None:
        return None if self.eot is None else self._tokenizer.id_to_token(self.eot)

    @classmethod
    def load(cls, folder: Path, vocab_size: int, eot: int | None = None) -> "HFTokenizer":
        """The tokenizer in a GPT-2's folder. `vocab_size`: the model's, in whose range end-of-text must lie.

        eot: the id of end-of-text; None: what the vocabulary, or else config.json, names.

        Raises:
            InputError: there is none, it is damaged, or the library for it is not installed.
        """
        folder = Path(folder)
        try:
            import tokenizers
        except ImportError:
            raise InputError(
                f"the tokenizer in {folder} needs the tokenizers library: pip install -r requirements-extras.txt"
            ) from None
        try:
            if (folder / "tokenizer.json").is_file():
                model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")).get("model") or {}
                if model.get("type") in (None, "BPE") and model.get("continuing_subword_prefix"):
                    raise InputError(
                        f"{folder}: its tokenizer.json has a continuing_subword_prefix, which no GPT-2 has"
                    )
                tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
                files = (str(folder / name) for name in ("vocab.json", "merges.txt"))
                tokenizer = tokenizers.ByteLevelBPETokenizer(*files)._tokenizer
            else:
                raise InputError(
                    f"{folder}: no tokenizer here (tokenizer.json, or vocab.json and merges.txt); copy it too"
                )
            found = cls(tokenizer, eot if eot is not None else _end_of_text(tokenizer, folder, vocab_size))
        except InputError:
            raise
        except Exception as error:  # the library raises plain Exceptions
            raise InputError(f"{folder}: its tokenizer cannot be read ({str(error)[:120]})") from None
        if not 0 < found.vocab_size <= vocab_size:
            raise InputError(f"{folder}: its tokenizer has {found.vocab_size} tokens, config.json says {vocab_size}")
        return found

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(text.ids, dtype=np.uint32) for text in encoded]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        ids = [i for i in np.asarray(ids).tolist() if i < self.vocab_size]
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = self._tokenizer.to_str().encode("utf-8")
        (folder / "tokenizer.json").write_bytes(text)
        files = {"tokenizer.json": hashlib.sha256(text).hexdigest()}
        write_meta(folder, {"kind": "huggingface", "vocab_size": self.vocab_size, "eot": self.eot, "files": files})


def _end_of_text(tokenizer: "tokenizers.Tokenizer", folder: Path, vocab_size: int) -> int | None:
    """The id of <|endoftext|>, else of what config.json calls the end, else None."""
    eot = tokenizer.token_to_id(END_OF_TEXT)
    config = folder / "config.json"
    if eot is None and config.is_file():
        named = json.loads(config.read_text(encoding="utf-8")).get("eos_token_id")
        if type(named) is int and named < vocab_size and tokenizer.id_to_token(named) is not None:
            return named
    return eot
