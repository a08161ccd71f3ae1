"""Figures of a reproduction: what is drawn is what results.json holds."""

import math
import re

import numpy as np
import pytest
import scipy.stats
from invented_results import SEEDS, arm, claim, drawn, figure_of, line, mean, only_claims, results

from tf_lbgap.experiment import ConfigError
from tf_lbgap.report import (
    paper_figures,
)
from tf_lbgap.report.paper_results import arms_of

# The forest plot.


def test_a_claim_is_drawn_with_its_estimate_interval_bounds_and_verdict():
    (axis,) = drawn(only_claims(claim("a", "FAIL", estimate=0.71, interval=(0.52, 0.96))), "claims").axes
    assert axis.get_xscale() == "log"
    segments = {tuple(map(float, line.get_xdata())) for line in axis.lines}
    assert (0.71,) in segments and (0.52, 0.96) in segments and (1.5, 1.5) in segments
    assert [text.get_text() for text in axis.texts] == ["FAIL", "0.710 (0.520 to 0.960)"]
    (claimed,) = [patch for patch in axis.patches if patch.get_x() == 1.5]
    assert claimed.get_x() + claimed.get_width() == pytest.approx(axis.get_xlim()[1])
    ticks = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 15]
    np.testing.assert_allclose(ticks[0][::3], [0.71 * 1.1**i for i in range(-2, 3)])


@pytest.mark.parametrize(
    "bounds, shaded", [((None, 0.01), (None, 0.01)), ((-0.01, 0.01), (-0.01, 0.01)), ((0.0, None), (0.0, None))]
)  # fmt: skip
def test_the_claimed_region_is_shaded_on_the_side_that_is_claimed(bounds, shaded):
    own = claim("a", kind="difference", estimate=0.002, interval=(-0.02, 0.02), bounds=list(bounds))
    (axis,) = drawn(only_claims(own), "claims").axes
    left, right = axis.get_xlim()
    (patch,) = axis.patches
    assert axis.get_xscale() == "linear"
    np.testing.assert_allclose(patch.get_x(), left if shaded[0] is None else shaded[0])
    np.testing.assert_allclose(patch.get_x() + patch.get_width(), right if shaded[1] is None else shaded[1])


def test_verdicts_differ_by_marker_and_word_and_each_rule_has_a_row():
    figure = drawn(results(), "claims")
    axis = figure.axes[0]
    words = [text.get_text() for text in axis.texts][::2]
    assert words == ["PASS", "PASS", "INCONCLUSIVE", "FAIL", "NOT RUN"]
    markers = [line.get_marker() for line in axis.lines if len(line.get_xdata()) == 1]
    assert len(set(markers)) == 3
    assert [label.get_text() for label in axis.get_yticklabels()][1:] == [
        "epochs",
        "updates",
        "seconds",
        "tuned",
    ]
    assert len(figure.axes) == 4  # of the claims that were run
    titles = [text.get_text() for text in figure.texts]
    assert titles[0].startswith("Primary claim: ")
    assert len(titles) == 5 and titles[-1].startswith("NOT RUN: ") and "imagenet" in titles[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"estimate": None, "interval": [None, None], "values": []},
        {"estimate": math.nan, "interval": [math.nan, math.nan], "values": [math.nan]},
        {"estimate": 2.0, "interval": [None, None], "values": [2.0]},
        {"interval": [None, 5.0]},
        {"interval": []},
        {"values": None, "bounds": None},
        {"estimate": 2.0, "interval": [2.0, 2.0], "values": [2.0] * 5, "bounds": [2.0, None]},
        {"bounds": [0.0, 2.0]},
    ],
    ids=["none", "nan", "one seed", "open", "no interval", "missing", "no spread", "bound at 0"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["ratio", "difference", "number"])
def test_claims_without_some_numbers_are_drawn(kind, changes):
    drawn(only_claims(claim("a", "INCONCLUSIVE", kind=kind, **changes)), "claims")


