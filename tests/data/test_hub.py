"""Lost if these fail: rows that are not the dataset's, a held-out split trained on, or an error that names no mend."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from data import hub as hub_module
from data.config import DataConfig, check_data
from data.dataset import prepare
from data.sources import open_corpus
from data.tokenizers import END_OF_TEXT, BPETokenizer
from errors import InputError, WorkError
from tests.data.hub import COMMIT, serving
from tests.data.memory import PEAK, linux
from tests.data.test_dataset import held
from tests.data.test_sources import documents

ROOT = Path(__file__).parents[2]
ROWS = [f"row {i}: é\r\n水, the end" for i in range(250)]
HELD = [f"held out {i}" for i in range(20)]


def parquet(file: Path, rows: list, **columns) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(len(rows))), "text": rows, **columns}), file)


def jsonl(file: Path, rows: list) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"n": i, "text": row}) + "\n" for i, row in enumerate(rows)))


@pytest.fixture
def snapshot(tmp_path) -> Path:
    """A dataset as a hub gives it: shards, splits and a subset, named in the card."""
    folder = tmp_path / "snapshot"
    parquet(folder / "data" / "train-00000-of-00002.parquet", ROWS[:100])
    parquet(folder / "data" / "train-00001-of-00002.parquet", ROWS[100:])
    parquet(folder / "data" / "validation-00000-of-00001.parquet", HELD)
    parquet(folder / "small" / "train.parquet", ROWS[:5])
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
        "  - split: validation\n    path: data/validation-*\n"
        "- config_name: small\n  data_files:\n  - split: train\n    path: small/train.parquet\n---\n"
    )
    return folder


def hub(path, **settings) -> DataConfig:
    return DataConfig(source="hub", path=str(path), **settings)


def test_a_folder_gives_its_splits_in_order(snapshot):
    corpus = open_corpus(hub(snapshot))
    assert corpus.splits == ("train", "val")
    assert documents(corpus) == ROWS
    assert documents(corpus, "val") == HELD


def test_a_subset_and_another_split_can_be_asked_for(snapshot):
    small = open_corpus(hub(snapshot, config="small"))
    assert (small.splits, documents(small)) == (("train",), ROWS[:5])
    swapped = open_corpus(hub(snapshot, split="validation", val_split="train"))
    assert (documents(swapped), documents(swapped, "val")) == (HELD, ROWS)
    assert open_corpus(hub(snapshot, val_split=None)).splits == ("train",)


def test_a_folder_with_no_card_is_read_by_its_names(tmp_path):
    jsonl(tmp_path / "d" / "train.jsonl", ROWS)
    jsonl(tmp_path / "d" / "test.jsonl", HELD)
    corpus = open_corpus(hub(tmp_path / "d"))
    assert (documents(corpus), documents(corpus, "val")) == (ROWS, HELD)


@pytest.mark.parametrize("write", [parquet, jsonl])
def test_rows_of_files_are_documents_and_empty_ones_are_left_out(tmp_path, write):
    name = f"{write.__name__}"
    write(tmp_path / f"b.{name}", ROWS[100:])
    write(tmp_path / f"a.{name}", [*ROWS[:99], "", None, ROWS[99]])
    corpus = open_corpus(DataConfig(source="text", path=str(tmp_path / f"*.{name}")))
    assert corpus.splits == ("train",)
    assert documents(corpus) == ROWS


def test_a_column_can_be_named_for_whatever_files_a_glob_finds(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"story": "one"}\n')
    (tmp_path / "[1].jsonl").write_text('{"story": "two"}\n')
    (tmp_path / "b.txt").write_text("text")
    for path, rows in (("a.*", ["one"]), ("*.json?", ["two", "one"]), ("[1].jsonl", ["two"])):
        config = DataConfig(source="text", path=str(tmp_path / path), column="story")
        check_data(config)
        assert documents(open_corpus(config)) == rows
    config = DataConfig(source="text", path=str(tmp_path / "b.*"), column="story")
    check_data(config)
    with pytest.raises(InputError, match=r"data.column means nothing for the text files"):
        open_corpus(config)


def test_the_held_out_split_is_validated_on_and_never_trained_on(snapshot, tmp_path):
    dataset = prepare(hub(snapshot, vocab_size=300), tmp_path / "cache")
    text = dataset.tokenizer.decode
    assert text(dataset.val) == END_OF_TEXT + "".join(row + END_OF_TEXT for row in HELD)
    assert text(dataset.train) == END_OF_TEXT + "".join(row + END_OF_TEXT for row in ROWS)
    assert dataset.n_documents == len(ROWS) + len(HELD)
    assert (dataset.train_chars, dataset.val_chars) == (sum(map(len, ROWS)), sum(map(len, HELD)))
    assert dataset.val_bytes == sum(len(row.encode()) for row in HELD)


def test_a_budget_is_shared_between_the_splits(snapshot, tmp_path):
    dataset = prepare(hub(snapshot, tokenizer="char", max_chars=1000), tmp_path / "cache")
    assert (dataset.train_chars, dataset.val_chars) == (900, 100)
    dataset = prepare(hub(snapshot, tokenizer="char", max_tokens=1000), tmp_path / "cache")
    assert (len(dataset.train), len(dataset.val)) == (901, 101)
    assert dataset.tokenizer.decode(dataset.val).startswith(END_OF_TEXT + "held out 0" + END_OF_TEXT)


def test_a_folder_is_known_by_its_content(snapshot, tmp_path):
    first = prepare(hub(snapshot), tmp_path / "cache").hash
    snapshot.rename(tmp_path / "moved")
    assert prepare(hub(tmp_path / "moved"), tmp_path / "cache").hash == first
    parquet(tmp_path / "moved" / "data" / "train-00001-of-00002.parquet", ROWS[100:-1])
    assert prepare(hub(tmp_path / "moved"), tmp_path / "cache").hash != first


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"column": "story"}, "data.column: there is no column 'story' in .*; the columns are n, text"),
        (
            {"column": "n"},
            "data.column: 'n' in .*-00000-of-00002.parquet, row 1: a number, not text; give a column of text",
        ),
        ({"split": "training"}, "data.split: .* has no split 'training'; it has train, validation"),
        ({"val_split": "dev"}, "data.val_split: .* has no split 'dev'; it has train, validation"),
        ({"config": "large"}, "data.config: .*large.*default.*small"),
    ],
)
def test_what_a_dataset_has_not_is_named_with_what_it_has(snapshot, tmp_path, settings, said):
    with pytest.raises(InputError, match=said):
        prepare(hub(snapshot, **settings), tmp_path / "cache")
    assert held(tmp_path / "cache") == set()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": \n',
            "data.path: .*a.jsonl, line 2: not JSON .*; mend it, or .*data.bad_rows: skip",
        ),
        ("a.jsonl", b"", "a.jsonl"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": 1}\n',
            "data.column: 'text' in .*a.jsonl, line 2: a number, not text; mend it, or leave",
        ),
        ("a.jsonl", b'{"text": ["a"]}\n', "data.column: 'text' in .*a.jsonl, line 1: a list, not text"),
        ("a.parquet", b"PAR1 nothing", "cannot read .*a.parquet: .*Parquet"),
    ],
)
def test_files_that_are_not_what_they_are_named_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as refusal:
        prepare(DataConfig(source="text", path=str(tmp_path / name)), tmp_path / "cache")
    assert str(refusal.value).count("\n") <= 1


@pytest.mark.parametrize("source", ["text", "hub"])
def test_other_columns_may_differ_from_row_to_row(tmp_path, source):
    """As the metadata of real corpora does, here after the 10 MB that `datasets` takes a file's columns from."""
    rows = ["words " * 2000] * 1000 + ["the last"]
    metas = [{}] * 1000 + [{"source": {"name": "x"}, "score": 1}]
    lines = [json.dumps({"text": row, "id": 7} | meta) + "\n" for row, meta in zip(rows, metas, strict=True)]
    file = tmp_path / "d" / "train.jsonl"
    file.parent.mkdir()
    file.write_text("".join(lines))
    path = file if source == "text" else file.parent
    assert documents(open_corpus(DataConfig(source=source, path=str(path)))) == rows


