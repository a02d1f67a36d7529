"""Lost if these fail: text that reaches training is not the text in the file, or a bad file is found too late."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.config import DataConfig
from data.sources import open_corpus
from errors import InputError


def documents(corpus, split="train") -> list[str]:
    """The texts of a corpus, its chunks joined."""
    found, begun = [], ""
    for chunk in corpus.chunks(split):
        begun += chunk.text
        if chunk.ends:
            found.append(begun)
            begun = ""
    assert not begun
    return found


def texts(path, **settings) -> list[str]:
    return documents(open_corpus(DataConfig(source="text", path=str(path), **settings)))


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda t: t[0] != "\ufeff"))
def test_a_document_is_its_file_byte_for_byte(text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.txt")
        file.write_bytes(text.encode("utf-8"))
        assert texts(file) == [text]


@pytest.mark.parametrize("data", [b"a\r\nb\rc\n", b"no newline", b"a\xef\xbb\xbfmark\x0c\x1c\xc2\x85end\n\n"])
def test_line_ends_and_marks_survive(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert texts(tmp_path / "a.txt")[0].encode("utf-8") == data


def test_a_glob_gives_its_files_sorted_and_a_literal_name_comes_before_a_glob(tmp_path):
    for name in ("b.txt", "a.txt", "c/d.txt", "[a].txt", "empty.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("" if name == "empty.txt" else name)
    (tmp_path / "folder.txt").mkdir()
    assert texts(tmp_path / "**" / "?.txt") == ["a.txt", "b.txt", "c/d.txt"]
    assert texts(tmp_path / "*.txt") == ["[a].txt", "a.txt", "b.txt"]
    assert texts(tmp_path / "[a].txt") == ["[a].txt"]


def test_the_fingerprint_follows_the_content_and_not_the_name(tmp_path):
    def fingerprint(name, content):
        (tmp_path / name).write_text(content)
        return open_corpus(DataConfig(source="text", path=str(tmp_path / name))).fingerprint

    assert fingerprint("a", "text") == fingerprint("b", "text") != fingerprint("b", "text.")


def test_what_cannot_be_read_is_named_before_anything_is_built(tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, said in {
        "latin": r"latin is not UTF-8: byte 0xe9 at offset 3 .*; save it as UTF-8",
        "missing": "no such file: .*missing",
        "*.md": r"no file matches .*\*\.md",
        "pipe": "pipe is not a regular file",
        "empty": "empty is empty",
    }.items():
        with pytest.raises(InputError, match="^data.path: .*" + said):
            open_corpus(DataConfig(source="text", path=os.path.join(tmp_path, name)))


def test_settings_that_contradict_are_refused():
    with pytest.raises(InputError, match=r"data.n_stories: 1"):
        open_corpus(DataConfig(n_stories=1))


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("before")
    corpus = open_corpus(DataConfig(source="text", path=str(file)))
    file.write_text("after!")
    os.utime(file, (1, 1))
    with pytest.raises(InputError, match="changed while"):
        list(corpus.chunks())


def test_tales_are_documents_with_ranges_inside_them():
    corpus = open_corpus(DataConfig(n_stories=5))
    told = list(corpus.chunks())
    assert len(told) == 5
    assert told == list(corpus.chunks())
    assert all(0 <= s.start < s.end <= len(d.text) for d in told for s in d.spans)
