"""Lost if these fail: documents that are none, a validation split not the user's, or a row that nobody finds."""

import json
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.config import DataConfig, check_data
from data.corpus import SEPARATORS, chunked, parted
from data.dataset import prepare
from data.readers import as_text, values_at
from data.sources import open_corpus
from data.tokenizers import END_OF_TEXT
from errors import InputError
from tests.data.test_dataset import decoded
from tests.data.test_sources import documents, texts

ROW = '{"text": "to be or not"}\n'


def file(tmp_path, name: str, content: str | bytes):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.parametrize(
    ("content", "separator", "expected"),
    [
        ("ann\nbob\n\ncyd", "line", ["ann", "bob", "cyd"]),
        ("ann\r\nbob\r\n", "line", ["ann", "bob"]),
        ("a\nb\n\n\nc\n \t\n  d\n", "blank", ["a\nb", "c", "  d\n"]),
        ("a\r\nb\r\n\r\nc", "blank", ["a\r\nb", "c"]),
        ("one\n<|endoftext|>\ntwo<|endoftext|>three", END_OF_TEXT, ["one", "two", "three"]),
        ("\n\n<|endoftext|>\n", END_OF_TEXT, []),
        ("one---two", "@@@", ["one---two"]),
        ("a.b|c", "|", ["a.b", "c"]),
        ("a\n\n\nb", "\n\n", ["a", "\nb"]),
    ],
)
def test_a_separator_parts_documents(tmp_path, content, separator, expected):
    path = file(tmp_path, "a.txt", content)
    assert [d for d in documents(open_corpus(config(path, separator=separator))) if d.strip()] == expected


@settings(max_examples=150, deadline=None)
@given(st.text("ab \r\n\t|", max_size=60), st.sampled_from(["line", "blank", "|", "\n", "b|"]), st.integers(1, 9))
def test_documents_do_not_depend_on_how_the_text_is_read(text, separator, size):
    blocks = [text[i : i + size] for i in range(0, len(text), size)]
    whole = list(chunked(parted([text], separator)))
    assert list(chunked(parted(blocks, separator))) == whole
    assert all(not re.search(SEPARATORS[separator], chunk.text) for chunk in whole if separator in SEPARATORS)


def config(path, **settings) -> DataConfig:
    made = DataConfig(source="text", path=str(path), **settings)
    check_data(made)
    return made


def test_a_folder_is_its_files(tmp_path):
    file(tmp_path, "f/b.txt", "two\r\n")
    file(tmp_path, "f/a.txt", "one")
    file(tmp_path, "f/.hidden", "three")
    assert texts(tmp_path / "f") == ["one", "two\r\n"]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="is an empty folder"):
        open_corpus(config(tmp_path / "none"))


def test_a_folder_of_texts_given_as_a_dataset_has_its_splits_and_whole_files(tmp_path):
    file(tmp_path, "d/train.txt", "one\r\n\ntwo\n")
    file(tmp_path, "d/valid.txt", "held\nout\n")
    corpus = open_corpus(DataConfig(source="hub", path=str(tmp_path / "d")))
    assert (documents(corpus), documents(corpus, "val")) == (["one\r\n\ntwo\n"], ["held\nout\n"])
    lines = open_corpus(DataConfig(source="hub", path=str(tmp_path / "d"), separator="line"))
    assert documents(lines) == ["one", "two"]


