"""Variances of SGD on a quadratic, against Lyapunov's equation, and against all orders of a handful of examples."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.reproduction.studies import closed_forms, quadratic, stationary_variance


def arm(batch_size, learning_rate, momentum=0.0, sampling="replacement"):
    return {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "sampling": sampling,
    }


@pytest.mark.parametrize(("a", "m"), [(0.1, 0.0), (1.5, 0.0), (0.2, 0.9), (3.0, 0.6)])
def test_variance_with_momentum_solves_the_equation_of_lyapunov(a, m):
    """State (w, v): v' = m v - a (h w + noise), w' = w + v'; V = A V Aᵀ + b bᵀ a² c / B."""
    for h in (0.1, 0.7, 1.0):
        matrix = np.array([[1 - a * h, m], [-a * h, m]])
        noise = np.ones((2, 2)) * a**2 * h / 7
        variance = scipy.linalg.solve_discrete_lyapunov(matrix, noise)[0, 0]
        found = closed_forms.independent_variance(np.array([h]), arm(7, a, m))
        np.testing.assert_allclose(found, variance, rtol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_variance_of_shuffled_epochs_is_that_over_all_orders_of_six_examples(batch_size):
    """w_n = Σ rⁿ⁻¹⁻ᵏ (1 - r) mean_k + rⁿ w_0 with the means of the batches of an order, and each of 720 orders is as likely."""
    h, a = np.array([0.3, 1.1]), 0.7
    x = quadratic._examples(np.random.default_rng(0), h, 6)
    n, r = 6 // batch_size, 1 - a * h
    ends = []
    for order in itertools.permutations(range(6)):
        w = np.zeros(2)
        for k in range(n):
            w = w - a * h * (w - x[list(order[k * batch_size : (k + 1) * batch_size])].mean(0))
        ends.append(w)
    variance = np.mean(np.square(ends), 0) / (1 - r ** (2 * n))
    found = closed_forms.exact_variance(h, arm(batch_size, a, sampling="epochs"), 6)
    np.testing.assert_allclose(found, variance, rtol=1e-10)


def test_batches_without_replacement_have_the_noise_of_all_subsets():
    """The variance of w is in proportion to that of the mean of a batch: over all 15 pairs of six, and all 36 draws."""
    h = np.array([0.5])
    x = quadratic._examples(np.random.default_rng(1), h, 6)[:, 0]
    pairs = np.var([x[list(pair)].mean() for pair in itertools.combinations(range(6), 2)])
    draws = np.var([x[list(pair)].mean() for pair in itertools.product(range(6), repeat=2)])
    without, replacement = (
        closed_forms.exact_variance(h, arm(2, 0.4, sampling=sampling), 6)[0]
        for sampling in ("without", "replacement")
    )
    assert without / replacement == pytest.approx(pairs / draws)
    assert x.mean() == pytest.approx(0, abs=1e-15) and x.var() == pytest.approx(1 / 0.5)


@pytest.mark.parametrize("sampling", quadratic.SAMPLINGS)
def test_batches_are_of_their_size_and_an_epoch_holds_each_example_once(sampling):
    data = 2.0 ** np.arange(12)[:, None]  # a sum tells which were in it
    means = list(quadratic._batch_means(np.random.default_rng(0), data, arm(4, 0.1, sampling=sampling), 5, 6))
    sums = np.round(np.array(means)[..., 0] * 4).astype(int)  # (updates, walkers)
    ones = np.array([[bin(total).count("1") for total in row] for row in sums])
    if sampling == "epochs":
        assert (sums.reshape(2, 3, 5).sum(1) == 2**12 - 1).all()
    if sampling != "replacement":
        assert (ones == 4).all()
    else:
        assert (ones <= 4).all() and (ones < 4).any()  # some came twice


@pytest.mark.parametrize(
    "settings",
    [arm(7, 0.5), arm(8, 0.3, 0.8), arm(48, 0.5, sampling="without"), arm(16, 0.4, sampling="epochs")],
    ids=["a batch that divides nothing", "momentum", "without", "epochs"],
)
def test_what_is_seen_is_what_is_derived(settings):
    """12,800 independent values or more in each direction: a relative error of √(2 / 12800) = 0.013; 4 of them are allowed."""
    found = stationary_variance(
        [0], arms={"a": settings}, curvatures=[0.4, 1.0], examples=64, walkers=2000, updates=120
    )
    row, curve = found["rows"][0], found["curves"][0]
    assert row["variance_over_exact"] == pytest.approx(1, abs=0.05)
    assert curve["variance"] == pytest.approx(curve["exact"], rel=0.07)
    assert row["excess_loss"] == pytest.approx(np.dot(curve["curvature"], curve["variance"]) / 2)
    assert row["batch_size"] == settings["batch_size"] and row["arm"] == "a" and row["seed"] == 0


def test_memory_is_that_of_the_recursion_and_nan_where_that_has_no_logarithm():
    found = stationary_variance(
        [3],
        arms={"slow": arm(8, 0.2), "fast": arm(8, 1.2), "epochs": arm(8, 0.2, sampling="epochs")},
        curvatures=[1.0, 0.5],
        walkers=500,
        updates=300,
    )
    slow, fast, epochs = (row["memory_over_exact"] for row in found["rows"])
    assert slow == pytest.approx(1, abs=0.05) and np.isnan([fast, epochs]).all()


@pytest.mark.filterwarnings("error")
def test_a_rate_that_forgets_the_start_in_an_update_walks_on_independent_means():
    """w is the mean of the last batch where rate x curvature is 1: its variance is 1 / (h B), and the recursion's root 0."""
    (row,) = stationary_variance(
        [0], arms={"a": arm(8, 2.0)}, curvatures=[0.5], examples=64, walkers=500, updates=200
    )["rows"]
    assert row["excess_loss"] == pytest.approx(0.5 / (0.5 * 8) / 2, rel=0.05)
    assert row["variance_over_exact"] == pytest.approx(1, abs=0.05) and np.isnan(row["memory_over_exact"])


@pytest.mark.filterwarnings("error")
def test_memory_is_nan_without_a_warning_where_a_lag_is_not_within_the_walk():
    """The lag is 1 / 0.01 = 100 updates."""
    for updates, is_known in ((90, False), (100, False), (400, True)):
        (row,) = stationary_variance(
            [0], arms={"a": arm(8, 0.01)}, curvatures=[1.0], examples=64, walkers=50, updates=updates
        )["rows"]
        assert np.isfinite(row["memory_over_exact"]) == is_known


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"batch_size": 8, "learning_rate": 2.0}, "has to be below 2"),
        ({"batch_size": 64, "learning_rate": 0.1, "sampling": "without"}, "has no noise"),
        ({"batch_size": 5, "learning_rate": 0.1, "sampling": "epochs"}, "divide the 64 examples"),
        ({"batch_size": 8, "learning_rate": 0.1, "sampling": "epoch"}, "is none of replacement"),
        ({"batch_size": 8, "learning_rate": 0.1, "momentum": 1}, "momentum: 1 must be a number"),
        ({"batch_size": 8, "rate": 0.1}, "'rate' in arms: a is not a key"),
    ],
)
def test_settings_that_make_no_sense_are_told(own, told):
    with pytest.raises(ConfigError, match=told):
        stationary_variance([0], arms={"a": own}, curvatures=[1.0], examples=64)
