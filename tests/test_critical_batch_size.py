"""The fit finds the batch size that the data were made with, and its interval holds it as often as it says."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from slow import slow_but

from tf_lbgap import critical_batch_size

SIZES = 2.0 ** np.arange(4, 12)


def hyperbola(sizes, min_updates=200.0, value=128.0):
    return min_updates * (1 + value / np.asarray(sizes, float))


# Exact data.


@pytest.mark.parametrize("value", [3.0, 128.0, 5000.0])
def test_exact_data_give_the_curve_they_were_made_with(value):
    found = critical_batch_size.fit(SIZES, hyperbola(SIZES, 250.0, value))
    np.testing.assert_allclose(found.value, value, rtol=1e-7)
    np.testing.assert_allclose(found.min_updates, 250.0, rtol=1e-7)
    np.testing.assert_allclose(found.min_examples, 250.0 * value, rtol=1e-7)
    np.testing.assert_allclose(found.updates(SIZES), hyperbola(SIZES, 250.0, value), rtol=1e-7)
    np.testing.assert_allclose(found.examples(100), 100 * hyperbola(100, 250.0, value), rtol=1e-7)
    assert found.interval[0] < value < found.interval[1]
    assert found.batch_sizes == tuple(SIZES) and found.num_runs == 8
    assert found.fits is None  # a single seed tells no noise


def test_updates_and_examples_trade_as_in_the_paper():
    """(S / S_min - 1) (E / E_min - 1) = 1, equation 2.11 with B eliminated."""
    found = critical_batch_size.fit(SIZES, hyperbola(SIZES))
    for size in (1, 77, 4096):
        excess = found.updates(size) / found.min_updates - 1, found.examples(size) / found.min_examples - 1
        np.testing.assert_allclose(math.prod(excess), 1.0, rtol=1e-10)


def test_regimes_begin_where_a_fifth_more_is_taken():
    found = critical_batch_size.fit(SIZES, hyperbola(SIZES, value=100.0))
    low, high = found.boundaries
    np.testing.assert_allclose(found.examples(low), 1.2 * found.min_examples, rtol=1e-9)
    np.testing.assert_allclose(found.updates(high), 1.2 * found.min_updates, rtol=1e-9)
    told = [found.regime(size) for size in (1, 19.9, 20.1, 499, 501, 1e6)]
    assert told == [name for name in critical_batch_size.REGIMES for _ in range(2)]


def test_rounding_to_whole_updates_is_within_the_interval():
    sizes = [8, 32, 128, 512]
    found = critical_batch_size.fit(sizes, np.round(hyperbola(sizes, 11.0, 61.0)))
    assert found.interval[0] < 61 < found.interval[1]


# Noise.


def coverage(curve, truth, confidence, *, noise, seeds, experiments=300, sizes=SIZES):
    """Return the share of simulated studies whose interval holds the truth, and that of curves said not to fit."""
    rng = np.random.default_rng(0)
    sizes = np.repeat(sizes, seeds)
    found = [
        critical_batch_size.fit(
            sizes, curve(sizes) * np.exp(noise * rng.normal(size=len(sizes))), confidence=confidence
        )
        for _ in range(experiments)
    ]
    return share_that_hold(found, truth), np.mean([each.fits is False for each in found])


def share_that_hold(found, truth):
    return np.mean([each.interval[0] <= truth <= each.interval[1] for each in found])


@pytest.mark.parametrize(
    "confidence, noise, seeds",
    slow_but(
        [(0.95, 0.05, 3), (0.9, 0.3, 3), (0.95, 0.15, 1)],
        [(c, noise, seeds) for c in (0.9, 0.95) for noise in (0.05, 0.15, 0.3) for seeds in (1, 3, 5)],
    ),
)
def test_the_interval_holds_the_truth_as_often_as_it_says(confidence, noise, seeds):
    """Of 300 the share has a standard deviation of 1.7 and 1.3 points."""
    share, _ = coverage(hyperbola, 128.0, confidence, noise=noise, seeds=seeds)
    assert abs(share - confidence) < 3 * math.sqrt(confidence * (1 - confidence) / 300)


def test_a_curve_that_holds_is_refuted_as_often_as_the_level_says():
    """5 % of 300, standard deviation 1.3 points."""
    _, refuted = coverage(hyperbola, 128.0, 0.95, noise=0.1, seeds=4)
    assert abs(refuted - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_with_little_noise_the_interval_is_that_of_a_line(confidence):
    """d log S / d log B_crit = B_crit / (B + B_crit) is the regressor beside a constant; runs - 2 degrees of freedom."""
    rng = np.random.default_rng(3)
    sizes = np.repeat(SIZES, 2)
    found = critical_batch_size.fit(
        sizes, hyperbola(sizes, 1e6) * np.exp(1e-3 * rng.normal(size=len(sizes))), confidence=confidence
    )
    assert found.lack_of_fit > 0.2  # else the curve is not trusted
    slope = found.value / (sizes + found.value)
    error = found.deviation / math.sqrt(np.sum((slope - slope.mean()) ** 2))
    reach = scipy.stats.t.ppf(0.5 + confidence / 2, len(sizes) - 2) * error
    np.testing.assert_allclose(np.log(np.array(found.interval) / found.value), [-reach, reach], rtol=0.01)


def test_noise_is_told():
    rng = np.random.default_rng(0)
    sizes = np.repeat(SIZES, 50)
    found = critical_batch_size.fit(sizes, hyperbola(sizes) * np.exp(0.1 * rng.normal(size=len(sizes))))
    np.testing.assert_allclose(found.deviation, 0.1, rtol=0.1)  # 398 degrees of freedom: 3.5 %
    assert found.fits


# A curve that does not hold.


def steeper(sizes):
    """S = 200 (1 + (128 / B)^1.3): still twice the least at 128."""
    return 200 * (1 + (128 / sizes) ** 1.3)


def test_seeds_refute_a_wrong_curve_and_do_not_make_it_look_sure():
    """With 100 times the seeds an interval that trusts the curve would be ten times as narrow; this one hardly changes."""
    widths = []
    for seeds in (3, 300):
        rng = np.random.default_rng(1)
        sizes = np.repeat(SIZES, seeds)
        found = critical_batch_size.fit(sizes, steeper(sizes) * np.exp(0.02 * rng.normal(size=len(sizes))))
        assert found.fits is False and found.lack_of_fit < 1e-3
        assert found.interval[0] < 128 < found.interval[1]
        widths.append(math.log(found.interval[1] / found.interval[0]))
    assert widths[1] > 0.8 * widths[0]


@pytest.mark.parametrize("noise, seeds", [(0.05, 3), (0.02, 200)])
def test_the_interval_of_a_wrong_curve_holds_the_truth(noise, seeds):
    share, refuted = coverage(steeper, 128.0, 0.95, noise=noise, seeds=seeds, experiments=100)
    assert share >= 0.9 and refuted > 0.9


# SGD whose expected loss is known.


def test_sgd_of_least_squares_without_label_noise_has_the_critical_batch_of_its_inputs():
    """Inputs x ~ N(0, I) of d = 20 and labels xᵀw*: the gradient of B examples at error e is (1/B) Σ x xᵀe.

    E|e'|² = |e|² (1 - 2a + a² (1 + (d + 1) / B)), so with a = c / (1 + (d + 1) / B) updates are a hyperbola up to 0.04 %,
    with B_crit = (d + 1) / (1 - c / 2) to first order in c. Of the batch enter |Xe|² = |e|² χ²_B and Xᵀ(Xe) orthogonal to e
    alone, which is |e| χ_B times a normal vector: these are drawn instead of B x d numbers, from the same distribution.
    """
    d, c, least = 20, 0.05, 1e-5

    def rate(size):
        return c / (1 + (d + 1) / size)

    def expected(size):
        a = rate(size)
        return math.log(least) / math.log(1 - 2 * a + a * a * (1 + (d + 1) / size))

    min_updates = expected(1e15)
    truth = scipy.optimize.brentq(lambda size: expected(size) - 2 * min_updates, 1, 1000)
    np.testing.assert_allclose(truth, 21 / (1 - c / 2), rtol=0.04)

    rng, sizes, seeds, studies = np.random.default_rng(0), [4, 8, 16, 32, 64, 128, 256], 3, 200

    def updates(size, runs):
        error, taken, a = np.full((runs, d), d**-0.5), np.zeros(runs), rate(size)
        for update in range(1, 10_000):
            squared = np.sum(error**2, 1, keepdims=True)
            along = rng.chisquare(size, (runs, 1))
            across = rng.normal(size=(runs, d))
            across -= np.sum(across * error, 1, keepdims=True) * error / squared
            error = error - a / size * (along * error + np.sqrt(along * squared) * across)
            taken[(taken == 0) & (np.sum(error**2, 1) <= least)] = update
            if taken.all():
                return taken
        raise AssertionError("not reached")

    taken = np.stack([updates(size, studies * seeds).reshape(studies, seeds) for size in sizes], 1)
    found = [critical_batch_size.fit(np.repeat(sizes, seeds), each.ravel()) for each in taken]
    assert share_that_hold(found, truth) >= 0.9
    np.testing.assert_allclose(np.median([each.value for each in found]), truth, rtol=0.02)


class NoisyQuadratic:
    """Zhang et al. 2019: L = ½ Σ h θ², gradient noise of variance h / B, θ(0) = 1; `repeats` directions for each h = 1 / i.

    SGD with rate a has E θ²(t) = q + (1 - q) a / (B (2 - a h)) with q = (1 - a h)^2t. Of a group of equal h enters |θ|² alone:
    |(1 - a h) θ + a √(h / B) ξ|², a normal part along θ and a χ² across it.
    """

    def __init__(self, groups=10, repeats=100, target=0.01):
        self.h, self.repeats = 1 / np.arange(1, groups + 1), repeats
        self.target = target * 0.5 * repeats * self.h.sum()

    def updates(self, size, rate):
        """Until the expected loss is at the target, not rounded; inf if it stays above."""
        h, floor = self.h, rate / (size * (2 - rate * self.h))

        def excess(t):
            q = ((1 - rate * h) ** 2) ** t
            return 0.5 * self.repeats * np.sum(h * (q + (1 - q) * floor)) - self.target

        return math.inf if excess(1e7) >= 0 else scipy.optimize.brentq(excess, 0, 1e7)

    def best(self, size):
        """Updates with the best constant rate, and that rate."""
        return min((self.updates(size, rate), rate) for rate in np.geomspace(0.02, 1.99, 150))

    def critical(self):
        least = self.best(1e12)[0]
        return math.exp(
            scipy.optimize.brentq(
                lambda log: self.best(math.exp(log))[0] - 2 * least, math.log(10), math.log(2000), xtol=0.01
            )
        )

    def train(self, size, rate, runs, rng):
        """Updates until the loss of each run is at the target for the first time, shape (runs,)."""
        radius, taken = np.full((runs, len(self.h)), math.sqrt(self.repeats)), np.zeros(runs)
        noise = rate * np.sqrt(self.h / size)
        for update in range(1, 10_000):
            along = (1 - rate * self.h) * radius + noise * rng.normal(size=radius.shape)
            radius = np.sqrt(along**2 + noise**2 * rng.chisquare(self.repeats - 1, radius.shape))
            taken[(taken == 0) & (0.5 * radius**2 @ self.h <= self.target)] = update
            if taken.all():
                return taken
        raise AssertionError("not reached")


@pytest.mark.slow
def test_sgd_on_the_noisy_quadratic_model_with_the_best_rates():
    """The hyperbola does not hold here: through S_min and B_crit it is up to 24 % too low, and its fit to the exact S finds a
    B_crit 35 % too large. Three seeds refute it nearly always, and then the interval holds the truth.
    """
    model = NoisyQuadratic()
    truth = model.critical()
    sizes = [round(truth * 2.0**power) for power in range(-4, 5)]
    exact = [model.best(size) for size in sizes]
    bend = np.array([updates for updates, _ in exact]) / hyperbola(sizes, model.best(1e12)[0], truth) - 1
    assert 0.2 < bend.max() < 0.3 and bend.min() > -0.1
    assert 1.25 < critical_batch_size.fit(sizes, [updates for updates, _ in exact]).value / truth < 1.45

    rng, seeds, studies = np.random.default_rng(0), 3, 100
    taken = [
        model.train(size, rate, studies * seeds, rng).reshape(studies, seeds)
        for size, (_, rate) in zip(sizes, exact, strict=True)
    ]
    found = [critical_batch_size.fit(np.repeat(sizes, seeds), each.ravel()) for each in np.stack(taken, 1)]
    assert share_that_hold(found, truth) >= 0.9
    assert np.mean([each.fits is False for each in found]) > 0.8


# What the sizes tried do not tell.


def noisy(curve, sizes, noise=0.1, seeds=4):
    sizes = np.repeat(sizes, seeds)
    return sizes, curve(sizes) * np.exp(noise * np.random.default_rng(1).normal(size=len(sizes)))


def test_sizes_in_perfect_scaling_do_not_bound_from_above():
    found = critical_batch_size.fit(*noisy(hyperbola, [1, 2, 4, 8]))
    assert found.is_open_above and found.interval[1] == math.inf
    assert not found.is_open_below and 8 < found.interval[0] < 128
    assert found.regime(2) == "perfect scaling"


def test_sizes_in_maximal_parallelism_do_not_bound_from_below():
    found = critical_batch_size.fit(*noisy(hyperbola, [2000, 4000, 8000, 16000]))
    assert found.is_open_below and found.interval[0] == 0
    assert not found.is_open_above and 128 < found.interval[1] < 16000
    assert found.regime(8000) == "maximal parallelism"


def test_noise_that_hides_the_bend_leaves_both_sides_open():
    found = critical_batch_size.fit([100, 128, 160], [300, 900, 200])
    assert found.interval == (0, math.inf) and found.is_open_below and found.is_open_above


def test_a_line_and_a_constant_are_the_limits_of_the_curve():
    """Steeper than 1 / B, S has no bend at any size: E = B S is constant. Growing with B, S is."""
    line = critical_batch_size.fit([1, 10, 100], [1e6, 9e4, 8e3])
    assert line.value == math.inf and line.min_updates == 0.0
    np.testing.assert_allclose(line.min_examples, (1e6 * 9e5 * 8e5) ** (1 / 3), rtol=1e-9)
    np.testing.assert_allclose(line.examples(7), line.min_examples)
    assert line.regime(1e9) == "perfect scaling"
    constant = critical_batch_size.fit([1, 10, 100], [500, 510, 505])
    assert constant.value == 0 and constant.min_examples == 0
    np.testing.assert_allclose(constant.updates(3), (500 * 510 * 505) ** (1 / 3), rtol=1e-9)
    assert constant.regime(1) == "maximal parallelism"


# What cannot be fitted.


@pytest.mark.parametrize(
    "sizes, updates, message",
    [
        ([1, 2, 3], [10, 5], "equal length"),
        ([[1, 2, 3]], [[10, 5, 4]], "equal length"),
        ([16, 16, 64], [10, 11, 5], r"three batch sizes are needed, but got 16, 64.*Train one that is four"),
        ([], [], "but got none"),
        ([1, 2, 0], [10, 5, 4], r"batch_sizes\[2\] is 0"),
        ([1, 2, 3], [10, -5, 4], r"updates\[1\] is -5.*missed the target"),
        ([1, 2, 3], [10, 5, math.nan], r"updates\[2\] is nan"),
        ([1, 2, math.inf], [10, 5, 4], r"batch_sizes\[2\] is inf"),
    ],
)
def test_what_came_and_what_to_type_next_is_told(sizes, updates, message):
    with pytest.raises(ValueError, match=message):
        critical_batch_size.fit(sizes, updates)


@pytest.mark.parametrize("confidence", [0, 1, 95, True])
def test_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match=r"Pass 0\.95"):
        critical_batch_size.fit([1, 2, 4], [4, 2, 1], confidence=confidence)


@pytest.mark.parametrize("size", [0, -1, math.nan])
def test_a_size_is_positive(size):
    found = critical_batch_size.fit(SIZES, hyperbola(SIZES))
    for method in (found.updates, found.examples, found.regime):
        with pytest.raises(ValueError, match="positive number of examples"):
            method(size)
