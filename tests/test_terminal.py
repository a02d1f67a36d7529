"""What is shown stands in its columns whatever the script, and a command that is advised works where it is read."""

import shlex
import sys

import pytest
import wcwidth

from errors import printable
from terminal import command, side_by_side, table, wrap

TEXTS = [
    "中文测试，讲一个故事。" * 6,
    "می\u200cخواهم بنویسم " * 6,
    "una historia corta " * 6,
    "naïve 👩\u200d👩\u200d👧 café " * 6,
    "x" * 90,
]


def separators(line: str) -> set[int]:
    """The cells in which a line has a separator."""
    return {wcwidth.width(line[:i]) for i, c in enumerate(line) if c == "│"}


@pytest.mark.parametrize("width", [30, 60, 80, 120, 200])
def test_columns_of_any_script_keep_their_width(width):
    lines = side_by_side([f"H = {i}" for i in range(len(TEXTS))], TEXTS, width).splitlines()
    assert max(map(wcwidth.width, lines)) <= width
    expected = separators(next(line for line in lines if line.startswith("─")))
    assert all(separators(line) <= expected for line in lines)


def test_five_texts_stand_in_two_columns_of_eighty():
    lines = side_by_side(list("abcde"), ["text"] * 5, 80).splitlines()
    assert [line.split() for line in lines if line[:1] in list("ace")] == [["a", "│", "b"], ["c", "│", "d"], ["e"]]


def test_a_table_wider_than_the_window_goes_on_below_with_its_first_column():
    text = table(["H", "aaaa", "bbbb"], [["1", "2", "3"], ["4", "5", "中文"]], 9)
    assert text == "H  aaaa\n1     2\n4     5\n\nH  bbbb\n1     3\n4  中文"
    assert len(table(["H", "aaaa", "bbbb"], [["1", "2", "3"]]).splitlines()) == 2


def test_spaces_and_joiners_of_letters_are_kept_and_control_characters_are_not():
    kept = "a\u00a0b\u3000c می\u200cخواهم 👩\u200d👧"
    assert wrap(kept, 80) == kept
    assert printable(kept) == kept
    assert wrap("a\x1b[31m\u202eb\tc\r\nd", 80) == "a·[31m·b    c\nd"
    assert printable("a\x1b[31m\u202e") == "a\\x1b[31m\\u202e"


def test_advice_names_this_interpreter_and_quotes_what_needs_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py")])
    assert command("sample.py", "my runs/x") == ".venv/bin/python sample.py 'my runs/x'"
    monkeypatch.chdir("/")
    assert shlex.split(command("sample.py"))[0].endswith("/.venv/bin/python")
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/headcount-train"])
    assert command("sample.py", "x") == "headcount-sample x"
