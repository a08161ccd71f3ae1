"""LAMB against its formula by hand, in NumPy and float64, and against Keras' other one."""

import keras
import numpy as np
import pytest
from steps import GRADIENTS, STARTS, after_each, assert_steps

from tf_lbgap.optimizers import Lamb


@pytest.fixture(autouse=True)
def _float64():
    keras.config.set_floatx("float64")


def by_hand(weight_decay=0.0, *, rate=0.1, betas=(0.9, 0.999), epsilon=1e-6, phi=None, corrected=True):
    """Algorithm 2 of You et al. 2020, with 1 for the quotient where either norm is 0."""

    def steps(w, gradients, excluded):
        m, v, found = np.zeros_like(w), np.zeros_like(w), []
        for t, g in enumerate(gradients, start=1):
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g**2
            ones = (1 - betas[0] ** t, 1 - betas[1] ** t) if corrected else (1, 1)
            u = m / ones[0] / (np.sqrt(v / ones[1]) + epsilon)
            quotient = 1.0
            if not excluded:
                u = u + weight_decay * w
                length = np.linalg.norm(w)
                length = length if phi is None else min(max(length, phi[0]), phi[1])
                if length > 0 and np.linalg.norm(u) > 0:
                    quotient = length / np.linalg.norm(u)
            w = w - rate * quotient * u
            found.append(w)
        return found

    return steps


CASES = {
    "plain": {},
    "decay": {"weight_decay": 0.3},
    "no bias correction": {"weight_decay": 0.3, "bias_correction": False},
    "other betas": {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1},
    "no memory": {"beta_1": 0.0, "weight_decay": 0.1},
    "phi from above": {"weight_decay": 0.3, "phi_bounds": (0.0, 0.5)},
    "phi from below, for a kernel of zeros too": {"phi_bounds": [2.0, 10.0]},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_updates_are_those_of_the_paper_zero_norms_and_biases_included(options):
    settings = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6, "weight_decay": 0.0} | options
    expected = by_hand(
        settings["weight_decay"],
        betas=(settings["beta_1"], settings["beta_2"]),
        epsilon=settings["epsilon"],
        phi=settings.get("phi_bounds"),
        corrected=settings.get("bias_correction", True),
    )
    assert_steps(Lamb(0.1, **options), expected)


def test_what_is_left_out_takes_the_steps_of_adam():
    """Keras' own Adam is the reference: it adds ε before it corrects √v, so ε is 0; 1 - βᵗ is in float32."""
    nothing_zero = [{"kernel": gradient["bias"].reshape(1, 2)} for gradient in GRADIENTS]
    start = {"kernel": STARTS["bias"].reshape(1, 2)}
    ours = after_each(Lamb(0.1, epsilon=0.0, weight_decay=0.3, exclude=["kernel"]), start, nothing_zero)
    adam = after_each(keras.optimizers.Adam(0.1, epsilon=0.0), start, nothing_zero)
    for one, other in zip(ours, adam, strict=True):
        np.testing.assert_allclose(one["kernel"], other["kernel"], rtol=1e-5)


def test_float32_agrees_to_a_millionth_from_the_first_update():
    """1 - 0.999 in float32 is off by 1.3e-5 of itself, which shows in a bias: no norm hides its length."""
    keras.config.set_floatx("float32")
    assert_steps(Lamb(0.1, weight_decay=0.3), by_hand(0.3), rtol=1e-6)
    gradients = [{"bias": gradient["bias"]} for gradient in GRADIENTS]
    assert_steps(Lamb(1.0), by_hand(rate=1.0), starts={"bias": np.zeros(2)}, gradients=gradients, rtol=1e-6)


def test_kernels_without_decay_or_zeros_move_as_with_keras_lamb_and_biases_do_not():
    ours = after_each(Lamb(0.1, epsilon=0.0, exclude_vectors=False))
    keras_ = after_each(keras.optimizers.Lamb(0.1, epsilon=0.0))
    for name in ("embedding", "bias"):
        np.testing.assert_allclose(ours[-1][name], keras_[-1][name], rtol=1e-6)
    plain = after_each(Lamb(0.1, epsilon=0.0))
    np.testing.assert_allclose(plain[-1]["embedding"], keras_[-1]["embedding"], rtol=1e-6)
    assert np.abs(plain[-1]["bias"] - keras_[-1]["bias"]).max() > 0.01


def test_with_decay_keras_steps_are_longer_than_the_rate_says_and_point_elsewhere():
    """w = (3, 4), g = (1, 1): Adam's direction is (1, 1), to which the paper adds 0.5 w, and Keras nothing.

    Paper: u = (2.5, 3), a step of 0.1 · 5 along it. Keras: w first shrinks by 0.1 · 0.5, to norm 4.75; then a
    step of 0.1 · 4.75 along (1, 1).
    """
    start, gradient = {"kernel": np.array([[3.0, 4.0]])}, [{"kernel": np.array([[1.0, 1.0]])}]
    paper = after_each(Lamb(0.1, epsilon=0.0, weight_decay=0.5), start, gradient)[0]["kernel"]
    other = after_each(keras.optimizers.Lamb(0.1, epsilon=0.0, weight_decay=0.5), start, gradient)[0][
        "kernel"
    ]
    u = np.array([2.5, 3.0])
    np.testing.assert_allclose(paper[0], [3, 4] - 0.5 * u / np.linalg.norm(u), rtol=1e-10)
    np.testing.assert_allclose(other[0], 0.95 * np.array([3, 4]) - 0.475 / np.sqrt(2), rtol=1e-6)
    assert np.linalg.norm(paper - start["kernel"]) == pytest.approx(0.5)
    assert np.linalg.norm(other - start["kernel"]) == pytest.approx(0.72, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta_1": 1.0}, "beta_1 of Lamb must be a number from 0 to below 1, but got 1.0"),
        ({"epsilon": -1e-6}, "epsilon of Lamb must be a number from 0 up"),
        ({"phi_bounds": (2.0, 1.0)}, r"phi_bounds\[1\] of Lamb must be a number from 2 up, but got 1.0"),
        ({"phi_bounds": 10.0}, "phi_bounds of Lamb must be two numbers"),
        ({"weight_decay": True}, "weight_decay of Lamb must be a number from 0 up, but got True"),
        ({"bias_correction": "no"}, "bias_correction of Lamb must be True or False"),
        ({"amsgrad": True}, "amsgrad"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        Lamb(**options)
    assert "\n" not in str(error.value)