def test_what_to_validate_on_can_be_named(tmp_path):
    train, val = file(tmp_path, "t.txt", "to be " * 50), file(tmp_path, "v.txt", "or not" * 9)
    held = config(train, val_path=str(val), tokenizer="char")
    dataset = prepare(held, tmp_path / "cache")
    assert decoded(dataset) == (
        f"{END_OF_TEXT}{'to be ' * 50}{END_OF_TEXT}",
        f"{END_OF_TEXT}{'or not' * 9}{END_OF_TEXT}",
    )
    assert dataset.hash != prepare(replace(held, val_path=None), tmp_path / "cache").hash
    file(tmp_path, "v.txt", "or else" * 9)
    assert prepare(held, tmp_path / "cache").hash != dataset.hash
    for path, said in {
        "nowhere.txt": "data.val_path: no such file",
        "t.txt": "data.val_path holds the text of data.path",
    }.items():
        with pytest.raises(InputError, match=said):
            open_corpus(config(train, val_path=str(tmp_path / path)))
    rows = file(tmp_path, "t.jsonl", ROW * 9)
    with pytest.raises(InputError, match=r"data.val_path: .* is of another kind than data.path \(.jsonl, text\)"):
        open_corpus(config(train, val_path=str(rows)))
    with pytest.raises(InputError, match=r"data.val_path: no such file: file:.*; .* without file://"):
        open_corpus(config(train, val_path=f"file://{train}"))


def test_validation_can_be_bounded_without_preparing_again(tmp_path):
    whole = prepare(DataConfig(n_stories=60, vocab_size=300), tmp_path)
    short = prepare(DataConfig(n_stories=60, vocab_size=300, val_tokens=500), tmp_path)
    assert (short.hash, short.folder) == (whole.hash, whole.folder)
    assert (short.val == whole.val[:500]).all()
    assert (short.val_relations == whole.val_relations[:500]).all()
    text = short.tokenizer.decode([i for i in short.val if i != short.tokenizer.eot])
    assert (short.val_chars, short.val_bytes) == (len(text), len(text.encode()))
    assert len(prepare(DataConfig(n_stories=60, vocab_size=300, val_tokens=10**9), tmp_path).val) == len(whole.val)
    with pytest.raises(InputError, match=r"validation split has 500 tokens; .*data.val_tokens"):
        short.require(500)


def test_keys_that_mean_nothing_are_refused(tmp_path):
    text, rows = file(tmp_path, "a.txt", "text"), file(tmp_path, "a.jsonl", ROW)
    for keys, said in (
        ({"source": "tales", "path": "x"}, "data.path means nothing for source: tales"),
        ({"source": "tales", "val_path": "x"}, "data.val_path means nothing for source: tales, only for text"),
        (
            {"source": "package", "path": "torch", "separator": "line"},
            "data.separator means nothing for source: package",
        ),
        ({"source": "text", "path": str(rows), "separator": "line"}, "data.separator means nothing for .jsonl files"),
        ({"source": "text", "path": str(text), "separator": ""}, "data.separator is empty"),
        (
            {"source": "text", "path": str(text), "tokenizer": "init"},
            "data.tokenizer: init takes the tokenizer of --init",
        ),
    ):
        with pytest.raises(InputError, match=said):
            prepare(DataConfig(**keys), tmp_path / "cache")


GOOD = {
    "a.ndjson": ROW * 3,
    "a.jl": ROW * 3,
    "upper.JSONL": "\ufeff" + (ROW + "\n").replace("\n", "\r\n") * 3,
    "array.jsonl": "[" + ",\n".join([ROW] * 3) + "]",
    "array.json": json.dumps([json.loads(ROW)] * 3),
    "pretty.json": json.dumps([json.loads(ROW)] * 3, indent=2),
    "lines.json": ROW * 3,
    "strings.jsonl": '"to be or not"\n' * 3,
    "lacking.jsonl": '{"id": 1}\n' + ROW * 3 + '{"text": null}\n',
    "a.csv": '\ufefftext,id\n"to be or not",1\n\nto be or not,2\n"to be or not","3\n4"\n',
    "semicolon.csv": "id;text\n" + "1;to be or not\n" * 3,
    "windows.csv": "id,text\r\n" + "1,to be or not\r\n" * 3,
    "a.tsv": "id\ttext\n" + "1\tto be or not\n" * 3,
}


