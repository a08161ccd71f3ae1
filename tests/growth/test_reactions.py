"""Where noise and signal are known: a criterion grows below its size, stays there, and shrinks where it may."""

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

TRACE, SQUARED, DIMENSION = (
    1000.0,
    1.0,
    100,
)  # a noise scale of 1000 examples, spread evenly over the dimensions


def measured(batch_size, **more):
    """Expected values of what is measured with a batch."""
    of_batch = SQUARED + TRACE / batch_size
    return {
        "trace": TRACE,
        "squared_norm": SQUARED,
        "noise_scale": TRACE / SQUARED,
        "noise_scale_low": 500.0,
        "noise_scale_high": 2000.0,
        "batch_squared_norm": of_batch,
        "inner_product_variance": TRACE / DIMENSION * of_batch,
        "learning_rate": 0.1,
        "loss": 0.5,
        "num_examples": 10**6,
        "first_batch_size": 100,
        "first_trace": TRACE,
        "updates": 3,
        **more,
    }


@pytest.mark.parametrize(
    ("criterion", "below", "enough"),
    [
        (NormTest(theta=0.5), 2990, 3010),  # (1 / θ² - 1) noise scales, since |g_B|² is biased
        (NormTest(theta=0.5, unbiased=True), 3990, 4010),  # 1 / θ² noise scales
        (BigBatch(theta=0.5), 2990, 3010),
        (InnerProductTest(theta=0.09), 234, 235),  # 10 ≤ θ² (B + 1000)
        (FriedlanderSchmidt(rate=0.5), 799, 800),  # half the error three times: 8 times the first batch
        (GradientNoiseScale(), 499, 501),
        (GradientNoiseScale(fraction=0.1), 49, 51),
        (GradientNoiseScale(bound="value"), 999, 1000),
        (Cabs(), 199, 200),
    ],
    ids=repr,
)
def test_it_grows_below_and_stays_above(criterion, below, enough):
    assert criterion(below, measured(below)).batch_size > below
    assert criterion(enough, measured(enough)).batch_size == enough


@pytest.mark.parametrize(
    ("criterion", "wanted"),
    [
        (NormTest(theta=0.5), 9000),
        (InnerProductTest(), 9000),
        (BigBatch(), 9000),
        (FriedlanderSchmidt(rate=0.5), 9000),
        (GradientNoiseScale(), 2000),
        (GradientNoiseScale(bound="value"), 1000),
        (Cabs(), 200),
    ],
    ids=repr,
)
def test_far_above_only_the_noise_scale_and_cabs_shrink(criterion, wanted):
    assert criterion(9000, measured(9000)).batch_size == wanted


@pytest.mark.parametrize(
    ("criterion", "end"),
    [
        (NormTest(theta=0.5), 3000),
        (NormTest(theta=0.5, unbiased=True), 4000),
        (BigBatch(theta=0.5), 3000),
        (GradientNoiseScale(), 500),
        (Cabs(), 200),
    ],
    ids=repr,
)
def test_decision_by_decision_it_comes_to_rest(criterion, end):
    size, seen = 10.0, []
    while not seen or size != seen[-1]:
        seen.append(size)
        size = criterion(size, measured(size)).batch_size
        assert len(seen) < 200

    assert seen == sorted(seen)
    assert end <= size <= 1.1 * end


def test_no_noise_needs_one_example_and_only_who_may_shrink_says_so():
    quiet = measured(64, trace=0.0, noise_scale=0.0, noise_scale_low=0.0, noise_scale_high=0.0)
    quiet["inner_product_variance"] = 0.0
    for criterion in (GradientNoiseScale(), GradientNoiseScale(bound="value"), Cabs()):
        assert criterion(64, quiet).batch_size == 1
    for criterion in (NormTest(), InnerProductTest(), BigBatch(), FriedlanderSchmidt(rate=0.9)):
        assert criterion(64, quiet).batch_size == 64


def test_a_gradient_that_noise_hides_asks_for_no_size():
    """|G|² estimated at 0 or below, and with it an infinite noise scale: no number follows, so the size stays."""
    for squared_norm in (0.0, -0.1):
        decision = NormTest(unbiased=True)(64, measured(64, squared_norm=squared_norm))
        assert decision.batch_size == 64 and "no size would pass" in decision.reason
    hidden = measured(64, noise_scale=np.inf, noise_scale_high=np.inf)
    decision = GradientNoiseScale(bound="value")(64, hidden)
    assert decision.batch_size == 64 and "no number that a batch could have" in decision.reason
    assert GradientNoiseScale()(64, hidden).batch_size == 500  # the lower end still tells something
    assert NormTest()(64, measured(64, batch_squared_norm=0.0)).batch_size == 64
    assert InnerProductTest()(64, measured(64, batch_squared_norm=0.0)).batch_size == 64
    assert Cabs()(64, measured(64, loss=0.0)).batch_size == 64


def test_signal_against_its_own_noise_fails_half_the_time_when_there_is_no_signal():
    """What docs/growth.md says of θ = 1: for G = 0 the test of De et al. is a coin toss, not a stop."""
    rng = np.random.default_rng(0)
    grown = 0
    for _ in range(1000):
        gradients = rng.normal(size=(40, 20))
        mean = gradients.mean(0)
        found = {"trace": np.trace(np.cov(gradients.T)), "batch_squared_norm": mean @ mean}
        grown += BigBatch(theta=1.0)(40, found).batch_size > 40
    assert 0.45 < grown / 1000 < 0.62  # P(χ²₂₀ < 20) = 0.54
