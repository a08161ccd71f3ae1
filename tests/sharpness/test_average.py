"""Average sharpness against expectations that are known, and its standard error against its spread."""

import math

import numpy as np
import pytest
import tensorflow as tf
from cases import cut
from references import floatx
from valleys import bowl, dinh, slope

from tf_lbgap.sharpness import Subject, average_sharpness, sampled_average_sharpness


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


WEIGHTS, DIAGONAL = np.array([2.0, -1.0, 0.5, 0.0, 3.0]), np.array([1.0, 5.0, 0.1, 3.0, 0.5])


@pytest.mark.parametrize("adaptive", [False, True])
def test_of_a_bowl_it_is_half_the_trace_and_the_error_is_the_spread_over_seeds(adaptive):
    """E[δᵀHδ]/2 = ρ²/2 Σ λ_i s_i², with s_i = 1 or |w_i|; and the variance of a sample is ρ⁴/2 Σ λ_i² s_i⁴."""
    model, loss, data = bowl(WEIGHTS, DIAGONAL)
    subject = Subject(model, loss, cut(data, (4, 1)))
    scale = np.abs(WEIGHTS) if adaptive else np.ones(5)
    exact = 0.3**2 / 2 * DIAGONAL @ scale**2
    deviation = 0.3**2 * math.sqrt((DIAGONAL**2 @ scale**4) / 2 / 20)

    found = [
        sampled_average_sharpness(subject, rho=0.3, adaptive=adaptive, num_samples=20, seed=seed)
        for seed in range(25)
    ]

    # 25 means: 3 standard errors of their mean. The root mean square of 25 errors is good to some 8 %.
    assert abs(np.mean([f.value for f in found]) - exact) < 3 * deviation / math.sqrt(25)
    assert np.sqrt(np.mean([f.standard_error**2 for f in found])) == pytest.approx(deviation, rel=0.25)
    assert np.std([f.value for f in found]) == pytest.approx(deviation, rel=0.35)


def test_a_slope_alone_gives_nothing_and_no_spread():
    """Each draw is used with both signs."""
    model, loss, data, _ = slope(WEIGHTS)
    found = sampled_average_sharpness(model, loss, data, num_samples=5)
    assert abs(found.value) < 1e-14
    assert found.standard_error < 1e-14


def test_the_adaptive_one_does_not_notice_a_rescaling():
    """L at (a, 1/a) with noise relative to each weight: ((1 + δ1)(1 + δ2) - 1)²/2, without a."""
    plain, adaptive = (
        [average_sharpness(*dinh(a), rho=0.1, adaptive=adaptive) for a in (1, 8)]
        for adaptive in (False, True)
    )
    assert adaptive[0] == pytest.approx(adaptive[1], rel=1e-12)
    assert plain[1] > 10 * plain[0]


def test_several_rhos_share_the_draws_and_a_single_sample_has_no_error():
    model, loss, data = bowl(WEIGHTS, DIAGONAL)
    one, two = average_sharpness(model, loss, data, rho=[0.1, 0.2])
    assert two == pytest.approx(4 * one, rel=1e-9)
    assert average_sharpness(model, loss, data, rho=0.1) == pytest.approx(one, rel=1e-12)
    assert average_sharpness(model, loss, data, rho=0.1, seed=1) != one
    assert math.isnan(sampled_average_sharpness(model, loss, data, num_samples=1).standard_error)


def test_what_is_not_finite_is_refused_or_warned_of():
    model, _, data, _ = slope([0.5])
    with pytest.warns(UserWarning, match="smaller rho"):
        average_sharpness(model, lambda y, p: tf.math.log(p[:, 0] + 1.5), (np.ones((1, 1)),) * 2, rho=9.0)
    for arguments, message in (({"num_samples": 0}, "num_samples is 0"), ({"rho": 0}, "rho is 0")):
        with pytest.raises(ValueError, match=message):
            average_sharpness(*dinh(1), **arguments)
    with pytest.raises(ValueError, match="training diverged"):
        average_sharpness(model, lambda y, p: 0 * p[:, 0] + np.inf, data)
