"""Lost if these fail: rows that are not the dataset's, a held-out split trained on, or an error that names no mend."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from data.config import DataConfig
from data.packed import prepare
from data.sources import open_corpus
from data.tokenizers import END_OF_TEXT
from errors import InputError
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
        ({"column": "story"}, "data.column: there is no column 'story'; the columns are n, text"),
        ({"column": "n"}, "data.column: 'n' holds int64, not text"),
        ({"split": "training"}, "data.split: .* has no split 'training'; it has train, validation"),
        ({"val_split": "dev"}, "data.val_split: .* has no split 'dev'; it has train, validation"),
        ({"config": "large"}, "data.config: .*large.*default.*small"),
    ],
)
def test_what_a_dataset_has_not_is_named_with_what_it_has(snapshot, tmp_path, settings, said):
    with pytest.raises(InputError, match=said):
        prepare(hub(snapshot, **settings), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "cannot read .*a.jsonl: JSON parse error"),
        ("a.jsonl", b"", "a.jsonl"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 1}\n', "data.column: row 1 of 'text' holds int, not text"),
        ("a.jsonl", b'{"text": ["a"]}\n', "data.column: 'text' holds .*list|not text"),
        ("a.parquet", b"PAR1 nothing", "cannot read .*a.parquet: .*Parquet"),
    ],
)
def test_files_that_are_not_what_they_are_named_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as refusal:
        prepare(DataConfig(source="text", path=str(tmp_path / name)), tmp_path / "cache")
    assert str(refusal.value).count("\n") <= 1


def test_files_of_two_kinds_are_refused(tmp_path):
    jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match=r"files of several kinds \(.jsonl, text\)"):
        open_corpus(DataConfig(source="text", path=str(tmp_path / "a.*")))


def test_a_folder_that_is_not_there_is_not_taken_for_a_name(tmp_path):
    with pytest.raises(InputError, match=r"no such folder: .*nowhere"):
        open_corpus(hub(tmp_path / "nowhere"))


def train(tmp_path, *arguments, **environment):
    """train.py in a process of its own, whose `datasets` reads these environment variables."""
    config = tmp_path / "hub.yaml"
    config.write_text("model: {n_layer: 1, n_embd: 32, block_size: 16}\nsweep: {n_head: [1, 2]}\n")
    settings = ("--data.source", "hub", "--data.vocab_size", "300", "--train.max_iters", "2", "--device", "cpu")
    command = [sys.executable, str(ROOT / "train.py"), str(config), *settings, *arguments]
    environment = {key: str(value) for key, value in environment.items()}
    base = {"HEADCOUNT_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf")}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=os.environ | base | environment
    )


def test_training_from_a_snapshot_offline(snapshot, tmp_path):
    done = train(tmp_path, "--data.path", str(snapshot), HF_HUB_OFFLINE=1)
    assert done.returncode == 0, done.stderr
    assert "val loss" in done.stdout


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": 1}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_hub_out_of_reach_ends_soon_and_names_the_choices_offline(tmp_path, environment):
    begun = time.monotonic()
    done = train(tmp_path, "--data.path", "owner/name", **environment)
    assert done.returncode == 2
    assert "train.py: data.path: cannot reach the hub for owner/name" in done.stderr
    assert all(choice in done.stderr for choice in ("HF_HUB_OFFLINE=1", "a folder", "package", "text", "tales"))
    assert len(done.stderr.strip().splitlines()) == 2
    assert time.monotonic() - begun < 30
