"""A figure that fails on sparse data would take the whole report with it; one that changes by itself fills diffs."""

import math

import numpy as np
import pytest

from analysis.report.curves import loss_curves, training_curves
from analysis.report.figures import FORMATS, STYLE, by_head_panels, curves, render, style
from analysis.report.loss import loss_by_heads
from analysis.report.opening import draw
from analysis.report.section import Picture
from analysis.runs import by_head
from analysis.statistics import compare
from analysis.summary import final_losses, verdict_row
from tests.analysis.synthetic import run, sweep


def figures(runs):
    of = {h: {r.seed: r.final_loss for r in runs if r.n_head == h} for h in {r.n_head for r in runs}}
    verdict = verdict_row(compare(of))
    by_heads = loss_by_heads(runs, verdict)
    return [loss_curves(runs), training_curves(runs, 1.0), by_heads, by_head_panels({"a": of, "b": of})]


def test_the_same_data_give_the_same_files_at_a_papers_width(monkeypatch):
    monkeypatch.setitem(FORMATS, "pdf", {"CreationDate": None})
    monkeypatch.setitem(STYLE, "savefig.dpi", 300)
    for number in (1, 2):
        picture = Picture("x", "a title", "", lambda number=number: figures(sweep({1: 0.2, 4: 0}))[number])
        first, again = render(picture), render(picture)
        assert {kind: first[kind] == again[kind] for kind in first} == {"svg": True, "pdf": True, "png": True}
        width = int.from_bytes(first["png"][16:20])  # of the PNG's header
        assert width == 2100  # 7 inches at 300 dpi


@pytest.mark.parametrize(
    "runs",
    [
        [run(4, 0, 2.0)],
        [run(4, 0, 2.0, iters=[200], val_loss=[2.0], train_iters=[], train_loss=[], grad_norm=[], lr=[], relations={})],
        [run(1, 0, 2.0), run(4, 1, 2.1)],
        [*sweep({1: 0.2, 3: 0, 5: 0}, seeds=[0]), run(7, 1, 2.1, iters=[0, 50, 200])],
    ],
    ids=["one run", "one point", "no common seed", "unequal seeds and iterations"],
)
def test_sparse_data_are_drawn(runs):
    for figure in figures(runs):
        figure.draw_without_rendering()


def test_the_difference_panel_shows_the_mean_over_common_seeds():
    runs = sweep({4: 0, 1: 0.2})
    figure = loss_by_heads(runs, verdict_row(compare(final_losses(by_head(runs)))))
    _, panel = figure.axes
    (means,) = [c.lines[0] for c in panel.containers]
    assert list(means.get_xdata()) == [1]
    assert means.get_ydata()[0] == pytest.approx(0.2004)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [[], [0], [9]])
def test_the_first_figure_draws_the_trend_over_all_of_its_seeds_whatever_another_head_count_lacks(seeds):
    """One seed's line would be called the mean beside a trend of five."""
    runs = sweep({1: 0.2, 4: 0.1, 8: 0}) + [run(16, seed, 2.5) for seed in seeds]
    losses = final_losses(by_head(runs))
    verdict = verdict_row(compare(losses))
    assert len(verdict["trend"]["seeds"]) == 5
    figure = draw(losses, verdict)
    (left, _), lines = figure.axes, figure.axes[0].lines
    assert [list(line.get_xdata()) for line in lines if line.get_linestyle() == "-"] == [[1, 4, 8]] * 6
    (mean,) = [line for line in lines if line.get_label() == "mean of the seeds"]
    assert list(mean.get_ydata()) == pytest.approx([np.mean(list(losses[h].values())) for h in (1, 4, 8)])
    points = [y for line in lines if 16 in line.get_xdata() for y in line.get_ydata()]
    assert len(points) == (seeds == [0])
    assert left.get_xlim()[1] > (16 if seeds else 8)
    figure.draw_without_rendering()


def test_head_counts_differ_without_colour():
    looks = {(str(s["linestyle"]), s["marker"]) for s in (style(i, 12) for i in range(12))}
    assert len(looks) == 12


def test_curves_are_averaged_only_where_every_run_measured():
    iters, values = curves([run(1, 0, 2.0), run(1, 1, 2.1, iters=[0, 50, 200])], "iters", "val_loss")
    assert iters.tolist() == [0, 200]
    assert values.tolist() == [[6.2, 2.0], [6.2, 2.1]]
    assert not any(math.isnan(v) for v in values.ravel())


@pytest.mark.filterwarnings("error")
def test_a_setting_whose_runs_all_diverged_is_drawn_where_they_did_and_without_an_empty_panel():
    """Losses of 1e9 would flatten all else, and the frozen run's later measurements are not where it diverged."""
    lost = {"diverged": 100, "val_loss": [6.2, math.nan, 7e9], "train_loss": [6.0] * 9 + [5e8] + [7e9] * 10}
    runs = [run(1, seed, 0.0, **lost | {"grad_norm": [0.0] * 20}) for seed in range(2)]
    figure = loss_curves(runs)
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [100, 100]
    assert [text.get_text() for text in axes.texts] == ["2 runs diverged"]
    norms = training_curves(runs, 1.0)
    assert [axes.get_ylabel() for axes in norms.axes] == ["learning rate"]
    for drawn in (figure, norms):
        drawn.draw_without_rendering()


def test_an_unfinished_run_is_one_line_through_its_validation_losses():
    """Training and validation losses joined in one line are a saw."""
    (axes,) = loss_curves([run(1, 0, 2.0, finished=False)]).axes
    assert axes.lines[0].get_ydata().tolist() == [6.2, 3.0, 2.0]
