"""What the figures of a search draw, against the numbers they were given."""

import io
import math

import numpy as np
import pytest

from tf_lbgap import critical_batch_size, scaling
from tf_lbgap.report import drawing, search_figures, search_map, search_steps

NUM_TRAIN = 1000


def trial(
    name, size, rate, score=None, *, status="finished", updates=(), momentum=0.9, deviation=None, values=None
):
    """A trial as in results.json, with a seed for each number of updates."""
    is_known = size is not None and rate is not None
    return {
        "trial": name,
        "values": values or {"batch_size": size, "learning_rate": rate},
        "batch_size": size,
        "learning_rate": rate,
        "momentum": momentum,
        "noise_scale": scaling.noise_scale(rate, size, NUM_TRAIN, momentum) if is_known else None,
        "status": status,
        "message": "",
        "score": score,
        "score_deviation": deviation,
        "seeds": [
            {"seed": seed, "updates": count, "reached": True, "validation_accuracy": score}
            for seed, count in enumerate(updates or (100,))
        ],
    }


def results(*trials, objective="validation_accuracy", direction="max", equal="epochs", **more):
    return {
        "name": "search", "objective": objective, "direction": direction, "equal": equal, "num_train": NUM_TRAIN,
        "trials": list(trials), **more,
    }  # fmt: skip


def drawn(make, found):
    """Return the first axes of a figure, after a file of it was made."""
    with drawing.style():
        figure = make(found)
        figure.savefig(io.BytesIO(), format="svg")
    return figure.axes[0]


def lines(axis, label):
    return [line for line in axis.lines if line.get_label() == label]


def spans(axis):
    """Return (low, high) of each vertical span, by label; regimes have none of their own."""
    return [
        (patch.get_label(), patch.get_x(), patch.get_x() + patch.get_width())
        for patch in axis.patches
        if hasattr(patch, "get_x")
    ]


def texts(axis):
    return [text.get_text() for text in axis.texts]


# The map.

MAP = results(
    trial("0000", 16, 0.01, 0.90, deviation=0.01),
    trial("0001", 64, 0.04, 0.95),
    trial("0002", 256, 0.16, 0.93),
    trial("0003", 64, 5.0, status="diverged"),
    trial("0004", 16, 3.0, status="missed the target"),
    trial("0005", 32, 0.1, status="running"),
    trial("0006", 32, None, 0.99),  # a schedule
)


def test_the_map_has_a_dot_for_each_score_and_a_cross_for_each_trial_without():
    axis = drawn(search_figures.accuracy_map, MAP)
    (dots,) = [c for c in axis.collections if len(c.get_offsets()) == 3]
    np.testing.assert_allclose(dots.get_offsets(), [[16, 0.01], [64, 0.04], [256, 0.16]])
    np.testing.assert_allclose(dots.get_array(), [90, 95, 93])
    (crosses,) = lines(axis, "diverged or missed the target")
    assert list(crosses.get_xdata()) == [64, 16] and list(crosses.get_ydata()) == [5.0, 3.0]
    (ring,) = lines(axis, "best trial")
    assert (ring.get_xdata(), ring.get_ydata()) == ([64], [0.04])
    assert axis.get_title(loc="left") == "best: 95 % (batch 64, rate 0.04)"


def test_less_is_better_where_the_search_says_so():
    axis = drawn(
        search_figures.accuracy_map, results(*MAP["trials"], objective="validation_loss", direction="min")
    )
    (ring,) = lines(axis, "best trial")
    assert ring.get_xdata() == [16]
    assert axis.get_title(loc="left").startswith("best: 0.9 (batch 16")
    assert axis.figure.axes[1].get_ylabel() == "validation loss"


def test_lines_join_what_has_one_noise_scale():
    """The trials have g from 4.65 to 1845, so three powers of ten lie between."""
    axis = drawn(search_figures.accuracy_map, MAP)
    found = [line for line in axis.lines if len(line.get_xdata()) == 200]
    assert [text for text in texts(axis) if text] == ["10", "100", "1000"]
    for line, scale in zip(found, (10, 100, 1000), strict=True):
        for size, rate in list(zip(line.get_xdata(), line.get_ydata(), strict=True))[::50]:
            np.testing.assert_allclose(scaling.noise_scale(rate, size, NUM_TRAIN, 0.9), scale, rtol=1e-9)


def test_a_batch_of_the_whole_set_has_no_noise_and_no_line():
    axis = drawn(search_figures.accuracy_map, results(trial("0", NUM_TRAIN, 0.1, 0.9)))
    assert not texts(axis)