def test_without_claims_there_is_no_forest():
    assert paper_figures.draw(only_claims(), "claims") is None
    assert paper_figures.draw(only_claims(claim("a", "NOT RUN")), "claims") is None


# Figures of means.


def bars(axis):
    """Return [(x, y, low, high)] of the error bars of an axis with vertical ones."""
    found = []
    for container in axis.containers:
        line, _, (segments,) = container.lines
        for x, y, segment in zip(line.get_xdata(), line.get_ydata(), segments.get_segments(), strict=True):
            found.append(
                (
                    float(x),
                    float(y),
                    *map(float, sorted(segment[:, 1]) if len(segment) else (math.nan, math.nan)),
                )
            )
    return found


def test_means_over_a_setting_have_intervals_of_students_t():
    axis, other = drawn(results(), "threshold").axes
    reach = scipy.stats.t(9).ppf(0.975)
    for (x, y, low, high), size in zip(bars(axis), (16, 64, 256, 512, 1000), strict=True):
        middle = 100 * (0.975 - 0.00002 * size)
        np.testing.assert_allclose(
            (x, y, low, high), (size, middle, middle - 0.2 * reach, middle + 0.2 * reach)
        )
    assert axis.get_xscale() == "log" and axis.get_yscale() == "linear" and other.get_yscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["16", "64", "256", "512", "1000"]
    assert axis.get_ylabel() == "test accuracy (%)" and axis.get_xlabel() == "batch size"


def test_series_are_lines_of_their_own():
    axis = figure_of(
        results(), call="report.paper_figures.against", **{"in": "threshold"}, x="batch_size", y="test_loss",
        series={"few": ["b64", "b16"], "many": ["b512", "b1000"]},
    ).axes[0]  # fmt: skip
    assert [[x for x, *_ in bars_of] for bars_of in (bars(axis)[:2], bars(axis)[2:])] == [
        [16, 64],
        [512, 1000],
    ]
    assert axis.get_legend_handles_labels()[1] == ["few", "many"]


def test_an_arm_with_a_schedule_has_no_place_on_its_axis():
    axis = figure_of(
        results(), call="report.paper_figures.against", **{"in": "schedules"}, x="batch_size", y="test_accuracy"
    ).axes[0]  # fmt: skip
    assert [x for x, *_ in bars(axis)] == [64, 64]


def test_a_quantity_may_be_the_axis():
    axis = figure_of(
        results(), call="report.paper_figures.against", **{"in": "schedules"}, x="updates", y="test_accuracy"
    ).axes[0]  # fmt: skip
    assert [x for x, *_ in bars(axis)] == [426, 1197, 3140]


def test_a_setting_in_the_optimizer_may_be_the_axis():
    assert arms_of(results(), "schedules")["growth"].setting("optimizer.learning_rate") == 0.001
    found = results()
    found["experiments"]["threshold"]["arms"]["b16"]["settings"]["learning_rate"] = None
    assert arms_of(found, "threshold")["b16"].setting("learning_rate") == 0.001


