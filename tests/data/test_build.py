"""Lost if these fail: a long preparation that starts again from nothing, eats the memory, or ends in other tokens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data import prepare as build
from data import tokenise
from data.config import DataConfig
from data.corpus import LONGEST, chunked
from data.dataset import prepare
from data.sources import open_corpus
from tests.data.memory import PEAK, linux
from tests.data.test_dataset import held

ROOT = Path(__file__).parents[2]
TALES = DataConfig(n_stories=60, vocab_size=300)


def content(dataset) -> list[bytes]:
    held = [dataset.train, dataset.val, dataset.val_relations]
    return [array.tobytes() for array in held if array is not None]


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(tokenise, "BATCH_CHARS", 2000)


@pytest.fixture
def interrupted(tmp_path, small_batches, monkeypatch):
    """(what comes out undisturbed, a cache with a build that was stopped on its way, the batches tokenised since)."""
    whole = prepare(TALES, tmp_path / "whole")
    encode, calls = tokenise._encode, []

    def counted(*arguments):
        calls.append(1)
        return encode(*arguments)

    def stopping(*arguments):
        if len(calls) == 12:
            raise KeyboardInterrupt
        return counted(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tokenise, "_encode", stopping)
        with pytest.raises(KeyboardInterrupt):
            prepare(TALES, tmp_path / "cache")
    calls.clear()
    monkeypatch.setattr(tokenise, "_encode", counted)
    assert [path.name[:10] for path in held(tmp_path / "cache")] == [".building-"]
    return whole, tmp_path / "cache", calls


def test_an_interrupted_build_goes_on(interrupted, monkeypatch):
    whole, cache, calls = interrupted
    monkeypatch.setattr(build.BPETokenizer, "train", None)  # it is there already
    dataset = prepare(TALES, cache)
    n_batches = sum(1 for _ in tokenise._batches(open_corpus(TALES).chunks()))
    assert n_batches - 12 <= len(calls) < n_batches - 5
    assert content(dataset) == content(whole)
    assert held(cache) == {dataset.folder}
    files = {path.relative_to(dataset.folder) for path in dataset.folder.rglob("*")}
    assert files == {path.relative_to(whole.folder) for path in whole.folder.rglob("*")}


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "gone", "empty"])
def test_a_shard_that_is_not_whole_is_made_again(interrupted, damage):
    whole, cache, _ = interrupted
    (file,) = cache.glob(".building-*/train-shards/000003.npz")
    data = file.read_bytes()
    middle = len(data) // 2
    file.unlink()
    if damage != "gone":
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        file.write_bytes({"cut": data[:middle], "changed": changed, "longer": data + b"{]", "empty": b""}[damage])
    assert content(prepare(TALES, cache)) == content(whole)


def test_a_killed_build_goes_on_in_another_process(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"{i} and {i * i % 9973}, they said.\n" for i in range(100_000)))
    config = DataConfig(source="text", path=str(corpus), vocab_size=300)
    program = (
        "from data import tokenise; tokenise.BATCH_CHARS = 20_000\n"
        f"from data.dataset import *; prepare({config!r}, Path({str(tmp_path / 'cache')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(tmp_path.glob("cache/.building-*/train-shards/*.npz"))) > 20:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    (first,) = tmp_path.glob("cache/.building-*/train-shards/000000.npz")
    begun = first.stat().st_mtime_ns, np.load(first)["ids"]
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    dataset = prepare(config, tmp_path / "cache")
    assert dataset.train[1 : 1 + len(begun[1])].tolist() == begun[1].tolist()
    assert content(dataset) == content(prepare(config, tmp_path / "whole"))


@pytest.mark.parametrize("cores", [1, 3, 8])
def test_the_tokens_do_not_depend_on_the_cores(tmp_path, small_batches, monkeypatch, cores):
    whole = prepare(TALES, tmp_path / "whole")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert content(prepare(TALES, tmp_path / "cache")) == content(whole)


@linux
def test_memory_stays_flat(tmp_path):
    """A document of 48 MB: as bytes, text and tokens at once it would take 144 MB."""
    file = tmp_path / "large.txt"
    with open(file, "w", encoding="utf-8") as out:
        for i in range(1200):
            out.write(f"line {i}, of forty thousand letters: {'lorem ipsum ' * 3330}\n")
    program = (
        "import numpy, rustbpe, tiktoken, requests, tqdm\n"
        "from data.dataset import *\n"
        f"{PEAK}"
        f"start = peak(); prepare(DataConfig(source='text', path={str(file)!r}, tokenizer='char'), "
        f"Path({str(tmp_path / 'cache')!r})); print(peak() - start)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 90


def fragments(text, size):
    yield from ((text[i : i + size], False) for i in range(0, len(text), size))
    yield "", True


def test_text_with_no_place_to_cut_is_cut_all_the_same():
    text = "x" * (2 * LONGEST + 5)
    cut = list(chunked(fragments(text, 1000)))
    assert [len(chunk.text) for chunk in cut] == [LONGEST, LONGEST, 5]
    assert list(chunked([(text, True)])) == cut


def test_cuts_do_not_depend_on_the_fragments():
    text = "".join(f"{i} words, and{' ' * (i % 7)}more.\r\n" for i in range(70_000))
    cut = list(chunked([(text, True)]))
    assert len(cut) > 5
    for size in (1 << 20, 777_777, 12_345):
        assert list(chunked(fragments(text, size))) == cut


def text_config(tmp_path, *texts, **settings):
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text)
    return DataConfig(source="text", path=str(tmp_path / "?.txt"), **settings)


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_budget_takes_the_start_of_the_corpus(tmp_path, tokenizer, small_batches):
    text = "to be or not to be, " * 500
    settings = {"tokenizer": tokenizer, "vocab_size": 264, "val_fraction": 0.2}
    characters = prepare(text_config(tmp_path, text, max_chars=5003, **settings), tmp_path / "cache")
    assert characters.train_chars + characters.val_chars == 5003
    assert decoded(characters) == text[:5003]
    tokens = prepare(text_config(tmp_path, text, max_tokens=701, **settings), tmp_path / "cache")
    assert len(tokens.train) + len(tokens.val) == 701 + (tokens.tokenizer.eot is not None)
    assert text.startswith(decoded(tokens))
    assert len(decoded(tokens)) == tokens.train_chars + tokens.val_chars
    assert abs(len(tokens.val) - 140) < 3
    whole = prepare(text_config(tmp_path, text, max_tokens=10**9, **settings), tmp_path / "cache")
    assert decoded(whole) == text


def decoded(dataset) -> str:
    ids = np.concatenate([dataset.train, dataset.val])
    return dataset.tokenizer.decode(ids[ids != dataset.tokenizer.eot] if dataset.tokenizer.eot is not None else ids)


def test_a_budget_on_documents(tmp_path):
    config = text_config(tmp_path, "aaaa", "bbbb", "cccc", "dddd", tokenizer="char", max_tokens=13, val_fraction=0.3)
    dataset = prepare(config, tmp_path / "cache")
    text = "<|endoftext|>aaaa<|endoftext|>bbbb<|endoftext|>"
    assert dataset.tokenizer.decode(dataset.train) == text
    assert dataset.tokenizer.decode(dataset.val) == "<|endoftext|>ccc"
    assert (dataset.n_documents, dataset.train_chars, dataset.val_chars) == (3, 8, 3)


def test_a_budget_of_tales_keeps_their_relations_in_step(tmp_path):
    dataset = prepare(DataConfig(n_stories=60, vocab_size=300, max_tokens=9000), tmp_path)
    whole = prepare(TALES, tmp_path)
    assert len(dataset.val) == len(dataset.val_relations)
    assert len(dataset.train) + len(dataset.val) == 9000 + 2
    assert set(np.unique(dataset.val_relations)) == set(np.unique(whole.val_relations))
