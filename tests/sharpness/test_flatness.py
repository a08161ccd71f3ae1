"""Relative flatness against its definition on a Hessian from finite differences."""

import keras
import numpy as np
import pytest
from cases import convolution_max_pooling, cut
from references import finite_difference_hessian, floatx, mean_loss
from valleys import RAGGED, dinh, flat, relu_network

from tf_lbgap.sharpness import Subject, relative_flatness


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def by_definition(model, kernel, hessian):
    """Σ_{s,s'} ⟨w_s, w_s'⟩ Tr(H_{s,s'}), with the neurons s on the last axis of the kernel."""
    mine = flat([np.full(v.shape, v is kernel) for v in model.trainable_variables])
    w = kernel.numpy().reshape(-1, kernel.shape[-1])
    inputs, neurons = w.shape
    block = hessian[np.ix_(mine, mine)].reshape(inputs, neurons, inputs, neurons)
    pairs = [(s, t) for s in range(neurons) for t in range(neurons)]
    return sum(w[:, s] @ w[:, t] * np.trace(block[:, s, :, t]) for s, t in pairs)


@pytest.mark.parametrize("layer", ["hidden6", "hidden5", "last", None])
def test_it_is_the_sum_over_pairs_of_neurons(layer):
    """Layers of 4 x 6, 6 x 5 and 5 x 3: fewer inputs than neurons, and more."""
    model, loss, data = relu_network(activation="tanh")
    hessian = finite_difference_hessian(model, lambda: mean_loss(model, loss, *data))
    kernel = model.get_layer(layer or "last").kernel

    found = relative_flatness(model, loss, cut(data, RAGGED), layer=layer)

    assert found == pytest.approx(by_definition(model, kernel, hessian), rel=1e-8)


def test_filters_of_a_convolution_are_neurons():
    model, loss, data = convolution_max_pooling()
    layer = model.layers[0]
    hessian = finite_difference_hessian(model, lambda: mean_loss(model, loss, *data))
    found = relative_flatness(model, loss, cut(data), layer=layer)
    assert found == pytest.approx(by_definition(model, layer.kernel, hessian), rel=1e-8)


@pytest.mark.parametrize("index", [0, 1])
def test_rescaling_does_not_change_it(index):
    """At (a, 1/a): w1² H11 = a² / a² and w2² H22 = 1, for every a."""
    for a in (1.0, 10.0, 1000.0):
        model, loss, data = dinh(a)
        found = relative_flatness(model, loss, cut(data, (2, 2, 1)), layer=model.layers[index])
        assert found == pytest.approx(1, rel=1e-10)


def test_an_estimate_from_fewer_products_is_unbiased():
    model, loss, data = relu_network()
    subject = Subject(model, loss, data)
    exact = relative_flatness(subject, layer="hidden5")
    found = [relative_flatness(subject, layer="hidden5", num_products=9, seed=s) for s in range(30)]
    assert 0 < np.std(found) < exact
    assert abs(np.mean(found) - exact) < 3 * np.std(found) / np.sqrt(30)


def test_layers_without_neurons_are_refused_with_what_to_pass():
    model, loss, data = relu_network()
    with pytest.raises(ValueError, match="no Dense or convolutional layer 'first'"):
        relative_flatness(model, loss, data, layer="first")
    gru = keras.Sequential([keras.Input((2, 1)), keras.layers.GRU(1)])
    with pytest.raises(ValueError, match="no Dense or convolutional layer with a kernel"):
        relative_flatness(gru, "mse", (np.ones((2, 2, 1)), np.ones((2, 1))))
    model.layers[-1].trainable = False
    with pytest.raises(ValueError, match="nothing to train"):
        relative_flatness(model, loss, data, layer="last")