@pytest.mark.parametrize("name", GOOD)
def test_rows_are_documents_however_they_are_written(tmp_path, name):
    assert texts(file(tmp_path, name, GOOD[name])) == ["to be or not"] * 3


def test_a_field_of_a_table_is_its_text_to_the_letter(tmp_path):
    written = 'id,text\n1,"a ""b"", c\r\n d"\n2,NA\n3,007\n'
    assert texts(file(tmp_path, "a.csv", written)) == ['a "b", c\r\n d', "NA", "007"]
    long = "to be " * 50_000  # more than the csv module takes by default
    assert texts(file(tmp_path, "b.csv", f"text\n{long}\n")) == [long]


BAD = {
    "cut.jsonl": (ROW * 2 + '{"text": "a\n' + ROW, r"cut.jsonl, line 3: not JSON \(.*; mend it, or .* skip"),
    "deep.jsonl": (ROW + "[" * 100_000, "deep.jsonl, line 2: nested too deep"),
    "latin.jsonl": (ROW.encode() + '{"text": "é"}\n'.encode("latin-1"), "latin.jsonl, line 2: not UTF-8"),
    "half.jsonl": (ROW + '{"text": "\\ud83d"}\n', r"half.jsonl, line 2: half of a surrogate pair \(\\ud83d\).*replace"),
    "nul.jsonl": (ROW + '{"text": "a\\u0000"}\n', "nul.jsonl, line 2: the text holds a NUL"),
    "number.jsonl": (ROW + '{"text": 7}\n', "number.jsonl, line 2: a number, not text; mend it"),
    "list.jsonl": ('{"id": 1, "text": ["a"]}\n', "line 1: a list, not text; give a column of text; the columns are id"),
    "field.jsonl": ('{"text": {"body": "a"}}\n', "line 1: an object, not text; .* the columns are text.body"),
    "other.jsonl": ('{"id": 1, "data": {"body": "a"}}\n', "no column 'text' in .*; the columns are id, data.body"),
    "export.json": ('{"data": [{"text": "a"}]}', "no column 'text' in .*; the columns are data.text"),
    "bad.json": ('{"data": [\n{"text": }', "cannot read .*bad.json: not JSON .*line 2"),
    "nothing.jsonl": ('{"text": null}\n{"text": ""}\n', "there is no text in .*nothing.jsonl to train on"),
    "empty.csv": ("", "empty.csv is empty"),
    "header.csv": ("id,text\n", "there is no text in .*header.csv"),
    "none.csv": ("1,to be\n2,or not\n", r"no column 'text' in .*none.csv; the columns are 1, to be \(the first line"),
    "comma.csv": (
        "id,text\n1,b\n2,to be, or\n",
        "comma.csv, line 3: 3 fields, where the first line names 2: .* quotes",
    ),
    "open.csv": ('id,text\n1,b\n2,"to be\n3,c\n', "cannot read .*open.csv, from line 3: unexpected end"),
    "latin.csv": ("id,text\n1,a\n2,é\n".encode("latin-1"), "latin.csv is not UTF-8: line 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_cannot_be_read_is_named_by_file_and_line(tmp_path, name):
    content, said = BAD[name]
    with pytest.raises(InputError, match=f"^data..*{said}") as refusal:
        prepare(config(file(tmp_path, name, content), tokenizer="char"), tmp_path / "cache")
    assert "\n" not in str(refusal.value)


def test_the_file_of_a_glob_is_named(tmp_path):
    for i in range(3):
        file(tmp_path, f"{i}.jsonl", ROW * 9 + "nonsense\n" * (i == 1))
    with pytest.raises(InputError, match=r"1.jsonl, line 10: not JSON"):
        texts(tmp_path / "*.jsonl")


def test_rows_that_cannot_be_read_can_be_left_out_or_mended(tmp_path):
    bad = file(tmp_path, "a.jsonl", ROW + '{"text": "half \\ud83d"}\n' + ROW + "nonsense\n" + ROW)
    dataset = prepare(config(bad, tokenizer="char", bad_rows="skip"), tmp_path / "cache")
    assert dataset.n_documents == 3
    assert dataset.notes == [f"{bad}: 2 of 5 rows left out, as they cannot be read (data.bad_rows: skip)"]
    half = file(tmp_path, "b.jsonl", ROW + '{"text": "half \\ud83d, whole \\ud83d\\ude00"}\n')
    assert texts(half, bad_rows="replace") == ["to be or not", "half \ufffd, whole \U0001f600"]
    with pytest.raises(InputError, match="line 4: not JSON"):
        texts(bad, bad_rows="replace")
    with pytest.raises(InputError, match=r"no row of .*c.jsonl can be read, as for the first of them: not JSON"):
        texts(file(tmp_path, "c.jsonl", "nonsense\n" * 9), bad_rows="skip")


def test_fields_inside_fields_are_columns(tmp_path):
    nested = file(tmp_path, "a.jsonl", '{"data": {"body": {"text": "a"}}, "x": 1}\n{"data": null}\n')
    assert texts(nested, column="data.body.text") == ["a"]
    assert texts(file(tmp_path, "b.jsonl", '{"a.b": "c"}\n'), column="a.b") == ["c"]
    export = file(
        tmp_path, "c.json", json.dumps({"name": "chat", "messages": [{"text": "a"}, {"text": ["b", {"text": "c"}]}]})
    )
    assert texts(export, column="messages.text") == ["a", "bc"]


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}, {"role": "user", "content": "Bye"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (CHAT, "user: Hi\nassistant: \nuser: Bye"),
        ([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}], "human: Hi\ngpt: Yes"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "user: ab"),
        (["see ", {"type": "link", "text": "this"}], "see this"),
        ("text", "text"),
        (None, None),
    ],
)
def test_lists_of_messages_are_read(value, expected):
    assert as_text(value) == expected


