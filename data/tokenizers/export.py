"""Tokenizers in the format of Hugging Face's `tokenizers` (tokenizer.json), with the ids they have here.

The one idea, for byte-pair encoding: tiktoken joins any two neighbours whose bytes together are a token, lowest id
first. In tokenizer.json a pair is joined only where it is listed, so every way to cut a token into two tokens is
listed, in the order of ids.
"""

import json
import re

from data.tokenizers.base import END_OF_TEXT, Tokenizer


def hf_files(tokenizer: Tokenizer, block_size: int) -> dict[str, str]:
    """The files, by name, with which transformers' AutoTokenizer is this tokenizer: the same ids for the same text."""
    kind, *parts = tokenizer.definition
    text = {"char": char_json, "bpe": bpe_json, "huggingface": lambda text, _: text}[kind](*parts)
    end = tokenizer.eot_text
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "bos_token": end,
        "eos_token": end,
        "unk_token": None,
        "pad_token": None,
        "clean_up_tokenization_spaces": False,
    }
    return {"tokenizer.json": text, "tokenizer_config.json": json.dumps(config, indent=2)}


def char_json(characters: str, has_eot: bool) -> str:
    """The text of a char tokenizer's file; a character that it does not know is an error there too."""
    vocab = {character: i for i, character in enumerate(characters)}
    ends = {END_OF_TEXT: len(characters)} if has_eot else {}
    return _file(
        added=ends,
        before={"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
        after={"type": "Fuse"},
        model={"type": "WordLevel", "vocab": vocab | ends, "unk_token": "<unk>"},
    )


def bpe_json(ranks: dict[bytes, int], pattern: str, special_tokens: dict[str, int]) -> str:
    """The text of a byte-pair tokenizer's file.

    ranks: each token's bytes and id, in the order of ids. pattern: the regular expression that cuts text into words.
    special_tokens: names and ids; as everywhere in that format, the name of one in a text is that token.
    """
    names = byte_names()

    def name(token: bytes) -> str:
        return "".join(names[byte] for byte in token)

    merges = [
        [name(token[:i]), name(token[i:])]
        for token in ranks
        for i in range(1, len(token))
        if token[:i] in ranks and token[i:] in ranks
    ]
    # "{1,3}+" takes as much as it can and keeps it; the engine of `tokenizers` would read a repetition of repetitions
    regex = re.sub(r"(\{\d+(?:,\d*)?\})\+", r"\1", pattern)
    words = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return _file(
        added=special_tokens,
        before={"type": "Sequence", "pretokenizers": [words, as_bytes]},
        after=as_bytes,
        model={
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # a word that is a token is that token, whatever it was merged from
            "vocab": {name(token): i for token, i in ranks.items()} | special_tokens,
            "merges": merges,
        },
    )


def _file(added: dict[str, int], before: dict, after: dict, model: dict) -> str:
    how = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": i, "content": content} | how for content, i in sorted(added.items(), key=lambda item: item[1])
            ],
            "normalizer": None,
            "pre_tokenizer": before,
            "post_processor": None,
            "decoder": after,
            "model": model,
        },
        ensure_ascii=False,
    )


def byte_names() -> list[str]:
    """The printable character that stands for each byte in GPT-2's files: itself where it has one, else 256 and up."""
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in itself else chr(next(others)) for byte in range(256)]
