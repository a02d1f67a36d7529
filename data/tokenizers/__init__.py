"""Text to token ids and back: `char` (a token a character), `bpe` (byte-pair encoding trained on the corpus),
tiktoken's own encodings (`gpt2` and others) and, for a GPT-2 made elsewhere, Hugging Face's.

The one idea: every id stands for a known number of UTF-8 bytes (`token_bytes`; 0 for end-of-text), so token positions
and text positions translate into each other by a cumulative sum, and a loss in nats a token into bits a byte.
"""

import hashlib
from pathlib import Path

from data.tokenizers.base import END_OF_TEXT, META, Tokenizer
from data.tokenizers.bpe import RANKS, BPETokenizer
from data.tokenizers.char import CharTokenizer
from errors import InputError
from files import read_bytes, read_checked

__all__ = ["END_OF_TEXT", "BPETokenizer", "CharTokenizer", "Tokenizer", "load_tokenizer"]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that `save` wrote. Raises InputError where a file is missing, or is not as it was written."""
    folder = Path(folder)
    file = folder / META

    def read(name: str, sha256: str) -> bytes:
        nonlocal file
        if Path(name).name != name:
            raise ValueError(f"it names a file of another folder, {name!r}")
        file = folder / name
        if hashlib.sha256(content := read_bytes(file)).hexdigest() != sha256:
            raise ValueError("its checksum does not match")
        file = folder / META
        return content

    try:
        meta = read_checked(file)
        for name, sha256 in meta.get("files", {}).items():
            read(name, sha256)
        if meta["kind"] == "char":
            tokenizer = CharTokenizer(meta["characters"], has_eot=bool(meta["special_tokens"]))
        elif meta["kind"] == "bpe":
            tokenizer = BPETokenizer.read(read(RANKS, meta["sha256"]), meta["pattern"], meta["special_tokens"])
        elif meta["kind"] == "huggingface":
            from data.tokenizers.huggingface import HFTokenizer

            tokenizer = HFTokenizer.load(folder, meta["vocab_size"], meta["eot"])
        else:
            raise ValueError(f"its kind is {meta['kind']!r}, not char, bpe or huggingface")
        if tokenizer.vocab_size != meta["vocab_size"]:
            raise ValueError(f"it holds {tokenizer.vocab_size} tokens and not {meta['vocab_size']}")
    except OSError as error:
        raise InputError(f"tokenizer: cannot read {file}: {error.strerror}; restore it from where it came") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"tokenizer: {file} is damaged: {what}; restore it from where it came") from None
    return tokenizer
