"""Losses whose sharpness can be written down: the mean loss of each model is a formula of its weights."""

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
RAGGED = (3, 3, 1)


def linear_model(weights):
    """p = xᵀw, without a bias."""
    weights = np.asarray(weights, float)
    model = keras.Sequential([keras.Input((len(weights),)), layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign(weights[:, None])
    return model


def prediction(y, p):
    """A loss that is the output itself, and 10."""
    return p[:, 0] + 10


def half_square(y, p):
    return 0.5 * (y[:, 0] - p[:, 0]) ** 2


def slope(weights, seed=0):
    """L(w) = gᵀw + 10: model, loss, (x, y) of seven examples, and g."""
    x = np.random.default_rng(seed).normal(size=(7, len(weights)))
    return linear_model(weights), prediction, (x, np.zeros((7, 1))), x.mean(0)


@keras.saving.register_keras_serializable()
class Prediction(keras.losses.Loss):
    """The same, with a reduction."""

    def call(self, y_true, y_pred):
        return prediction(y_true, y_pred)


def bowl(weights, diagonal):
    """L(w) = Σ λ_i w_i² / 2, an example per weight."""
    n = len(diagonal)
    x = np.diag(np.sqrt(n * np.asarray(diagonal, float)))
    return linear_model(weights), half_square, (x, np.zeros((n, 1)))


def dinh(a):
    """L(w1, w2) = (w1 w2 - 1)² / 2 at (a, 1/a), a minimiser for every a; five examples, all alike."""
    model = keras.Sequential(
        [keras.Input((1,)), layers.Dense(1, use_bias=False), layers.Dense(1, use_bias=False)]
    )
    model.layers[0].kernel.assign([[a]])
    model.layers[1].kernel.assign([[1 / a]])
    return model, half_square, (np.ones((5, 1)), np.ones((5, 1)))


def relu_network(bias=True, activation="relu", seed=0):
    """Two hidden layers, three classes, seven examples; all weights random, biases included."""
    rng = np.random.default_rng(seed)
    stack = [layers.Dense(n, activation, use_bias=bias, name=f"hidden{n}") for n in (6, 5)]
    model = keras.Sequential([keras.Input((4,)), *stack, layers.Dense(3, use_bias=bias, name="last")])
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) * 0.7)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return model, loss, (rng.normal(size=(7, 4)), rng.integers(0, 3, size=7))


def flat(variables):
    return np.concatenate([np.asarray(v).ravel() for v in variables])


def loss_and_gradient(model, loss, x, y):
    """Of all examples at once, eagerly."""
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss(tf.convert_to_tensor(y), model(x, training=False)))
    return float(value), flat(tape.gradient(value, variables))


def loss_at(model, loss, x, y, weights):
    """At other weights than the model's, which it has again afterwards."""
    before = model.get_weights()
    sizes = np.cumsum([w.size for w in before])[:-1]
    parts = zip(np.split(weights, sizes), before, strict=True)
    model.set_weights([part.reshape(w.shape) for part, w in parts])
    value = loss_and_gradient(model, loss, x, y)[0]
    model.set_weights(before)
    return value
