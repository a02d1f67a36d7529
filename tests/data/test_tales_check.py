"""The checker of sampled text: if it misjudged, a report would credit or blame a model for the wrong relation."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import tales
from data.config import RELATIONS

LONG = "It rained for days. " * 6
STORIES = list(tales.stories(600, start=10_000))
PAIRS = tales.pairs(250, seed=9)


def found(text, relation):
    result = tales.check(text)
    return result.kept[relation], result.broken[relation]


def test_every_tag_of_a_story_is_found_kept_and_nothing_else():
    for s in STORIES:
        result = tales.check(s.text)
        tagged = Counter(span.relation for span in s.spans)
        assert result.broken == dict.fromkeys(RELATIONS, 0), s.text
        assert result.kept == {relation: tagged[relation] for relation in RELATIONS}, s.text


def test_every_wrong_choice_is_found_broken():
    for p in PAIRS:
        right, wrong = tales.check(p.context + p.right), tales.check(p.context + p.wrong)
        assert not any(right.broken.values()), p
        assert wrong.broken[p.relation] == 1, p
        assert sum(wrong.broken.values()) == 1, p


def test_a_story_cut_short_anywhere_is_not_blamed():
    for s in STORIES[:10]:
        for end in range(len(s.text)):
            assert not any(tales.check(s.text[:end]).broken.values()), s.text[:end]


@pytest.mark.parametrize(
    ("relation", "text", "kept", "broken"),
    [
        ("local", "Once upon a time he slept, safe and warm. All of a sudden, it was pitch", 2, 1),
        ("local", "ONCE UPON A dog", 0, 1),
        ("long_range", f"Zed was a baker. {LONG} He took great care of the oven.", 1, 0),
        ("long_range", f"Zed was a baker. {LONG} He was busy with the net.", 0, 1),
        ("long_range", f"Zed was a baker. {LONG} He was busy with the ov", 0, 0),
        ("long_range", f"{LONG} He took great care of the oven.", 0, 0),
        ("long_range", f"Zed was a baker. {LONG} The oven was hot. He was busy with the dough.", 0, 0),
        ("long_range", "Zed was a baker. He took great care of the oven.", 0, 0),
        ("semantic", "Like every good baker, Zed took great care of the oven and the net.", 1, 0),
        ("semantic", "Like every good baker, Zed took great care of the net.", 0, 1),
        ("semantic", "He took great care of the net. It was winter, and all was full of bees.", 0, 1),
        ("syntactic", "The keys to the old box were lost, and the key to the boxes were too.", 1, 1),
        ("syntactic", "The key and the boxes were lost. The boxes were lost.", 0, 0),
        ("syntactic", '"Come in." He said, "Come in. He left. Come in." He said, "Come', 1, 1),
        ("syntactic", 'Come in." He left.', 0, 1),
    ],
)  # fmt: skip
def test_text_that_no_grammar_wrote(relation, text, kept, broken):
    assert found(text, relation) == (kept, broken)


FRAGMENTS = st.sampled_from(
    [s.text[i : i + 40] for s in STORIES[:20] for i in range(0, 400, 37)]
    + ['"', '. "', " ", "\n", ".", "the ", "é", "ſ"]
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=12).map("".join)))
def test_any_string_can_be_checked(text):
    result = tales.check(text)
    assert set(result.kept) == set(result.broken) == set(RELATIONS)
    assert min(*result.kept.values(), *result.broken.values()) >= 0