def test_the_worst_tenth_does_not_take_the_colours():
    many = [trial(str(i), 2 ** (3 + i % 6), 0.01 * 1.2**i, 0.9 + 0.001 * i) for i in range(30)]
    axis = drawn(search_figures.accuracy_map, results(*many, trial("bad", 64, 0.5, 0.1)))
    (dots,) = [c for c in axis.collections if len(c.get_offsets()) == 31]
    assert dots.norm.vmin > 90 and dots.norm.vmax == pytest.approx(92.9)
    assert len(axis.collections) > 1  # contours


@pytest.mark.parametrize("count", [1, 2, 25])
def test_trials_at_one_place_or_on_a_line_have_no_contours(count):
    axis = drawn(
        search_figures.accuracy_map, results(*[trial(str(i), 64, 0.1 * 1.1**i, 0.9) for i in range(count)])
    )
    assert len(axis.collections) == 1
    axis = drawn(
        search_figures.accuracy_map, results(*[trial(str(i), 64, 0.1, 0.9 - i / 100) for i in range(count)])
    )
    assert len(axis.collections) == 1


@pytest.mark.parametrize("count, has_contours", [(19, False), (20, True)])
def test_few_trials_are_not_joined(count, has_contours):
    trials = [trial(str(i), 2 ** (3 + i % 5), 0.01 * 1.3**i, 0.9 + 0.001 * i) for i in range(count)]
    axis = drawn(search_figures.accuracy_map, results(*trials))
    assert (len(axis.collections) > 1) == has_contours


def test_a_map_of_failures_alone_has_crosses_alone():
    axis = drawn(search_figures.accuracy_map, results(trial("0", 16, 1.0, status="failed")))
    assert len(lines(axis, "failed")) == 1 and not axis.collections and len(axis.figure.axes) == 1


@pytest.mark.parametrize(
    "trials",
    [[], [trial("0", 16, None, 0.9)], [trial("0", None, 0.1, 0.9)], [trial("0", 16, 0.1, status="running")]],
)
def test_no_map_without_sizes_and_rates(trials):
    assert search_figures.accuracy_map(results(*trials)) is None


# Updates to the target.


def steps(sizes=(8, 32, 128, 512), best_at=1, **more):
    """For each size rates 0.1, 0.2, 0.4; the one `best_at` takes 100 (1 + 64 / B) updates, ± 4 % over two seeds, others twice as many."""
    trials = []
    for size in sizes:
        for place, rate in enumerate((0.1, 0.2, 0.4)):
            index = best_at.get(size, 1) if isinstance(best_at, dict) else best_at
            count = 100 * (1 + 64 / size) * (1 if place == index else 2)
            updates = (round(0.96 * count), round(1.04 * count))
            trials.append(trial(f"{len(trials):04d}", size, rate, np.mean(updates), updates=updates))
    return results(*trials, objective="updates", direction="min", equal="loss", **more)


def points(axis, label):
    """Return x, y and marker face of the error bars with a label."""
    (container,) = [c for c in axis.containers if c.get_label() == label]
    line = container.lines[0]
    return list(line.get_xdata()), list(line.get_ydata()), line.get_markerfacecolor()


def expected_fit(found, left_out=()):
    best = {}
    for each in found["trials"]:
        if each["batch_size"] not in left_out:
            best[each["batch_size"]] = min(
                (each, best.get(each["batch_size"], each)),
                key=lambda t: np.mean([s["updates"] for s in t["seeds"]]),
            )
    pairs = [(t["batch_size"], s["updates"]) for t in best.values() for s in t["seeds"]]
    return critical_batch_size.fit(*zip(*pairs, strict=True))


def test_the_best_trial_of_each_size_is_drawn_and_fitted():
    found = steps()
    axis = drawn(search_figures.steps_to_target, found)
    sizes, means, _ = points(axis, "best rate of a size")
    assert sizes == [8, 32, 128, 512] and means == [900, 300, 150, 112.5]
    (others,) = lines(axis, "other rates")
    assert len(others.get_xdata()) == 8
    fit = expected_fit(found)
    (curve,) = [line for line in axis.lines if str(line.get_label()).startswith("$S_{min}")]
    np.testing.assert_allclose(curve.get_ydata(), fit.updates(curve.get_xdata()), rtol=1e-12)
    (perfect,) = lines(axis, "perfect scaling")
    np.testing.assert_allclose(perfect.get_xdata() * perfect.get_ydata(), fit.min_examples)


def test_the_band_is_the_interval_and_the_regimes_meet_at_its_fifth_and_five_times():
    found = steps()
    axis = drawn(search_figures.steps_to_target, found)
    fit, (left, right) = expected_fit(found), axis.get_xlim()
    *regimes, (label, low, high) = spans(axis)
    np.testing.assert_allclose((low, high), fit.interval)
    np.testing.assert_allclose([span[1:] for span in regimes], [
        (left, fit.value / 5), (fit.value / 5, 5 * fit.value), (5 * fit.value, right)
    ])  # fmt: skip
    assert label.startswith("$B_{crit}$ = ") and "95 %" in label
    assert texts(axis) == ["perfect\nscaling", "diminishing\nreturns", "maximal\nparallelism"]