@pytest.mark.parametrize("source", ["text", "hub"])
def test_files_may_have_other_columns(tmp_path, source):
    parquet(tmp_path / "train-0.parquet", ROWS[:9])
    parquet(tmp_path / "train-1.parquet", ROWS[9:20], url=["x"] * 11)
    path = tmp_path / "train*" if source == "text" else tmp_path
    assert documents(open_corpus(DataConfig(source=source, path=str(path)))) == ROWS[:20]


@linux
@pytest.mark.parametrize("source", ["text", "hub", "copy of a hub's"])
def test_memory_stays_flat_over_a_parquet_file(tmp_path, source):
    """A file of 120 MB of noise, in row groups of 2 MB."""
    file = tmp_path / "d" / "train.parquet"
    file.parent.mkdir()
    with pyarrow.parquet.ParquetWriter(file, pyarrow.schema([("text", pyarrow.string())])) as writer:
        for _ in range(60):
            writer.write_table(pyarrow.table({"text": [os.urandom(1000).hex() for _ in range(1000)]}))
    source, path = {"text": ("text", file), "hub": ("hub", file.parent)}.get(source, ("hub", "owner/name"))
    program = (
        "import datasets, pyarrow.parquet\nfrom data.config import DataConfig\nfrom data.sources import open_corpus\n"
        f"{PEAK}"
        f"corpus = open_corpus(DataConfig(source={source!r}, path={str(path)!r}))\n"
        "chunks = corpus.chunks(); next(chunks); start = peak(); print(sum(1 for _ in chunks), peak() - start)"
    )
    with serving(file.parent) as address:
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")}
        command = [sys.executable, "-c", program]
        for _ in range(2 if path == "owner/name" else 1):  # making the copy is not what is measured
            done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    n, grown = done.stdout.split()
    assert int(n) == 59_999
    assert float(grown) < 80


