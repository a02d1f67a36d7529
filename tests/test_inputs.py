"""No input of a user's, however odd, ends in a traceback: success, or an error of a few lines with exit status 2."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.torture import inputs
from tests.torture.common import call, clean


def cases(count: int):
    """A few of each kind, the same ones every time; `python -m tests.torture --parts input` tries thousands."""
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained sweep, its config, and corpora beside it."""
    path = tmp_path_factory.mktemp("inputs")
    inputs.prepare(path)
    return path


@cases(30)
@given(inputs.overrides())
def test_any_override_is_taken_or_refused_in_words(folder, case):
    assert inputs.wrong(case, folder) is None


@cases(30)
@given(inputs.configs())
def test_any_config_is_taken_or_refused_in_words(folder, case):
    assert inputs.wrong(case, folder) is None


@cases(25)
@given(inputs.samplings())
def test_any_prompt_and_setting_is_sampled_or_refused_in_words(folder, case):
    assert inputs.wrong(case, folder) is None


@cases(8)
@given(inputs.comparisons())
def test_any_comparison_is_made_or_refused_in_words(folder, case):
    assert inputs.wrong(case, folder) is None


@cases(15)
@given(inputs.corpora())
def test_any_corpus_is_trained_on_or_refused_in_words(folder, case):
    assert inputs.wrong(case, folder) is None


@cases(3)
@given(inputs.pilots())
def test_any_pilot_is_trained_compared_and_sampled_or_refused_in_words(folder, case):
    assert inputs.wrong(case, folder) is None


USABLE = {
    "escape", "arabic", "emoji", "line", "text", "windows", "ends", "page", "packed", "rows.ndjson", "table.csv",
    "table.tsv", "chat.jsonl",
}  # fmt: skip


@pytest.mark.parametrize("name", [*inputs.CORPORA, *(place for place in inputs.PLACES if "\0" not in place)])
def test_each_odd_corpus_is_trained_on_or_named_as_what_is_wrong(folder, name):
    path = name if name.startswith(("/", "http")) else folder / name
    case = inputs.training(path, "--data.tokenizer", "char")
    assert inputs.wrong(case, folder) is None
    argv = [folder / a if isinstance(a, Path) else a for a in case.argv]
    status, _, err = call("train.py", *argv)
    assert status == (0 if name in USABLE else 2), err
    assert name in USABLE or "data." in err


def test_the_property_tests_could_fail(folder, monkeypatch):
    assert clean(1, "") is not None
    assert clean(2, "Traceback (most recent call last)") is not None
    assert clean(2, "a\nb\nc\nd") is not None
    assert clean(2, "\x1b[31m") is not None
    case = inputs.Case("train.py", (Path("c.yaml"), "--describe"))
    assert inputs.wrong(case, folder) is None
    monkeypatch.setattr("train.main", lambda argv: {}["a mistake in the program"])
    assert "exit 99" in inputs.wrong(case, folder)
    monkeypatch.setattr("train.main", lambda argv: print("\x1b[2J"))
    assert "control characters" in inputs.wrong(case, folder)
