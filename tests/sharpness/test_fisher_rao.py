"""The Fisher-Rao norm against Euler's theorem, which needs no derivative at all."""

import keras
import numpy as np
import pytest
import scipy.special
from cases import cut
from references import floatx
from valleys import RAGGED, dinh, loss_and_gradient, relu_network

from tf_lbgap.sharpness import squared_fisher_rao_norm


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def test_of_a_network_without_biases_it_is_the_variance_of_the_logits_times_the_depth_squared():
    """Three layers, so z(a w) = a³ z(w) and Jw = 3 z: wᵀFw = 9 mean Var_p(z), over classes drawn from p."""
    model, loss, data = relu_network(bias=False)
    z = model.predict(data[0], verbose=0)
    p = scipy.special.softmax(z, axis=1)
    variance = (p * z**2).sum(1) - (p * z).sum(1) ** 2

    found = squared_fisher_rao_norm(model, loss, cut(data, RAGGED))

    assert found == pytest.approx(9 * variance.mean(), rel=1e-9)


def test_the_empirical_one_is_the_mean_square_of_each_examples_slope_along_the_weights():
    model, loss, (x, y) = relu_network()
    slopes = []
    for i in range(7):
        _, g = loss_and_gradient(model, loss, x[i : i + 1], y[i : i + 1])
        slopes.append(g @ np.concatenate([w.ravel() for w in model.get_weights()]))

    found = squared_fisher_rao_norm(model, loss, cut((x, y), RAGGED), kind="empirical")

    assert found == pytest.approx(np.mean(np.square(slopes)), rel=1e-9)


def test_rescaling_does_not_change_it():
    """p = w1 w2 x = 1, so Jw = 2 and F of the mean squared error is 2 JᵀJ: 2 · 2² at every (a, 1/a)."""
    for a in (1.0, 10.0, 1000.0):
        model, _, data = dinh(a)
        assert squared_fisher_rao_norm(
            model, keras.losses.MeanSquaredError(), cut(data, (2, 2, 1))
        ) == pytest.approx(8, rel=1e-10)


def test_a_loss_that_is_no_likelihood_is_refused():
    model, loss, data = dinh(1.0)
    with pytest.raises(ValueError, match="kind='empirical'"):
        squared_fisher_rao_norm(model, loss, data)
