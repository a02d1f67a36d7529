"""Tokenizers as Hugging Face's libraries read and write them: tokenizer.json and its companions.

A trained tokenizer goes out as plain JSON, with no library needed; a foreign GPT-2's comes in through `tokenizers`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.tokenizers import END_OF_TEXT, BPETokenizer, CharTokenizer, Tokenizer
from data.tokenizers.export import tokenizer_json
from errors import InputError


def hf_files(tokenizer: CharTokenizer | BPETokenizer, block_size: int) -> dict[str, str]:
    """The files, by name, with which transformers' AutoTokenizer is this tokenizer: the same ids for the same text."""
    if isinstance(tokenizer, CharTokenizer):
        text = json.dumps(char_json(tokenizer), ensure_ascii=False)
    else:
        text = tokenizer_json(tokenizer.ranks, tokenizer.pattern, tokenizer.special_tokens)
    return {"tokenizer.json": text, "tokenizer_config.json": json.dumps(config_json(tokenizer, block_size), indent=2)}


def config_json(tokenizer: Tokenizer, block_size: int) -> dict:
    """tokenizer_config.json, with which transformers' AutoTokenizer makes this tokenizer of tokenizer.json."""
    end = None if tokenizer.eot is None else END_OF_TEXT
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "bos_token": end,
        "eos_token": end,
        "unk_token": None,
        "pad_token": None,
        "clean_up_tokenization_spaces": False,
    }


def char_json(tokenizer: CharTokenizer) -> dict:
    """tokenizer.json of a char tokenizer: the same ids; a character that it does not know is an error there too."""
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ends = [] if tokenizer.eot is None else [{"id": tokenizer.eot, "content": END_OF_TEXT, **special}]
    vocab = {character: i for i, character in enumerate(tokenizer.characters)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": ends,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": r"[\s\S]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab | {e["content"]: e["id"] for e in ends}, "unk_token": "<unk>"},
    }


class HFTokenizer(Tokenizer):
    """A tokenizer read from tokenizer.json, or from GPT-2's older vocab.json and merges.txt."""

    def __init__(self, tokenizer: Tokenizer, eot: int | None):
        self._tokenizer = tokenizer
        self.eot = eot
        vocab = tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values()) + 1
        as_bytes = "ByteLevel" in str(json.loads(tokenizer.to_str()).get("decoder"))
        self._lengths = np.zeros(self.vocab_size, dtype=np.int64)
        special = {END_OF_TEXT, *(token.content for token in tokenizer.get_added_tokens_decoder().values())}
        for token, i in vocab.items():
            if token not in special:  # in a byte-level vocabulary a character stands for a byte
                self._lengths[i] = len(token) if as_bytes else len(tokenizer.decode([i]).encode("utf-8"))

    @classmethod
    def load(cls, folder: Path, vocab_size: int) -> "HFTokenizer":
        """The tokenizer in a GPT-2's folder. `vocab_size`: the model's, in whose range end-of-text must lie.

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
            tokenizer.no_truncation()
            tokenizer.no_padding()
            largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
            if not 0 <= largest < vocab_size:
                raise InputError(f"{folder}: its tokenizer has {largest + 1} tokens, config.json says {vocab_size}")
            eot = tokenizer.token_to_id(END_OF_TEXT)
            config = folder / "config.json"
            named = json.loads(config.read_text(encoding="utf-8")).get("eos_token_id") if config.is_file() else None
            if eot is None and type(named) is int and named < vocab_size and tokenizer.id_to_token(named) is not None:
                eot = named
            return cls(tokenizer, eot)
        except InputError:
            raise
        except Exception as error:  # the library raises plain Exceptions
            raise InputError(f"{folder}: its tokenizer cannot be read ({str(error)[:120]})") from None

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(text.ids, dtype=np.uint32) for text in encoded]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        ids = [i for i in np.asarray(ids).tolist() if i < self.vocab_size]
        return self._tokenizer.decode(ids, skip_special_tokens=True)