def test_sizes_whose_best_rate_is_the_least_or_greatest_tried_are_hollow_and_not_fitted():
    found = steps(sizes=(8, 32, 128, 512, 1000), best_at={8: 0, 1000: 2})
    axis = drawn(search_figures.steps_to_target, found)
    assert points(axis, "best rate of a size")[0] == [32, 128, 512]
    sizes, _, face = points(axis, "best rate at the edge, not fitted")
    assert sizes == [8, 1000] and face == "white"
    (curve,) = [line for line in axis.lines if str(line.get_label()).startswith("$S_{min}")]
    fit = expected_fit(found, left_out=(8, 1000))
    np.testing.assert_allclose(curve.get_ydata(), fit.updates(curve.get_xdata()), rtol=1e-12)


def test_with_fewer_than_three_sizes_to_fit_there_is_no_curve():
    axis = drawn(search_figures.steps_to_target, steps(best_at={8: 0, 512: 2}))
    assert len(points(axis, "best rate of a size")[0]) == 2 and not spans(axis)


def test_a_range_that_the_search_tells_decides_what_its_edges_are():
    wide = {"name": "learning_rate", "values": None, "low": 0.001, "high": 10.0, "scale": "log"}
    found = steps(best_at=2, dimensions=[wide])
    assert not any(search_steps.is_at_edge(each, found) for each in found["trials"])
    found = steps(best_at=2, dimensions=[{**wide, "high": 0.42}])
    assert [search_steps.is_at_edge(each, found) for each in found["trials"][:3]] == [False, False, True]


def test_a_single_rate_has_no_edge():
    found = results(*[trial("0", size, 0.1, updates=(100,)) for size in (8, 16)], equal="loss")
    assert not any(search_steps.is_at_edge(each, found) for each in found["trials"])


def test_a_wrong_curve_and_open_intervals_are_told():
    found = steps(sizes=(8, 16, 32, 64, 128))
    for each in found["trials"]:
        for seed in each["seeds"]:
            seed["updates"] = int(seed["updates"] * (2 if each["batch_size"] == 32 else 1))
    axis = drawn(search_figures.steps_to_target, found)
    assert any("does not fit" in str(line.get_label()) for line in axis.lines)
    below = drawn(search_figures.steps_to_target, steps(sizes=(700, 800, 900)))
    assert any("below" in label or "not determined" in label for label, *_ in spans(below))


def test_trials_that_missed_the_target_are_not_updates_to_it():
    found = steps()
    lost = trial("lost", 8, 0.2, status="missed the target", updates=(1, 1))
    axis = drawn(search_figures.steps_to_target, {**found, "trials": [*found["trials"], lost]})
    assert points(axis, "best rate of a size")[1][0] == 900


@pytest.mark.parametrize(
    "found",
    [results(equal="loss"), steps(sizes=(8, 16)), {**steps(), "equal": "epochs"}],
    ids=["none", "two", "epochs"],
)
def test_no_updates_to_a_target_without_one_or_for_fewer_than_three_sizes(found):
    assert search_figures.steps_to_target(found) is None


# All trials.


def test_scores_are_sorted_with_their_deviation():
    axis = drawn(search_figures.scores, MAP)
    (container,) = axis.containers
    np.testing.assert_allclose(container.lines[0].get_ydata(), [99, 95, 93, 90])
    bars = [np.ptp(segment[:, 1]) for segment in container.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [0, 0, 0, 2.0], atol=1e-9)
    assert axis.get_xlabel() == "trial, the best first (3 more did not finish)"
    assert axis.get_title(loc="left") == "best: trial 0006 (batch 32)"


def test_no_scores_if_nothing_finished():
    assert search_figures.scores(results(trial("0", 8, 0.1, status="failed"))) is None


def test_every_figure_has_a_name():
    assert set(search_figures.FIGURES) == {"accuracy_map", "steps_to_target", "scores"}
    for make in search_figures.FIGURES.values():
        assert make(results()) is None


@pytest.mark.parametrize("low, high", [(3, 2000), (3, 5), (1e-3, 1e6), (10, 10)])
def test_noise_levels_lie_between(low, high):
    levels = search_map.noise_levels(low, high)
    assert 1 <= len(levels) <= 6 and all(0.9 * low <= level <= 1.1 * high for level in levels)
    assert len(levels) == 1 or all(
        math.log10(level) == pytest.approx(round(math.log10(level))) for level in levels
    )
