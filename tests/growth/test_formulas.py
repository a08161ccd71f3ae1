"""Each criterion against its paper's formula, on gradients small enough to do by hand."""

import itertools
import json
import math

import numpy as np
import pytest

from tf_lbgap.growth import (
    BigBatch,
    Cabs,
    FriedlanderSchmidt,
    GradientNoiseScale,
    InnerProductTest,
    NormTest,
)

# Gradients of four examples in two parameters, (1, 2), (3, -1), (0, 1), (2, 2). Their mean is (1.5, 1).
GRADIENTS = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0], [2.0, 2.0]])
BY_HAND = {
    "trace": 11 / 3,  # deviations squared: 5 in the first parameter, 6 in the second, over B - 1
    "batch_squared_norm": 3.25,  # 1.5² + 1²
    "squared_norm": 7 / 3,  # 3.25 - (11 / 3) / 4
    "inner_product_variance": 2.75,  # products 3.5, 3.5, 1, 5, of mean 3.25: (2 · 0.0625 + 5.0625 + 3.0625) / 3
    "noise_scale": 11 / 7,
    "noise_scale_low": 0.5,
    "noise_scale_high": math.inf,
    "learning_rate": 0.5,
    "loss": 0.1,
    "num_examples": 1000,
}


def test_the_numbers_by_hand_are_those_of_numpy():
    mean = GRADIENTS.mean(0)
    trace = np.trace(np.cov(GRADIENTS.T))
    assert BY_HAND["trace"] == pytest.approx(trace, rel=1e-12)
    assert BY_HAND["batch_squared_norm"] == pytest.approx(mean @ mean, rel=1e-12)
    assert BY_HAND["squared_norm"] == pytest.approx(mean @ mean - trace / 4, rel=1e-12)
    assert BY_HAND["inner_product_variance"] == pytest.approx(np.var(GRADIENTS @ mean, ddof=1), rel=1e-12)


@pytest.mark.parametrize(
    ("criterion", "wanted"),
    [
        (NormTest(theta=0.6), 4),  # 11/12 = 0.9167 is not above 0.36 · 3.25 = 1.17
        (NormTest(theta=0.5), 5),  # but above 0.8125; 3.667 / 0.8125 = 4.51
        (NormTest(theta=0.1), 113),  # 3.667 / 0.0325 = 112.8
        (NormTest(theta=0.5, unbiased=True), 7),  # 3.667 / (0.25 · 7/3) = 6.29
        (NormTest(theta=0.1, finite=True), 102),  # 3666.7 / (0.0325 · 999 + 3.667) = 101.5
        (InnerProductTest(theta=0.9), 4),  # 2.75 / 4 = 0.6875 is not above 0.81 · 3.25² = 8.56
        (InnerProductTest(theta=0.1), 27),  # 2.75 / (0.01 · 10.5625) = 26.04
        (BigBatch(), 4),  # 3.25 is not below 0.9167
        (BigBatch(theta=0.5), 5),  # but below 3.667; one example more, as a tenth of 4 is less
        (Cabs(), 18),  # 0.5 · 3.667 / 0.1 = 18.3
        (GradientNoiseScale(bound="value"), 11 / 7),
        (GradientNoiseScale(bound="value", fraction=10), 110 / 7),
        (GradientNoiseScale(), 4),  # from 0.5 to infinity: 4 may be right
        (FriedlanderSchmidt(practical=True), 6),  # 1.1 · 4 + 1 = 5.4
    ],
    ids=repr,
)
def test_a_decision_by_hand(criterion, wanted):
    decision = criterion(4, BY_HAND)

    assert decision.batch_size == pytest.approx(wanted, abs=1e-6)
    assert decision.reason.endswith(".") and "\n" not in decision.reason
    json.dumps(decision.numbers)
    for name in set(criterion.needs) & set(decision.numbers):
        assert decision.numbers[name] == BY_HAND[name]


