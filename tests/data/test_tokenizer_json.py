"""Lost if these fail: a tokenizer.json whose ids are not this project's, so that other programs read other tokens."""

import json

import pytest
import tiktoken
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from data.config import TIKTOKEN_SIZES
from data.corpus import chunked
from data.tales import story
from data.tokenizers import END_OF_TEXT, BPETokenizer, load_tokenizer
from data.tokenizers.export import bpe_json

tokenizers = pytest.importorskip("tokenizers")

CORPUS = " ".join(story(0, i).text for i in range(60)) + (
    "aaaa aaaaaa\n\n\n\t\t  x  1234567 don't WE'LL 水の音 é̂…!!\r\n " * 9
)
BPE = BPETokenizer.train([CORPUS], 900)
NAMES = [name for name in TIKTOKEN_SIZES if name != "gpt2"]  # gpt2 is r50k_base, read from other files


def encoding(name: str) -> BPETokenizer:
    """tiktoken's own definition of an encoding (words, special tokens), with the ranks of BPE for its file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: dict(BPE.ranks))
        made = getattr(openai_public, name)()
    return BPETokenizer(made["mergeable_ranks"], made["pat_str"], made["special_tokens"])


ALL = {"bpe": BPE} | {name: encoding(name) for name in NAMES}
HF = {name: tokenizers.Tokenizer.from_str(bpe_json(t.ranks, t.pattern, t.special_tokens)) for name, t in ALL.items()}
TEXT = st.text(st.characters(codec="utf-8")) | st.text(
    st.sampled_from("aabcé's tTHElL10… !?/\n\r\t\x0b\x1c\x85\u2028\u00a0水\u0302"), max_size=60
)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=120, deadline=None)
@given(TEXT)
@example(CORPUS)
@example("")
@example("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
def test_any_text_has_the_same_ids_in_both(name, text):
    assume(not any(special in text for special in ALL[name].special_tokens))  # there a special token, here text
    ids = HF[name].encode(text, add_special_tokens=False).ids
    assert ids == ALL[name].encode(text)
    assert HF[name].decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("name", ALL)
def test_special_tokens_have_their_ids(name):
    ours, text = ALL[name], f"Once upon a time.{END_OF_TEXT}One day"
    theirs = tiktoken.Encoding(
        "x", pat_str=ours.pattern, mergeable_ranks=ours.ranks, special_tokens=ours.special_tokens
    ).encode(text, allowed_special="all")
    assert HF[name].encode(text).ids == theirs
    assert ours.eot in theirs
    assert {t: i for t, i in HF[name].get_vocab().items() if t in ours.special_tokens} == ours.special_tokens


def test_a_saved_bpe_has_the_file(tmp_path):
    BPE.save(tmp_path)
    file = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert file.get_vocab_size() == BPE.vocab_size
    assert file.encode(CORPUS).ids == load_tokenizer(tmp_path).encode(CORPUS)
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["type"] == "BPE"


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(text=TEXT, size=st.integers(1, 6))
def test_a_text_in_chunks_has_the_tokens_of_the_whole_in_every_encoding(name, text, size):
    cut = [chunk.text for chunk in chunked([(text, True)], size)]
    assert "".join(cut) == text
    assert [i for ids in ALL[name].encode_batch(cut) for i in ids] == ALL[name].encode(text)


@pytest.mark.parametrize("name", NAMES)
def test_the_vocabulary_sizes_known_without_files_are_tiktokens(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
        made = getattr(openai_public, name)()
    assert TIKTOKEN_SIZES[name] == made.get("explicit_n_vocab", max(made["special_tokens"].values()) + 1)