@pytest.mark.parametrize(
    "value", [3, True, ["a", "b"], [], {"text": "a"}, [{"image": "a"}], [["a"]], [3, {"text": "a"}]]
)
def test_what_is_no_text_is_no_text(value):
    with pytest.raises(TypeError, match="not text"):
        as_text(value)


def test_lists_on_the_way_to_a_column_give_a_document_an_element():
    assert list(values_at({"a": [{"b": 1}, {"b": [2]}, {}]}, "a.b")) == [1, [2]]
    with pytest.raises(TypeError, match="a number, not an object with columns"):
        list(values_at(3, "text"))


def test_a_given_tokenizer_is_used_and_shapes_the_hash(tmp_path):
    learnt = prepare(DataConfig(n_stories=40, vocab_size=300), tmp_path).tokenizer
    path = file(tmp_path, "a.txt", "The old man had a boat. " * 60)
    init = config(path, tokenizer="init")
    dataset = prepare(init, tmp_path, given=learnt)
    assert dataset.tokenizer.definition == learnt.definition
    assert decoded(dataset)[0].startswith("<|endoftext|>The old man had a boat.")
    other = prepare(DataConfig(n_stories=50, vocab_size=300), tmp_path).tokenizer
    assert prepare(init, tmp_path, given=other).hash != dataset.hash == prepare(init, tmp_path, given=learnt).hash


def test_the_same_rows_in_two_formats_are_the_same_documents(tmp_path):
    random.seed(0)
    rows = ["".join(random.choices('ab ",;\n\té水', k=30)) for _ in range(50)]
    quoted = "".join('"{}",1\n'.format(row.replace('"', '""')) for row in rows)
    assert texts(file(tmp_path, "a.csv", "text,n\n" + quoted)) == rows
    assert texts(file(tmp_path, "a.jsonl", "".join(json.dumps({"text": row}) + "\n" for row in rows))) == rows
