"""Eigenvalue and trace against closed forms; what a value that did not converge becomes."""

import math

import numpy as np
import pytest
from cases import cut
from references import finite_difference_hessian, floatx, mean_loss
from valleys import RAGGED, bowl, dinh, relu_network

from tf_lbgap.sharpness import hessian_trace, top_eigenvalue


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


@pytest.mark.parametrize("a", [1.0, 10.0, 100.0])
def test_rescaling_a_network_changes_both(a):
    """At a minimiser (a, 1/a) of (w1 w2 - 1)²/2, H = [1/a², 1; 1, a²], of rank one: a² + 1/a² twice."""
    model, loss, data = dinh(a)
    batches = cut(data, (2, 2, 1))
    assert top_eigenvalue(model, loss, batches) == pytest.approx(a**2 + a**-2, rel=1e-3)
    assert hessian_trace(model, loss, batches) == pytest.approx(a**2 + a**-2, rel=1e-9)


def test_the_eigenvalue_is_the_most_positive_one_of_the_mean_loss():
    model, loss, data = relu_network(activation="tanh")
    values = np.linalg.eigvalsh(finite_difference_hessian(model, lambda: mean_loss(model, loss, *data)))
    assert values[0] < 0
    found = top_eigenvalue(model, loss, cut(data, RAGGED), tolerance=1e-8)
    assert found == pytest.approx(values[-1], rel=1e-7)
    assert hessian_trace(model, loss, cut(data, RAGGED), num_products=10_000) == pytest.approx(
        values.sum(), rel=1e-7
    )


def test_of_a_hill_it_is_the_least_negative_one():
    model, _, data = bowl(np.zeros(3), [1.0, 2.0, 5.0])
    assert top_eigenvalue(model, lambda y, p: -0.5 * p[:, 0] ** 2, data) == pytest.approx(-1, rel=1e-3)


def test_a_value_that_did_not_converge_is_not_handed_out():
    model, loss, data = bowl(np.zeros(30), np.linspace(1, 2, 30))
    with pytest.warns(UserWarning, match="did not converge in 3 products"):
        assert math.isnan(top_eigenvalue(model, loss, data, max_products=3, tolerance=1e-6))


def test_equal_seeds_give_equal_estimates():
    model, loss, data = relu_network()
    estimates = [hessian_trace(model, loss, data, num_products=12, seed=seed) for seed in (0, 0, 1)]
    assert estimates[0] == estimates[1] != estimates[2]
