"""Rescaling leaves the function, and only the measures that should notice do."""

import keras
import numpy as np
import pytest
from cases import cut
from references import finite_difference_hessian, floatx, mean_loss
from valleys import RAGGED, flat, relu_network

from tf_lbgap import sharpness
from tf_lbgap.sharpness import Subject, rescale_relu

layers = keras.layers


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def convolutional():
    stack = [
        layers.ZeroPadding2D(1),
        layers.Conv2D(3, 2, name="a"),
        layers.LeakyReLU(0.2),
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(4, "leaky_relu", name="b"),
        layers.Activation("relu"),
        layers.Dense(2, "softmax", name="c"),
    ]
    return keras.Sequential([keras.Input((5, 5, 1)), *stack]), np.random.default_rng(0).normal(
        size=(3, 5, 5, 1)
    )


def functional():
    x = keras.Input((4,))
    hidden = layers.ReLU()(layers.Dense(5, name="a")(x))
    out = layers.Add()([layers.Dense(2, name="b")(hidden), layers.Dense(2, name="side")(x)])
    return keras.Model(x, out), np.random.default_rng(0).normal(size=(3, 4))


@pytest.mark.parametrize("factor", [0.01, 3.0])
@pytest.mark.parametrize(
    ("build", "first", "second"),
    [(convolutional, "a", "b"), (convolutional, "b", "c"), (functional, "a", "b")],
    ids=["conv-dense", "dense-dense", "functional"],
)
def test_outputs_stay_and_kernel_bias_and_next_kernel_are_scaled(build, first, second, factor):
    model, x = build()
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    before, outputs = {v.path: v.numpy() for v in model.weights}, model.predict(x, verbose=0)

    rescale_relu(model, first, model.get_layer(second), factor)

    np.testing.assert_allclose(model.predict(x, verbose=0), outputs, rtol=1e-12, atol=1e-12)
    scale = {f"{first}/kernel": factor, f"{first}/bias": factor, f"{second}/kernel": 1 / factor}
    for variable in model.trainable_variables:
        name = "/".join(variable.path.split("/")[-2:])
        np.testing.assert_allclose(variable.numpy(), before[variable.path] * scale.get(name, 1), rtol=1e-15)


def test_a_power_of_two_leaves_the_outputs_to_the_bit():
    with floatx("float32"):
        model, _, (x, _) = relu_network()
        before = model.predict(x, verbose=0)
        rescale_relu(model, "hidden6", "hidden5", 2.0**20)
        np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_the_hessian_becomes_d_h_d():
    """D holds 1/factor for the weights that were multiplied and factor for those divided [D]."""
    model, loss, data = relu_network()
    before = finite_difference_hessian(model, lambda: mean_loss(model, loss, *data))
    rescale_relu(model, "hidden6", "hidden5", 2.0)
    after = finite_difference_hessian(model, lambda: mean_loss(model, loss, *data))
    scale = {"hidden6/kernel": 0.5, "hidden6/bias": 0.5, "hidden5/kernel": 2.0}
    d = flat([np.full(v.shape, scale.get(v.path.split("/", 1)[1], 1.0)) for v in model.trainable_variables])
    np.testing.assert_allclose(after, d[:, None] * before * d, atol=1e-8 * np.abs(before).max() * 4)


@pytest.fixture(scope="module")
def before_and_after():
    """Every measure of one network at two sets of weights of the same function, by name and options."""
    measures = {
        "top_eigenvalue": {"tolerance": 1e-6},
        "hessian_trace": {},
        "epsilon_sharpness": {},
        "ascent_sharpness": {},
        "m_sharpness": {"m": 2},
        "adaptive_sharpness": {"scale_biases": True},
        "average_sharpness": {},
        "average_sharpness, adaptive": {"adaptive": True},
        "relative_flatness": {"layer": "hidden5"},
        "squared_fisher_rao_norm": {},
    }
    with floatx("float64"):
        model, loss, data = relu_network()
        subject = Subject(model, loss, cut(data, RAGGED))

        def measure():
            return {
                key: getattr(sharpness, key.split(",")[0])(subject, **options)
                for key, options in measures.items()
            }

        before = measure()
        rescale_relu(model, "hidden6", "hidden5", 20.0)
        return before, measure()


INVARIANT = (
    "adaptive_sharpness",
    "average_sharpness, adaptive",
    "relative_flatness",
    "squared_fisher_rao_norm",
)


@pytest.mark.parametrize("name", INVARIANT)
def test_measures_relative_to_the_weights_do_not_notice(before_and_after, name):
    before, after = before_and_after
    assert after[name] == pytest.approx(before[name], rel=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "top_eigenvalue",
        "hessian_trace",
        "epsilon_sharpness",
        "ascent_sharpness",
        "m_sharpness",
        "average_sharpness",
    ],
)
def test_the_others_do(before_and_after, name):
    before, after = before_and_after
    assert after[name] > 2 * abs(before[name])


def sequence(*between, first="linear"):
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, first, name="a"), *between, layers.Dense(2, name="b")]
    )


def branching():
    x = keras.Input((4,))
    hidden = layers.Dense(3, "relu", name="a")(x)
    return keras.Model(x, layers.Add()([layers.Dense(3, name="b")(hidden), hidden]))


def shared():
    x, layer = keras.Input((4,)), layers.Dense(4, "relu", name="a")
    return keras.Model(x, layers.Dense(2, name="b")(layer(layer(x))))


def with_a_second_output():
    x = keras.Input((4,))
    hidden = layers.Dense(3, "relu", name="a")(x)
    return keras.Model(x, [layers.Dense(2, name="b")(hidden), hidden])


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: sequence(first="tanh"), "activation 'tanh'"),
        (lambda: sequence(first="relu6"), "activation 'relu6'"),
        (lambda: sequence(layers.Activation("sigmoid")), "activation 'sigmoid'"),
        (lambda: sequence(layers.ReLU(max_value=6)), "ReLU"),
        (lambda: sequence(layers.ReLU(threshold=1)), "ReLU"),
        (lambda: sequence(layers.BatchNormalization()), "BatchNormalization"),
        (lambda: sequence(layers.Dense(3, "relu")), "Dense"),
        (branching, "and not to one layer"),
        (shared, "used 2 times"),
        (with_a_second_output, "the output"),
    ],
    ids=["tanh", "relu6", "sigmoid", "max", "threshold", "bn", "dense", "branch", "shared", "output"],
)
def test_what_would_change_the_function_is_refused(build, reason):
    model = build()
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"would change the function: .*{reason}"):
        rescale_relu(model, "a", "b", 2.0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_wrong_order_factors_and_layers_are_refused():
    model = sequence(layers.ReLU())
    with pytest.raises(ValueError, match="'b' leads to the output"):
        rescale_relu(model, "b", "a", 2.0)
    for factor in (0, -1.0, np.inf, np.nan, "2"):
        with pytest.raises(ValueError, match="factor is"):
            rescale_relu(model, "a", "b", factor)
    with pytest.raises(ValueError, match="which has a, b"):
        rescale_relu(model, "a", "c", 2.0)
