"""A byte-pair tokenizer in the format of Hugging Face's `tokenizers` (tokenizer.json), with tiktoken's ids.

The one idea: tiktoken joins any two neighbours whose bytes together are a token, lowest id first. In tokenizer.json a
pair is joined only where it is listed, so every way to cut a token into two tokens is listed, in the order of ids.
"""

import json
import re


def tokenizer_json(ranks: dict[bytes, int], pattern: str, special_tokens: dict[str, int]) -> str:
    """The file's text.

    ranks: each token's bytes and id. pattern: the regular expression that cuts text into words. special_tokens: names
    and ids; as everywhere in that format, the name of one in a text is that token.
    """
    names = _byte_names()

    def name(token: bytes) -> str:
        return "".join(names[byte] for byte in token)

    by_rank = sorted(ranks, key=ranks.get)
    merges = [
        [name(token[:i]), name(token[i:])]
        for token in by_rank
        for i in range(1, len(token))
        if token[:i] in ranks and token[i:] in ranks
    ]
    # "{1,3}+" takes as much as it can and keeps it; the engine of `tokenizers` would read a repetition of repetitions
    regex = re.sub(r"(\{\d+(?:,\d*)?\})\+", r"\1", pattern)
    words = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    how = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": i, "content": content} | how
                for content, i in sorted(special_tokens.items(), key=lambda item: item[1])
            ],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, as_bytes]},
            "post_processor": None,
            "decoder": as_bytes,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": True,  # a word that is a token is that token, whatever it was merged from
                "vocab": {name(token): ranks[token] for token in by_rank} | special_tokens,
                "merges": merges,
            },
        },
        ensure_ascii=False,
    )


def _byte_names() -> list[str]:
    """The printable character that stands for each byte in GPT-2's files: itself where it has one, else 256 and up."""
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in itself else chr(next(others)) for byte in range(256)]