def test_the_gauges_are_the_thetas_that_just_pass():
    """Cockpit's θ_max: √(0.9167 / 3.25) and √(0.6875 / 3.25²)."""
    for kind, gauge in ((NormTest, 0.5310850), (InnerProductTest, 0.2551249)):
        assert kind()(4, BY_HAND).numbers["theta_max"] == pytest.approx(gauge, abs=1e-6)
        assert kind(theta=gauge * 1.001)(4, BY_HAND).batch_size == 4
        assert kind(theta=gauge * 0.999)(4, BY_HAND).batch_size > 4


def test_a_reason_tells_the_numbers_that_decided():
    assert NormTest(theta=0.5)(4, BY_HAND).reason == (
        "tr(Σ)/B = 0.917 is above θ²|g|² = 0.812: 5 examples would pass the test."
    )
    assert NormTest(theta=0.6)(4, BY_HAND).reason == (
        "tr(Σ)/B = 0.917 is not above θ²|g|² = 1.17: the batch size stays."
    )


# Sampling without replacement, by going through all batches of a training set.

POPULATION = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0], [2.0, 2.0], [-1.0, 0.5], [4.0, 1.0], [1.5, -2.0]])
N = len(POPULATION)


def squared_error(size):
    """The mean over all batches of ‖g_B - G‖²."""
    means = [np.mean(batch, axis=0) for batch in itertools.combinations(POPULATION, size)]
    return np.mean(np.sum((means - POPULATION.mean(0)) ** 2, axis=1))


@pytest.mark.parametrize("updates", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_friedlander_schmidt_wants_the_smallest_batch_that_meets_the_decaying_bound(first, updates):
    trace = np.trace(np.cov(POPULATION.T))
    measured = {"trace": trace, "first_trace": trace, "first_batch_size": first, "num_examples": N}

    wanted = FriedlanderSchmidt(rate=0.8)(first, {**measured, "updates": updates}).batch_size

    bound = squared_error(first) * 0.8**updates
    assert wanted == min(size for size in range(1, N + 1) if squared_error(size) <= bound * (1 + 1e-9))


def test_friedlander_schmidt_stays_at_first_and_while_noise_falls_faster_than_its_bound():
    measured = {"first_trace": 8.0, "first_batch_size": 2, "num_examples": 1000, "updates": 0}
    criterion = FriedlanderSchmidt(rate=0.5)
    assert criterion(2, {**measured, "trace": 8.0}).batch_size == 2
    assert criterion(2, {**measured, "trace": 1.9, "updates": 2}).batch_size == 2
    assert criterion(2, {**measured, "trace": 2.1, "updates": 2}).batch_size == 3
    assert criterion(2, {**measured, "trace": 0.0, "updates": 99}).batch_size == 2
    assert criterion(2, {**measured, "trace": 8.0, "updates": 10**6}).batch_size == 1000  # the bound is 0


@pytest.mark.parametrize("theta", [0.05, 0.3, 0.5, 0.9])
def test_the_finite_norm_test_wants_the_smallest_batch_whose_error_is_small_enough(theta):
    """With the variance over N, not N - 1, the paper's factor (N - B) / (N - 1) is exact."""
    trace, squared = np.var(POPULATION, axis=0).sum(), np.sum(POPULATION.mean(0) ** 2)
    measured = {"trace": trace, "batch_squared_norm": squared, "num_examples": N}

    wanted = NormTest(theta=theta, finite=True)(1, measured).batch_size

    assert wanted == min(s for s in range(1, N + 1) if squared_error(s) <= theta**2 * squared + 1e-12)


def test_practical_growth_is_capped_by_the_training_set():
    sizes = [10.0]
    while sizes[-1] < 60:
        sizes.append(FriedlanderSchmidt(practical=True)(sizes[-1], {"num_examples": 60}).batch_size)
    assert sizes == [10, 12, 15, 18, 21, 25, 29, 33, 38, 43, 49, 55, 60]
