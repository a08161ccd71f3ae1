"""The evidence of linear regression, which is a normal density, and of networks by their dense Hessians."""

import keras
import numpy as np
import pytest
import scipy.stats
from cases import cut
from references import finite_difference_hessian, floatx, mean_loss
from valleys import RAGGED, half_square, linear_model, relu_network

from tf_lbgap.sharpness import negative_log_evidence, rescale_relu


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
@pytest.mark.parametrize("l2", [0.3, [0.3, 1.0, 5.0, 0.1]], ids=["one prior", "one for each weight"])
def test_of_linear_regression_it_is_the_density_of_the_labels(curvature, l2):
    """y = Xw + noise with w ~ N(0, Λ⁻¹): y ~ N(0, I + X Λ⁻¹ Xᵀ), and Laplace's approximation is exact."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 4)), rng.normal(size=7)
    precision = np.diag(np.broadcast_to(l2, 4))
    model = linear_model(np.linalg.solve(x.T @ x + precision, x.T @ y))

    found = negative_log_evidence(
        model, half_square, cut((x, y[:, None]), RAGGED), l2=l2, curvature=curvature
    )

    density = scipy.stats.multivariate_normal(np.zeros(7), np.eye(7) + x @ np.linalg.inv(precision) @ x.T)
    assert found.value + 3.5 * np.log(2 * np.pi) == pytest.approx(-density.logpdf(y), rel=1e-10)
    assert found.value == found.cost + found.penalty and found.negative == 0


def test_of_a_network_it_is_that_of_its_dense_hessian_without_the_negative_eigenvalues():
    model, loss, data = relu_network()
    found = negative_log_evidence(model, loss, cut(data, RAGGED), l2=0.5, curvature="hessian", num_probes=100)

    eigenvalues = np.linalg.eigvalsh(finite_difference_hessian(model, lambda: mean_loss(model, loss, *data)))
    regularised = 7 * np.maximum(eigenvalues, 0) + 0.5
    assert found.penalty == pytest.approx(0.5 * np.log(regularised / 0.5).sum(), rel=1e-7)
    assert found.negative == (eigenvalues < -1e-9).sum() > 0
    squares = sum((w**2).sum() for w in model.get_weights())
    assert found.cost == pytest.approx(7 * float(mean_loss(model, loss, *data)) + 0.25 * squares, rel=1e-10)


def test_of_a_sample_it_is_as_if_the_rest_were_alike():
    model, loss, data = relu_network()
    twice = [np.concatenate([part, part]) for part in data]
    found = negative_log_evidence(model, loss, data, l2=1.0, num_examples=14, num_probes=100)
    whole = negative_log_evidence(model, loss, tuple(twice), l2=1.0, num_probes=100)
    assert (found.cost, found.penalty) == pytest.approx((whole.cost, whole.penalty), rel=1e-10)


def test_by_quadrature_it_is_near_what_is_exact():
    model, loss, data = relu_network()
    exact = negative_log_evidence(model, loss, data, l2=0.1, num_probes=100)
    found = negative_log_evidence(model, loss, data, l2=0.1, num_probes=10, num_steps=8)
    assert found.standard_error > 0 and abs(found.penalty - exact.penalty) < 4 * found.standard_error
    assert found.low <= found.penalty <= found.high


def test_rescaling_moves_it_unless_the_prior_goes_with_the_weights():
    model, loss, data = relu_network()
    exact = {"num_probes": 100}
    before = negative_log_evidence(model, loss, data, l2=1.0, **exact)
    rescale_relu(model, "hidden6", "hidden5", 20.0)
    same_prior = negative_log_evidence(model, loss, data, l2=1.0, **exact)
    scale = {"hidden6/kernel": 20.0, "hidden6/bias": 20.0, "hidden5/kernel": 1 / 20}
    scales = [
        np.full(v.shape, scale.get(v.path.split("/", 1)[1], 1.0)).ravel() for v in model.trainable_variables
    ]
    with_them = negative_log_evidence(model, loss, data, l2=1 / np.concatenate(scales) ** 2, **exact)
    assert (with_them.cost, with_them.penalty) == pytest.approx((before.cost, before.penalty), rel=1e-9)
    assert abs(same_prior.penalty - before.penalty) > 1


@pytest.mark.parametrize("l2", [0.0, -1.0, np.nan, [1.0, 1.0]])
def test_a_prior_that_is_none_is_refused(l2):
    model, loss, data = relu_network()
    with pytest.raises(ValueError, match="a number above 0"):
        negative_log_evidence(model, loss, data, l2=l2)


@pytest.mark.parametrize("num_examples", [0, -5, 2.5, np.nan, True, "14"])
def test_a_training_set_of_no_whole_number_of_examples_is_refused(num_examples):
    model, loss, data = relu_network()
    with pytest.raises(ValueError, match=r"num_examples is .* from 1 up\. Pass len\(x_train\)"):
        negative_log_evidence(model, loss, data, l2=1.0, num_examples=num_examples)
    negative_log_evidence(model, loss, data, l2=1.0, num_examples=np.int64(14), num_probes=100)


def test_another_curvature_and_weights_that_diverged_are_refused():
    model, loss, data = relu_network()
    with pytest.raises(ValueError, match="gauss_newton, hessian"):
        negative_log_evidence(model, loss, data, l2=1.0, curvature="fisher")
    model.get_layer("last").bias.assign(np.full(3, np.nan))
    with pytest.raises(ValueError, match="Has training diverged"):
        negative_log_evidence(
            model, keras.losses.SparseCategoricalCrossentropy(from_logits=True), data, l2=1.0
        )
