"""Lost if these fail: text that does not come back from its tokens, or a vocabulary that differs from run to run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rustbpe
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.corpus import chunked
from data.tokenizers import END_OF_TEXT, BPETokenizer, CharTokenizer, load_tokenizer
from data.tokenizers.bpe import PATTERN
from errors import InputError

CORPUS = (
    "The old door's of the cottages are open; \"open!\" said the 12 sailors.\r\n\n\tThen they'll sail… 水の音\n" * 5
)
BPE = BPETokenizer.train([CORPUS], 300)
SPACES = st.text(st.sampled_from("aé's1! \n\r\t\x0b\x1c\x85\u2028\u00a0"), max_size=60)
TRAIN = f"from data.tokenizers import BPETokenizer; print(BPETokenizer.train([{CORPUS!r}, 'one more'], 310).ranks)"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8")))
@example("")
@example(END_OF_TEXT)
@example("\0\r\n\u2028")
def test_bpe_gives_any_text_back(text):
    ids = BPE.encode(text)
    assert BPE.decode(ids) == text
    assert BPE.token_bytes(np.array(ids, dtype=int)).sum() == len(text.encode("utf-8"))
    assert BPE.eot not in ids


@settings(max_examples=300, deadline=None)
@given(SPACES, st.integers(1, 6))
def test_a_text_in_chunks_has_the_tokens_of_the_whole(text, size):
    cut = [chunk.text for chunk in chunked([(text, True)], size)]
    assert "".join(cut) == text
    assert [i for ids in BPE.encode_batch(cut) for i in ids] == BPE.encode(text)


def test_chunks_do_cut_long_text():
    assert len(list(chunked([(CORPUS, True)], 50))) > 4


def test_bpe_encodes_as_its_trainer_does():
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter([CORPUS]), 299, pattern=PATTERN)
    assert BPE.encode(CORPUS) == trainer.encode(CORPUS)


def test_bpe_training_does_not_depend_on_the_number_of_threads():
    def ranks(threads):
        env = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run([sys.executable, "-c", TRAIN], env=env, capture_output=True, check=True).stdout

    assert ranks("1") == ranks("4")


def test_half_a_surrogate_pair_and_half_a_character_are_replaced():
    assert BPE.decode(BPE.encode("a\ud800b")) == "a\ufffdb"
    assert BPE.decode([BPE.ranks[b"\xc3"], 65]) == "\ufffdA"


def test_end_of_text_is_the_last_id_and_stands_for_no_bytes():
    assert (BPE.vocab_size, BPE.eot) == (300, 299)
    assert BPE.token_bytes(np.array([[BPE.eot, 65]])).tolist() == [[0, 1]]
    assert BPE.decode([65, BPE.eot]) == "A" + END_OF_TEXT


@pytest.mark.parametrize(("vocab_size", "said"), [(256, "at least 257"), (100000, r"at most \d+, or give a larger")])
def test_a_vocabulary_that_cannot_be_is_refused(vocab_size, said):
    with pytest.raises(InputError, match=f"data.vocab_size: {vocab_size} .*{said}"):
        BPETokenizer.train([CORPUS], vocab_size)


def test_the_largest_vocabulary_named_can_be_had():
    with pytest.raises(InputError) as refusal:
        BPETokenizer.train([CORPUS], 100000)
    largest = int(str(refusal.value).split("at most ")[1].split(",")[0])
    assert BPETokenizer.train([CORPUS], largest).vocab_size == largest
    assert BPETokenizer.train([CORPUS], 257).vocab_size == 257


def test_char_has_end_of_text_only_between_documents():
    one, two = CharTokenizer.train(["héllo"]), CharTokenizer.train(["héllo", "wörld"])
    assert (one.vocab_size, one.eot) == (4, None)
    assert (two.vocab_size, two.eot) == (9, 8)
    assert two.decode([*two.encode("wöéh"), two.eot]) == "wöéh" + END_OF_TEXT
    assert two.token_bytes(np.array([*two.encode("wö"), two.eot])).tolist() == [1, 2, 0]
    assert [ids.tolist() for ids in one.encode_batch(["he", "", "l"][1:])] == [[], one.encode("l")]


def test_char_names_what_it_does_not_know_and_what_it_does():
    with pytest.raises(InputError) as refusal:
        CharTokenizer.train(["abc"]).encode("aé水z123")
    assert all(f"{c!r} (U+{ord(c):04X})" in str(refusal.value) for c in "123zé")
    assert "and 1 more" in str(refusal.value)
    assert "'abc'" in str(refusal.value)


@pytest.mark.parametrize("tokenizer", [BPE, CharTokenizer.train([CORPUS]), CharTokenizer.train([CORPUS, "b"])])
def test_a_saved_tokenizer_is_the_same_tokenizer(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "new" / "folder")
    again = load_tokenizer(tmp_path / "new" / "folder")
    assert (again.vocab_size, again.eot) == (tokenizer.vocab_size, tokenizer.eot)
    assert again.encode(CORPUS) == tokenizer.encode(CORPUS)
    assert again.decode(again.encode(CORPUS)) == CORPUS


@pytest.mark.parametrize("tokenizer", [BPE, CharTokenizer.train([CORPUS])])
def test_every_damage_to_a_saved_tokenizer_is_named(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    for file in list(tmp_path.iterdir()):
        whole = file.read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], b"[]", b"\xff\xfe", whole.replace(b"e", b"f", 1)):
            file.write_bytes(damaged)
            with pytest.raises(InputError, match=file.name):
                load_tokenizer(tmp_path)
        file.unlink()
        with pytest.raises(InputError, match=f"cannot read .*{file.name}"):
            load_tokenizer(tmp_path)
        file.write_bytes(whole)
    load_tokenizer(tmp_path)
