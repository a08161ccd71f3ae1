"""RMSprop warm-up against its formula by hand, in NumPy and float64."""

import keras
import numpy as np
import pytest
from steps import GRADIENTS, STARTS, after_each, assert_steps

from tf_lbgap.optimizers import RmspropWarmup


@pytest.fixture(autouse=True)
def _float64():
    keras.config.set_floatx("float64")


def by_hand(shares, rates, *, rmsprop_rate=3e-4, momentum=0.9, rho=0.99, epsilon=1e-8):
    def steps(w, gradients, excluded):
        s, moved, found = np.zeros_like(w), np.zeros_like(w), []
        for g, a, rate in zip(gradients, shares, rates, strict=True):
            s = rho * s + (1 - rho) * g**2
            of_rmsprop = (1 - a) * rmsprop_rate / rate if rate else 0.0
            moved = momentum * moved - (a + of_rmsprop / (np.sqrt(s) + epsilon)) * g
            w = w + rate * moved
            found.append(w)
        return found

    return steps


def test_updates_blend_both_in_the_share_of_the_schedule():
    """center = 1, period = 4: shares exp(-1/2) / 2, 1/2, 3/4; the rate, outside of the buffer, may change."""
    rates = [0.1, 0.1, 0.02]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.02])
    optimizer = RmspropWarmup(schedule, center=1, period=4)
    # In float32, the share has 7 digits.
    assert_steps(optimizer, by_hand([np.exp(-0.5) / 2, 0.5, 0.75], rates), rtol=1e-6)


def test_other_settings_and_a_rate_of_zero():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.0, 0.125])
    optimizer = RmspropWarmup(
        schedule, center=0, period=2, rmsprop_rate=0.01, momentum=0.5, rho=0.8, epsilon=0.1
    )
    expected = by_hand(
        [0.5, 1, 1], [0.0, 0.125, 0.125], rmsprop_rate=0.01, momentum=0.5, rho=0.8, epsilon=0.1
    )
    assert_steps(optimizer, expected)


def test_long_before_the_center_it_is_rmsprop():
    """Momentum 0; Keras' RMSprop has ε under the root, so ε is 0 here. The share of SGD is e⁻²⁰⁰⁰."""
    some = [{"kernel": gradient["embedding"]} for gradient in GRADIENTS]
    start = {"kernel": STARTS["embedding"]}
    ours = after_each(RmspropWarmup(0.1, center=1000, period=1, momentum=0, epsilon=0, rho=0.9), start, some)
    theirs = after_each(keras.optimizers.RMSprop(3e-4, rho=0.9, epsilon=0), start, some)
    np.testing.assert_allclose(ours[-1]["kernel"], theirs[-1]["kernel"], rtol=1e-6)


def test_after_the_change_it_is_sgd_with_momentum():
    """Keras' SGD rounds its momentum to float32."""
    ours = after_each(RmspropWarmup(0.1, center=0, period=0))
    theirs = after_each(keras.optimizers.SGD(0.1, momentum=0.9))
    for name in STARTS:
        np.testing.assert_allclose(ours[-1][name], theirs[-1][name], rtol=1e-6, err_msg=name)


def test_the_share_has_neither_a_jump_nor_a_kink_at_the_center_and_ends_half_a_period_later():
    optimizer = RmspropWarmup(0.1, center=100, period=50)
    share = np.array([float(optimizer.share_of_sgd(t)) for t in range(200)])
    assert share[0] == pytest.approx(np.exp(-4) / 2, rel=1e-5)
    assert share[100] == 0.5 and share[124] < 1.0 and np.all(share[125:] == 1.0)
    slopes = np.diff(share)
    assert slopes[99] == pytest.approx(slopes[100], rel=0.03)  # 1 / period, on both sides
    assert slopes[100] == pytest.approx(1 / 50, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"center": -1, "period": 1}, "center of RmspropWarmup must be a number from 0 up, but got -1"),
        ({"center": 1, "period": "5"}, "period of RmspropWarmup must be a number from 0 up, but got '5'"),
        ({"center": 1, "period": 1, "rho": 1}, "rho of RmspropWarmup must be a number from 0 to below 1"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        RmspropWarmup(0.1, **options)
    assert "\n" not in str(error.value)
