"""What a verdict costs rests on textbook tests: each is checked against scipy's."""

import json
import sys
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from analysis.statistics.contrasts import family
from benchmarks.calibration import EFFECTS, LEVEL, holm
from benchmarks.verdict import anova, deviations, fewest, main, welch
from tests.analysis.synthetic import write_experiment


@pytest.fixture(scope="module")
def tables():
    """(200, 4, 5): independent runs with the effects of the page, around the level of the tests."""
    return EFFECTS + np.random.default_rng(0).normal(0, 0.01, (200, 4, 5))


def test_anova_is_scipys(tables):
    wanted = [scipy.stats.f_oneway(*table.T).pvalue <= LEVEL for table in tables]
    assert anova(tables).tolist() == wanted
    assert 0 < sum(wanted) < len(wanted)


def test_welch_with_holm_is_scipys(tables):
    pairs = list(combinations(range(5), 2))
    found = welch(tables, family((1, 2, 4, 8, 16)))
    p = [[scipy.stats.ttest_ind(t[:, a], t[:, b], equal_var=False).pvalue for a, b in pairs] for t in tables]
    wanted = holm(np.array(p))
    assert (found == wanted).all()
    assert 0 < wanted.sum() < wanted.size
    first = sorted(p[0])
    stops = next((i for i, value in enumerate(first) if value > LEVEL / (len(pairs) - i)), len(pairs))
    assert wanted[0].sum() == stops


def test_deviations_are_those_that_were_planted():
    generator = np.random.default_rng(1)
    values = generator.normal(0, 0.003, (4000, 1)) + generator.normal(0, 0.004, (4000, 5)) + EFFECTS
    assert deviations(values) == pytest.approx((0.005, 0.004), rel=0.03)
    assert fewest(lambda n: 1 - 0.5**n) == 3
    assert fewest(lambda n: 0.5) is None


def test_a_verdicts_cost_is_told_from_runs_and_times(tmp_path, monkeypatch, capsys):
    """Equal times and a deviation far below the effects: two seeds do either way, and the cost is the same."""
    noise = np.random.default_rng(2).normal(0, 1e-4, (3, 5))
    heads = (1, 2, 4, 8, 16)

    def final(run):
        return 2 + float(EFFECTS[heads.index(run.n_head)] + noise[run.seed, heads.index(run.n_head)])

    write_experiment(tmp_path / "runs", heads=heads, final=final)
    ways = ("nanoGPT, one run after another", "Headcount, the stack")
    (tmp_path / "sweep.json").write_text(json.dumps({"results": {way: [{"ms": 36.0}] for way in ways}}))
    argv = ["verdict", str(tmp_path / "runs"), str(tmp_path / "sweep.json"), "--experiments", "200"]
    monkeypatch.setattr(sys, "argv", [*argv, "--json", str(tmp_path / "verdict.json")])
    main()
    assert "3 seeds, 5 head counts, 200 iterations" in (said := capsys.readouterr().out)
    assert "times cheaper" in said
    rows = json.loads((tmp_path / "verdict.json").read_text())["rows"]
    assert rows[0][1:] == ["nanoGPT, seeds of their own", "2", "0.02", "1.0"]  # 2 seeds · 5 runs · 200 · 36 ms
    assert rows[1][1:] == ["Headcount", "2", "0.02", "1.0"]
