"""Which relations depend on H must be said only where the paired tests of all relations together say so."""

import json

import pytest
from scipy import stats

from analysis.report.relations import relation_section
from tests.analysis.synthetic import NOISE, run


def runs(local=0.0, heads=(1, 4), seeds=range(5)):
    """H = 1 is worse on local words by `local`; a seed's effect is much larger and shared by all H."""
    return [
        run(h, s, 2 + 0.1 * s + 0.001 * place, relations={
            "local": [6.0, 1.0, 1 + 0.2 * s + NOISE[s] * (place + 1) + (local if h == 1 else 0)],
            "long_range": [6.0, 4.0, 3 - 0.2 * s + NOISE[(s + 2) % 5] * (place + 1)],
        })
        for place, h in enumerate(heads)
        for s in seeds
    ]  # fmt: skip


def test_an_effect_smaller_than_the_scatter_between_seeds_is_found_within_seeds_on_its_relation_alone():
    section = relation_section(runs(local=0.05), None, "x", reference=4)
    assert "on local words it falls by 0.0" in section.text[1]
    assert "on local words H = 1 is worse by 0.0" in section.text[2]
    assert "long-range" not in section.text[1] + section.text[2]
    rows = {row[0]: row for row in section.tables[1].rows}
    assert (rows["local"][-1], rows["long-range"][-1]) == ("worse", "same to within 0.01")
    of = {h: [r.relations["local"][-1] for r in runs(0.05) if r.n_head == h] for h in (1, 4)}
    (row,) = section.data["verdicts"]["local"]["pairs"]
    alone = stats.ttest_rel(of[1], of[4]).pvalue
    assert (row["p_alone"], row["p"]) == pytest.approx((alone, 2 * alone))  # corrected for two relations
    json.dumps(section.data, allow_nan=False)


def test_no_effect_is_said_in_words():
    section = relation_section(runs(), None, "x")
    assert section.text[1] == "On no relation is a trend of the loss in H sure."
    assert "on no relation does a head count differ surely from it" in section.text[2]


@pytest.mark.parametrize(
    ("sweep", "pictures"),
    [
        (runs(seeds=[0]), 2),
        ([r for r in runs() if (r.n_head, r.seed) in {(1, 0), (4, 1)}], 1),
        (runs(heads=[4]), 1),
    ],
    ids=["one seed", "no common seed", "one H"],
)
def test_what_cannot_be_tested_is_not(sweep, pictures):
    section = relation_section(sweep, None, "x")
    assert len(section.pictures) == pictures
    assert not any("Compared with" in text for text in section.text)
    for picture in section.pictures:
        picture.draw().draw_without_rendering()
    assert all(row[-1] == "–" for row in section.tables[1].rows) if len(section.tables) > 1 else len(sweep) == 5
