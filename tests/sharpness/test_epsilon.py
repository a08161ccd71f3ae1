"""Keskar's sharpness against maxima that are known on paper."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import cut
from references import floatx
from valleys import RAGGED, bowl, dinh, half_square, linear_model, relu_network, slope

from tf_lbgap.sharpness import epsilon_sharpness, top_eigenvalue


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


WEIGHTS = np.array([2.0, -1.0, 0.5, 0.0, 3.0])


@pytest.mark.parametrize(
    ("a", "percent"), [(1, 8.016e-4), (10, 7.335e-3), (100, 0.5213), (1000, 50.3)], ids=str
)
def test_rescaling_a_network_multiplies_its_sharpness(a, percent):
    """f = (w1 w2 - 1)²/2 at (a, 1/a): the box |w_i| + 1 is largest, for the curvature, where a is.

    The corners (+, +) and (-, -) of the box are both local maxima, 0.4 % apart; a search from a random point finds
    either.
    """
    model, loss, data = dinh(a)
    found = epsilon_sharpness(model, loss, cut(data, (2, 2, 1)), epsilon=1e-3)
    assert 0.995 * percent < found < 1.0001 * percent


@pytest.mark.parametrize("epsilon", [1e-4, 1e-2])
def test_maximum_of_a_linear_loss_is_at_the_corner_its_gradient_points_to(epsilon):
    """max gᵀz = Σ |g_i| ε (|w_i| + 1), in percent of 1 + f, however the data are cut."""
    model, loss, data, g = slope(WEIGHTS)
    exact = 100 * epsilon * np.abs(g) @ (np.abs(WEIGHTS) + 1) / (11 + g @ WEIGHTS)
    for sizes in (RAGGED, (7,)):
        found = epsilon_sharpness(model, loss, cut(data, sizes), epsilon=epsilon)
        assert found == pytest.approx(exact, rel=1e-9)


def test_maximum_of_a_bowl_is_at_the_corner_away_from_its_bottom():
    """Σ λ_i/2 ((|w_i| + h_i)² - w_i²); at w_4 = 0 both walls are as high."""
    diagonal = np.array([1.0, 5.0, 0.1, 3.0, 0.5])
    model, loss, data = bowl(WEIGHTS, diagonal)
    box = 0.01 * (np.abs(WEIGHTS) + 1)
    rise = diagonal / 2 @ ((np.abs(WEIGHTS) + box) ** 2 - WEIGHTS**2)

    found = epsilon_sharpness(model, loss, cut(data, (2, 2, 1)), epsilon=0.01)

    assert found == pytest.approx(100 * rise / (1 + diagonal / 2 @ WEIGHTS**2), rel=1e-9)


def test_at_a_minimiser_it_is_the_largest_eigenvalue_times_what_the_box_lets_through():
    """For H = λ v vᵀ at w = 0 the box is a cube of half-width ε: max zᵀHz/2 = λ ε² ‖v‖₁² / 2."""
    x = np.random.default_rng(3).normal(size=(1, 8))
    data, v = (x, np.zeros((1, 1))), x[0] / np.linalg.norm(x)
    model = linear_model(np.zeros(8))
    value = top_eigenvalue(model, half_square, data, tolerance=1e-9)
    assert value == pytest.approx(np.sum(x**2), rel=1e-9)

    for epsilon in (1e-4, 1e-3):
        found = epsilon_sharpness(model, half_square, data, epsilon=epsilon)
        assert found == pytest.approx(100 * value * epsilon**2 * np.abs(v).sum() ** 2 / 2, rel=1e-9)


@pytest.mark.parametrize("dimensions", [1, 2, 4])
def test_subspace_is_that_of_normal_columns_with_the_box_of_the_least_squares_solution(dimensions):
    """For L = gᵀw the maximum over y is Σ_j |(Aᵀg)_j| ε (|(A⁺w)_j| + 1)."""
    model, loss, data, g = slope(WEIGHTS)
    A = np.random.default_rng(7).standard_normal((5, dimensions))
    rise = np.abs(g @ A) @ (1e-3 * (np.abs(np.linalg.pinv(A) @ WEIGHTS) + 1))

    found = epsilon_sharpness(model, loss, cut(data, RAGGED), epsilon=1e-3, subspace=dimensions, seed=7)

    assert found == pytest.approx(100 * rise / (11 + g @ WEIGHTS), rel=1e-9)


def test_a_is_the_same_when_it_is_drawn_in_blocks(monkeypatch):
    model, loss, data, _ = slope(WEIGHTS)
    whole = epsilon_sharpness(model, loss, data, subspace=3)
    monkeypatch.setattr("tf_lbgap.sharpness.epsilon._BLOCK", 2)
    assert epsilon_sharpness(model, loss, data, subspace=3) == pytest.approx(whole, rel=1e-12)


def test_the_highest_of_all_corners_is_found():
    """Two linear layers: the loss is convex in each, so the maximum is in one of 2^8 corners."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, use_bias=False),
            keras.layers.Dense(2, use_bias=False),
        ]
    )
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(7, 2)), rng.normal(size=(7, 2))
    w1, w2 = model.get_weights()
    w = np.concatenate([w1.ravel(), w2.ravel()])

    def f(w):
        return np.mean((x @ w[:4].reshape(2, 2) @ w[4:].reshape(2, 2) - y) ** 2)

    corners = itertools.product((-1, 1), repeat=8)
    highest = max(f(w + 0.01 * (np.abs(w) + 1) * corner) for corner in corners)

    found = epsilon_sharpness(model, "mse", cut((x, y), RAGGED), epsilon=0.01)

    assert found == pytest.approx(100 * (highest - f(w)) / (1 + f(w)), rel=1e-3)