@pytest.mark.parametrize(
    "call, message",
    [
        ({"in": "treshold"}, "no experiment and no study. Known: minima-loss"),
        ({"in": "threshold", "series": {"a": ["b61"]}}, "no arm 'b61'. Did you mean 'b64'"),
        ({"in": "threshold", "colour": 3}, "no argument 'colour'"),
        ({}, "needs in:"),
    ],
)  # fmt: skip
def test_a_figure_that_means_nothing_says_what_there_is(call, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        figure_of(results(), call="report.paper_figures.against", x="batch_size", y="test_loss", **call)


def test_a_figure_without_data_is_none():
    found = {**results(), "figures": {"a": {"call": "report.paper_figures.against", "in": "threshold", "x": "nothing", "y": "test_loss"},
                                      "b": {"call": "report.paper_figures.arms", "in": "threshold", "y": ["nothing"]},
                                      "c": {"call": "report.paper_figures.lines", "in": "manifold"},
                                      "d": {"call": "report.paper_figures.evolution", "in": "manifold"}}}  # fmt: skip
    assert [paper_figures.draw(found, name) for name in "abcd"] == [None] * 4


def horizontal(axis):
    """Return [(row, mean, low, high)] of horizontal error bars."""
    found = []
    for container in axis.containers:
        line, _, (segments,) = container.lines
        (segment,) = segments.get_segments()
        found.append(
            (float(line.get_ydata()[0]), float(line.get_xdata()[0]), *map(float, sorted(segment[:, 0])))
        )
    return found


def test_arms_are_rows_with_their_means():
    accuracy, updates, seconds = drawn(results(), "schedules").axes
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["decay", "growth", "constant"]
    assert [middle for _, middle, *_ in horizontal(updates)] == [426, 1197, 3140]
    reach = scipy.stats.t(9).ppf(0.975) * 0.21
    np.testing.assert_allclose(horizontal(seconds)[2], (2, 5.2, 5.2 - reach, 5.2 + reach))
    assert updates.get_xscale() == "log" and seconds.get_xscale() == "linear"


def test_seeds_of_a_study_are_faint_dots():
    (axis,) = figure_of(
        results(), call="report.paper_figures.arms", **{"in": ["minima-loss", "manifold"]}, y="sharpness_7"
    ).axes  # fmt: skip
    dots = [line for line in axis.lines if len(line.get_xdata()) == 10]
    np.testing.assert_allclose(dots[0].get_xdata(), [1.0 + seed / 1000 for seed in SEEDS])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["small", "large"]


def test_seeds_are_drawn_in_the_unit_of_the_axis():
    rows = [{"arm": "small", "seed": seed, "test_accuracy": 0.9 + seed / 1000} for seed in (1, 2)]
    found = results(studies={"own": {"in": "minima-loss", "rows": rows}})
    (axis,) = figure_of(found, call="report.paper_figures.arms", **{"in": "own"}, y="test_accuracy").axes
    (dots,) = [line for line in axis.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(dots.get_xdata(), [90.1, 90.2])
    np.testing.assert_allclose(horizontal(axis)[0][1], 90.15)


def test_an_interval_that_reaches_below_0_stays_on_a_log_axis():
    arms = {"a": arm(8, test_loss=mean(0.01, 0.02)), "b": arm(16, test_loss=mean(1.0, 0.1))}
    found = results(experiments={"one": {"equal": "loss", "seeds": SEEDS, "arms": arms}})
    axis = figure_of(
        found, call="report.paper_figures.against", **{"in": "one"}, x="batch_size", y="test_loss"
    ).axes[0]
    (_, _, low, high), _ = bars(axis)
    assert axis.get_yscale() == "log"
    np.testing.assert_allclose((low, high), (0.001, 0.01 + 0.02 * scipy.stats.t(9).ppf(0.975)))
    assert axis.get_ylim()[0] < 0.001


def test_arms_of_one_name_in_two_experiments_are_not_mixed_up():
    found = results()
    found["experiments"]["other"] = {
        "equal": "loss",
        "seeds": SEEDS,
        "arms": {"small": arm(8, test_loss=mean(9.0))},
    }
    known = arms_of(found, ["minima-loss", "other"])
    assert list(known) == ["minima-loss: small", "large", "other: small"]
    assert known["minima-loss: small"].summary("test_loss").mean == 0.1021
    assert known["other: small"].summary("test_loss").mean == 9.0


def test_a_single_seed_is_a_point_without_a_bar():
    found = results(
        experiments={
            "one": {
                "equal": "loss",
                "seeds": [100],
                "arms": {"a": arm(8, num_seeds=1), "b": arm(9, num_seeds=1)},
            }
        }
    )
    axis = figure_of(
        found, call="report.paper_figures.against", **{"in": "one"}, x="batch_size", y="test_loss"
    ).axes[0]
    assert (
        all(math.isnan(low) for _, _, low, _ in bars(axis)) and [y for _, y, *_ in bars(axis)] == [0.1021] * 2
    )


# Figures of curves.


def test_the_loss_between_two_minima_is_the_median_over_seeds_with_the_ends_named():
    found = results()
    curves = found["studies"]["line"]["curves"]
    curves[9]["train_loss"] = [9 * loss for loss in curves[9]["train_loss"]]  # far from the others
    left, below, right = drawn(found, "line").axes
    thick = [line for line in left.lines if line.get_linewidth() == 1.5 and len(line.get_xdata()) == 25]
    for drawn_line, key in zip(thick, ("train_loss", "test_loss"), strict=True):
        np.testing.assert_allclose(
            drawn_line.get_ydata(), np.median([curve[key] for curve in curves], axis=0)
        )
    assert sum(line.get_linewidth() == 0.6 for line in left.lines) == 20
    assert left.get_yscale() == "log" and right.get_ylabel() == "accuracy (%)"
    assert [(text.get_text(), text.xy[0]) for text in left.texts] == [("small", 0), ("large", 1)]
    np.testing.assert_allclose(right.lines[-1].get_ydata().max(), 95.5, atol=0.1)
    assert below.get_xlim() == left.get_xlim()


def test_pairs_have_a_panel_each_and_what_is_missing_is_left_out():
    found = results()
    curves = [line(0), line(0, "small to grown", 2.0), line(1, "small to grown", 2.0)]
    for curve in curves:
        del curve["top_eigenvalue"], curve["alpha_eigenvalues"]
    curves[0]["train_loss"][:3] = [None, math.inf, math.nan]
    curves[0]["test_accuracy"] = None
    found["studies"]["line"] = {"in": "minima-loss", "rows": [], "curves": curves}
    first, second, *twins = drawn(found, "line").axes
    assert (
        len(twins) == 2 and first.get_title() == "small to large" and second.get_title() == "small to grown"
    )
    assert np.isnan(first.lines[0].get_ydata()[:3].astype(float)).sum() >= 2


def test_curvature_is_against_the_loss_which_falls_to_the_right():
    (axis,) = drawn(results(), "evolution").axes
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert axis.get_xlim()[0] > axis.get_xlim()[1]
    assert axis.get_legend_handles_labels()[1] == ["small", "large"]
    assert sum(line.get_linewidth() == 0.7 for line in axis.lines) == 20
    means = [line for line in axis.lines if line.get_linewidth() == 1.6]
    for drawn_line, growth in zip(
        means, (0.2, 0.7), strict=True
    ):  # seeds have factors 1 to 1.18 before the same power law
        expected = 2 * (2.3 / drawn_line.get_xdata()) ** growth
        factors = drawn_line.get_ydata() / expected
        assert 1 < factors.min() <= factors.max() < 1.18


def test_a_mean_ends_where_fewer_than_half_of_the_seeds_are():
    found = results()
    curves = [
        {"arm": "a", "seed": seed, "loss": [1.0, 0.5], "top_eigenvalue": [2.0, 8.0]} for seed in range(3)
    ]
    curves[0] = {**curves[0], "loss": [1.0, 0.5, 0.01], "top_eigenvalue": [2.0, 1.0, 99.0]}
    found["studies"]["evolution"]["curves"] = curves
    (axis,) = drawn(found, "evolution").axes
    (middle,) = [line for line in axis.lines if line.get_linewidth() == 1.6]
    np.testing.assert_allclose(sorted(middle.get_xydata().tolist()), [[0.5, 4.0], [1.0, 2.0]])


def test_points_that_a_log_axis_cannot_show_are_left_out():
    found = results()
    curve = {
        "arm": "a",
        "seed": 1,
        "loss": [1.0, 0.5, None, 0.0, 0.1],
        "top_eigenvalue": [2.0, None, 3.0, 4.0, -1.0],
    }
    found["studies"]["evolution"]["curves"] = [curve]
    (axis,) = drawn(found, "evolution").axes
    assert [list(line.get_xdata()) for line in axis.lines] == [[1.0], [1.0]]
    curve["loss"] = [None] * 5
    assert paper_figures.draw(found, "evolution") is None
