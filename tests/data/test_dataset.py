"""Lost if these fail: tokens that are not the corpus, a split that leaks, or half a cache taken for a whole one."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from data import dataset as prepared
from data import prepare as build
from data import tales, tokenise
from data.config import RELATIONS, DataConfig
from data.dataset import load_dataset, prepare
from data.tokenizers import END_OF_TEXT
from errors import InputError, WorkError

TALES = DataConfig(n_stories=60, vocab_size=300)


def text_config(tmp_path, *texts, **settings):
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_bytes(text.encode("utf-8"))
    return DataConfig(source="text", path=str(tmp_path / "?.txt"), **settings)


def held(cache):
    """What a cache folder holds, but for the locks that were held there."""
    return {path for path in cache.iterdir() if path.suffix != ".lock"}


def decoded(dataset):
    return dataset.tokenizer.decode(dataset.train), dataset.tokenizer.decode(dataset.val)


def test_a_single_char_document_is_split_as_nanogpt_does(tmp_path):
    text = "To be, or not to be: that is the question.\n" * 10
    dataset = prepare(text_config(tmp_path, text, tokenizer="char"), tmp_path / "cache")
    cut = int(0.9 * len(text))
    assert decoded(dataset) == (text[:cut], text[cut:])
    assert dataset.tokenizer.eot is None
    assert dataset.train.dtype == np.uint8
    assert (dataset.train_chars, dataset.val_chars, dataset.n_documents) == (cut, len(text) - cut, 1)


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_documents_are_whole_in_order_and_parted(tmp_path, tokenizer):
    texts = [f"{i}: é\r\n水 and <|endoftext|>, said {'the ' * (i % 7)} end" for i in range(10)]
    dataset = prepare(
        text_config(tmp_path, *texts, tokenizer=tokenizer, vocab_size=260, val_fraction=0.2), tmp_path / "c"
    )
    eot = dataset.tokenizer.eot
    for split, held in ((dataset.train, texts[:8]), (dataset.val, texts[8:])):
        assert split[0] == split[-1] == eot
        assert (split == eot).sum() == len(held) + 1
        assert dataset.tokenizer.decode(split) == END_OF_TEXT + "".join(text + END_OF_TEXT for text in held)
    assert dataset.val_bytes == sum(len(text.encode("utf-8")) for text in texts[8:])
    assert dataset.val_chars == sum(map(len, texts[8:]))
    assert dataset.val_relations is None


def test_documents_of_unlike_lengths_still_hold_out_the_wanted_share(tmp_path):
    dataset = prepare(text_config(tmp_path, "a", "b", "c" * 198, tokenizer="char"), tmp_path / "cache")
    e = END_OF_TEXT
    assert decoded(dataset) == (f"{e}a{e}b{e}" + "c" * 178, "c" * 20 + e)


def test_batches_and_chunks_leave_no_trace(tmp_path, monkeypatch):
    whole = prepare(TALES, tmp_path / "whole")
    monkeypatch.setattr(tokenise, "BATCH_CHARS", 2000)
    parts = prepare(TALES, tmp_path / "parts")
    for name in ("train", "val", "val_relations"):
        assert (getattr(whole, name) == getattr(parts, name)).all()


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_every_token_of_a_tagged_word_has_its_relation_and_no_other(tmp_path, tokenizer):
    dataset = prepare(replace(TALES, tokenizer=tokenizer), tmp_path)
    ends = dataset.tokenizer.token_bytes(dataset.val)
    n_val = int((dataset.val == dataset.tokenizer.eot).sum()) - 1
    at, seen = 1, set()
    for story in islice(tales.stories(60), 60 - n_val, None):
        place = 0
        while dataset.val[at] != dataset.tokenizer.eot:
            start, place = place, place + ends[at]
            touching = {span.relation for span in story.spans if span.start < place and start < span.end}
            code = dataset.val_relations[at]
            assert code == 0 if not touching else RELATIONS[code - 1] in touching
            seen |= touching
            at += 1
        assert place == len(story.text)
        at += 1
    assert at == len(dataset.val) == len(dataset.val_relations)
    assert seen == set(RELATIONS)


def test_the_cache_is_used_and_follows_what_matters(tmp_path, monkeypatch):
    config = text_config(tmp_path, "some text, " * 50, vocab_size=258)
    first = prepare(config, tmp_path / "cache")
    (tmp_path / "0.txt").rename(tmp_path / "7.txt")
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "build", None)  # building again would fail
        assert prepare(config, tmp_path / "cache").hash == first.hash == first.folder.name
    hashes = {prepare(replace(config, **change), tmp_path / "cache").hash for change in CHANGES}
    (tmp_path / "7.txt").write_text("some other text, " * 50)
    hashes.add(prepare(config, tmp_path / "cache").hash)
    assert len(hashes - {first.hash}) == len(CHANGES) + 1


CHANGES = ({"vocab_size": 259}, {"val_fraction": 0.2}, {"tokenizer": "char"})


def test_the_environment_names_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path / "there"))
    assert prepare(TALES).folder.parent == tmp_path / "there"


def test_what_was_built_is_read_only(tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        prepare(TALES, tmp_path).train[0] = 1


def test_what_killed_builds_left_is_removed_after_a_day(tmp_path):
    for name, age in (("old", 90_000), ("new", 60)):
        (tmp_path / f".building-{name}").mkdir()
        os.utime(tmp_path / f".building-{name}", (time.time() - age,) * 2)
    folder = prepare(TALES, tmp_path).folder
    assert held(tmp_path) == {folder, tmp_path / ".building-new"}


def test_a_corpus_over_the_training_limit_lends_the_tokenizer_a_share_of_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "TRAIN_CHARS", 300)
    config = text_config(tmp_path, "ab" * 300, "cd" * 300, vocab_size=261)
    dataset = prepare(config, tmp_path / "cache")
    merged = {dataset.tokenizer.decode([i]) for i in range(256, 260)}
    assert {text[:2] for text in merged} >= {"ab", "cd"}
    assert dataset.train_chars + dataset.val_chars == 1200


def test_the_settings_load_without_the_libraries():
    program = "import sys, data.config; sys.exit(bool({'torch', 'datasets', 'tiktoken', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_a_full_disk_is_a_failure_with_a_mend(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "sync", full)
    with pytest.raises(WorkError, match="No space left on device; make room, or set HEADCOUNT_CACHE"):
        prepare(TALES, tmp_path)
    assert held(tmp_path) == set()


@pytest.mark.parametrize("name", ["train.bin", "val_relations.bin", "meta.json", "tokenizer/bpe.tiktoken"])
def test_damage_is_found_and_mended(tmp_path, name, caplog):
    folder = prepare(TALES, tmp_path).folder
    whole = (folder / name).read_bytes()
    for damaged in (whole[:-9], whole[:-9] + b"?" * 9, b"{}", None):
        (folder / name).unlink()
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            load_dataset(folder)
        prepare(TALES, tmp_path)
        assert "building it again" in caplog.messages[-1]
        assert (folder / name).read_bytes() == whole
    assert held(tmp_path) == {folder}


def test_processes_that_build_at_once_all_end_well(tmp_path):
    root = Path(__file__).parents[2]
    program = f"from data.dataset import *; print(prepare({TALES!r}, Path({str(tmp_path)!r})).train.sum())"
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(3)]
    found = {int(process.communicate(timeout=60)[0]) for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    dataset = prepare(TALES, tmp_path)
    assert found == {int(dataset.train.sum())}
    assert held(tmp_path) == {dataset.folder}


def test_a_block_too_long_for_a_split_is_refused_with_the_longest_that_fits(tmp_path):
    dataset = prepare(text_config(tmp_path, "x" * 100, tokenizer="char"), tmp_path / "cache")
    dataset.require(9)
    with pytest.raises(InputError, match=r"model.block_size: 10 .* validation split has 10 tokens; at most 9 "):
        dataset.require(10)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"val_fraction": 1e-17}, "data.val_fraction: 1e-17 of 600 characters leaves a split empty"),
        ({"tokenizer": "words"}, "data.tokenizer 'words'"),
        ({"vocab_size": 256}, "data.vocab_size 256"),
        ({"vocab_size": 9999}, "data.vocab_size: 9999 is more than this corpus can fill"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, settings, said):
    config = replace(text_config(tmp_path, "a text\n" * 85 + "more."), **{"vocab_size": 257} | settings)
    with pytest.raises(InputError, match=said):
        prepare(config, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match=r"cannot write to the cache folder .*file"):
        prepare(TALES, tmp_path / "file" / "cache")