@pytest.mark.parametrize("subspace", [None, 10])
def test_several_epsilons_give_what_each_gives_alone_and_a_wider_box_is_no_flatter(subspace):
    model, loss, data = relu_network()
    epsilons = [1e-2, 1e-4, 1e-3]

    together = epsilon_sharpness(model, loss, cut(data, RAGGED), epsilon=epsilons, subspace=subspace)

    for epsilon, found in zip(epsilons, together, strict=True):
        alone = epsilon_sharpness(model, loss, data, epsilon=epsilon, subspace=subspace)
        assert isinstance(alone, float)
        assert found == pytest.approx(alone, rel=1e-6)  # cut otherwise: rounding, passed on by the search
    assert together[0] > together[2] > together[1] > 0


def test_it_is_zero_and_never_less_where_the_loss_only_falls():
    model = linear_model([0.0, 0.0])
    hill = epsilon_sharpness(model, lambda y, p: -0.1 * p[:, 0] ** 2, (np.eye(2), np.zeros((2, 1))))
    plain = epsilon_sharpness(model, lambda y, p: 0 * p[:, 0], (np.eye(2), np.zeros((2, 1))))
    assert hill == plain == 0.0


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda y, p: tf.math.log(1 - p[:, 0]), np.nan),
        (lambda y, p: tf.where(p[:, 0] < 1, 1 / (1 - p[:, 0]), np.inf), np.inf),
    ],
    ids=["nan", "infinite"],
)
def test_a_loss_that_is_not_finite_in_the_box_makes_no_number(loss, expected):
    """The log and the quotient end at 1, and the box reaches from -0.09 to 1.09."""
    model, data = linear_model([0.5]), (np.ones((1, 1)), np.ones((1, 1)))
    climbing = loss if expected == np.inf else lambda y, p: -loss(y, p)
    with pytest.warns(UserWarning, match=r"epsilon=\[0.001, 0.39\].*smaller epsilon"):
        small, large = epsilon_sharpness(model, climbing, data, epsilon=[1e-3, 0.39])
    assert np.isfinite(small)
    np.testing.assert_equal(large, expected)


def test_float32_gives_the_same_to_its_precision():
    """The rise, 5e-3 of a loss near 3, is a difference of numbers rounded to 1e-7: 1e-4 of it, and some slack."""
    exact = epsilon_sharpness(*relu_network(), epsilon=1e-3)
    with floatx("float32"):
        assert epsilon_sharpness(*relu_network(), epsilon=1e-3) == pytest.approx(exact, rel=2e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0}, "epsilon is 0"),
        ({"epsilon": [1e-3, np.nan]}, "epsilon is"),
        ({"subspace": 6}, "from 1 to 5"),
        ({"subspace": 0}, "from 1 to 5"),
        ({"iterations": 0}, "iterations is 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    model, loss, data, _ = slope(WEIGHTS)
    with pytest.raises(ValueError, match=message):
        epsilon_sharpness(model, loss, data, **arguments)


def test_a_loss_that_is_no_number_or_below_minus_one_is_refused():
    model, _, data, _ = slope(WEIGHTS)
    with pytest.raises(ValueError, match="1 \\+ loss"):
        epsilon_sharpness(model, lambda y, p: 0 * p[:, 0] - 1, data)
    with pytest.raises(ValueError, match="training diverged"):
        epsilon_sharpness(model, lambda y, p: 0 * p[:, 0] + np.nan, data)