def test_files_of_two_kinds_are_refused(tmp_path):
    jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match=r"files of several kinds \(.jsonl, text\)"):
        open_corpus(DataConfig(source="text", path=str(tmp_path / "a.*")))


def test_a_folder_whose_name_is_a_pattern_is_refused_and_not_searched_for(snapshot, tmp_path):
    snapshot.rename(tmp_path / "s[1]")
    with pytest.raises(InputError, match=r"s\[1\]: .* rename it"):
        open_corpus(hub(tmp_path / "s[1]"))


def test_a_folder_that_is_not_there_is_not_taken_for_a_name(tmp_path):
    with pytest.raises(InputError, match=r"no such folder: .*nowhere"):
        open_corpus(hub(tmp_path / "nowhere"))


PROGRAM = """
import json, sys
from data.config import DataConfig
from data.dataset import prepare
from errors import InputError

for settings in json.loads(sys.argv[1]):
    try:
        dataset = prepare(DataConfig(source="hub", path="owner/name", vocab_size=300, **settings))
        text = dataset.tokenizer.decode
        meta = json.loads((dataset.folder / "meta.json").read_text())
        print(json.dumps([text(dataset.train), text(dataset.val), dataset.hash, meta["origin"]["commit"]]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def in_process(tmp_path, *settings, cache="cache", **environment) -> list:
    """What preparing with each of these settings gives, in a process of its own: the libraries look at their
    environment once, when they are imported."""
    base = {"HEADCOUNT_CACHE": str(tmp_path / cache), "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(settings)],
        cwd=ROOT,
        env=os.environ | base | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_dataset_of_the_hub_streamed_copied_and_offline(snapshot, tmp_path):
    train, val = ("".join(row + END_OF_TEXT for row in rows) for rows in (ROWS, HELD))
    with serving(snapshot) as address:
        streamed, small, missing, of_commit = in_process(
            tmp_path,
            {"streaming": True},
            {"streaming": True, "config": "small", "val_fraction": 0.2, "tokenizer": "char"},
            {"revision": "v9"},
            {"streaming": True, "revision": COMMIT},
            HF_ENDPOINT=address,
        )
        (copied,) = in_process(tmp_path, {}, cache="other", HF_ENDPOINT=address)
    assert streamed == copied
    assert streamed[:2] == [END_OF_TEXT + train, END_OF_TEXT + val]
    assert streamed[3] == COMMIT
    assert of_commit[:2] == streamed[:2]
    assert small[0] + small[1].removeprefix(END_OF_TEXT) == END_OF_TEXT + "".join(r + END_OF_TEXT for r in ROWS[:5])
    assert "data.revision: owner/name has no branch, tag or commit 'v9'" in missing

    (prepared,) = in_process(tmp_path, {}, HF_ENDPOINT="http://127.0.0.1:9")  # needs no network
    assert prepared == streamed
    again, another, subset = in_process(
        tmp_path, {}, {"revision": "b" * 40}, {"config": "small"}, cache="third", HF_HUB_OFFLINE="1"
    )
    assert again == copied  # from the copy that `datasets` keeps
    assert f"data.revision: HF_HUB_OFFLINE is set, and the copy here is of commit {COMMIT}" in another
    assert "config 'small'" in subset  # names the subset that no copy is of


def test_a_name_that_the_hub_does_not_know_is_said(monkeypatch, tmp_path, snapshot):
    with serving(snapshot) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(InputError, match="the hub has no dataset 'owner/nothing'"):
            prepare(hub("owner/nothing"), tmp_path / "cache")
        with pytest.raises(InputError, match="'own er/name' is no name of a dataset"):
            prepare(hub("own er/name"), tmp_path / "cache")


def test_a_hub_out_of_reach_names_the_choices_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError) as refusal:
        prepare(hub("owner/name"), tmp_path / "cache")
    assert "data.path: cannot reach the hub for owner/name (connection refused)" in str(refusal.value)
    assert all(choice in str(refusal.value) for choice in ("HF_HUB_OFFLINE=1", "a folder", "package", "text", "tales"))
    assert str(refusal.value).count("\n") == 1


def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub_module, "TIMEOUT", 0.2)
        with pytest.raises(InputError, match=r"cannot reach the hub for owner/name \(no answer\)"):
            prepare(hub("owner/name"), tmp_path / "cache")
        monkeypatch.setattr(hub_module, "TIMEOUT", 60)
        monkeypatch.setattr(hub_module, "PATIENCE", 0.2)
        with pytest.raises(InputError, match="cannot reach the hub for owner/name"):
            prepare(hub("owner/name"), tmp_path / "cache")


def test_what_is_kept_offline_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set, and `datasets` keeps no copy of owner/name here"):
        prepare(hub("owner/name"), tmp_path / "cache")


def test_a_hub_that_is_lost_while_reading_is_a_failure_that_can_go_on(snapshot, tmp_path, monkeypatch):
    read = hub_module.Hub.chunks

    def lost(self, split="train"):
        with hub_module._complaints(self.config, reading=True):
            for number, piece in enumerate(read(self, split)):
                if number == 200:
                    raise ConnectionError("timed out")
                yield piece

    monkeypatch.setattr("data.tokenise.BATCH_CHARS", 300)
    monkeypatch.setattr("data.prepare.BPETokenizer.of_tiktoken", lambda _: BPETokenizer.train(ROWS, 300))
    config = hub(snapshot, tokenizer="gpt2")
    with monkeypatch.context() as patch:
        patch.setattr(hub_module.Hub, "chunks", lost)
        with pytest.raises(WorkError, match=r"the hub was lost .*\(no answer\); the same command goes on"):
            prepare(config, tmp_path / "cache")
    assert list((tmp_path / "cache").glob(".building-*/train-shards/*.npz"))
    assert prepare(config, tmp_path / "cache").train_chars == sum(map(len, ROWS))
