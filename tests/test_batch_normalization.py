"""Recalibrated statistics against NumPy, which computes the same networks by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import floatx

from tf_lbgap.batch_normalization import recalibrate, recalibrated, repeatable

layers = keras.layers


@pytest.fixture(autouse=True)
def _float64():
    with floatx("float64"):
        yield


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) + 0.5


def cut(x, size):
    return [(x[i : i + size], None) for i in range(0, len(x), size)]


def normalized(layer, x):
    """What the layer makes of x with statistics taken over all axes but the last; and these statistics."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    gamma, beta = layer.gamma.numpy(), layer.beta.numpy()
    return gamma * (x - mean) / np.sqrt(variance + layer.epsilon) + beta, mean, variance


def assert_statistics(layer, mean, variance):
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-12)


class Subclassed(keras.Model):
    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def call(self, x, training=False):
        for layer in self.stack:
            x = layer(x, training=training) if isinstance(layer, layers.BatchNormalization) else layer(x)
        return x


def models(stack, shape):
    functional = keras.Sequential([keras.Input(shape), *stack])
    x = keras.Input(shape)
    nested = keras.Model(x, keras.Sequential([keras.Input(shape), *stack])(x))
    subclassed = Subclassed(stack)
    subclassed.build((None, *shape))
    return {"functional": functional, "nested": nested, "subclassed": subclassed}


@pytest.mark.parametrize("kind", ["functional", "nested", "subclassed"])
@pytest.mark.parametrize("batch_size", [1, 4, 10], ids=lambda b: f"batch_size={b}")
def test_two_layers_get_the_statistics_of_all_data_the_second_those_behind_the_exact_first(kind, batch_size):
    """With 10 examples and batches of 4 the last holds 2: a mean of batch statistics fails here."""
    stack = layers.Dense(3), layers.BatchNormalization(), layers.Dense(4, "tanh"), layers.BatchNormalization()
    model = models(stack, (2,))[kind]
    dense, first, hidden, second = stack
    for i, weight in enumerate(model.trainable_weights):
        weight.assign(0.3 * normal(*weight.shape, seed=i))
    x = normal(10, 2, seed=9)

    recalibrate(model, cut(x, batch_size))

    z, mean, variance = normalized(first, x @ dense.kernel.numpy() + dense.bias.numpy())
    assert_statistics(first, mean, variance)
    z, mean, variance = normalized(second, np.tanh(z @ hidden.kernel.numpy() + hidden.bias.numpy()))
    assert_statistics(second, mean, variance)
    np.testing.assert_allclose(model(x, training=False), z, rtol=1e-10)


def test_convolutional_statistics_run_over_examples_and_positions():
    model = keras.Sequential([keras.Input((3, 4, 2)), layers.BatchNormalization()])
    x = normal(5, 3, 4, 2)
    recalibrate(model, cut(x, 2))
    assert_statistics(model.layers[0], x.mean((0, 1, 2)), x.var((0, 1, 2)))


def test_statistics_follow_the_axis_of_the_layer():
    model = keras.Sequential([keras.Input((3, 4)), layers.BatchNormalization(axis=1)])
    x = normal(5, 3, 4)
    recalibrate(model, cut(x, 2))
    assert_statistics(model.layers[0], x.mean((0, 2)), x.var((0, 2)))


def test_masked_positions_do_not_count():
    model = keras.Sequential([keras.Input((4, 2)), layers.Masking(0.0), layers.BatchNormalization()])
    x = normal(5, 4, 2)
    x[:3, 2:] = 0
    rows = np.concatenate([x[:3, :2].reshape(-1, 2), x[3:].reshape(-1, 2)])
    recalibrate(model, cut(x, 2))
    assert_statistics(model.layers[-1], rows.mean(0), rows.var(0))


def test_a_large_mean_does_not_cost_the_variance_its_digits():
    """E[x²] - E[x]² would lose 12 of 16 digits at mean 1e6 and variance 1."""
    x = normal(50, 1) + 1e6
    model = keras.Sequential([keras.Input((1,)), layers.BatchNormalization()])
    recalibrate(model, cut(x, 7))
    np.testing.assert_allclose(model.layers[0].moving_variance, x.var(0), rtol=1e-9)


def test_a_layer_shared_by_two_branches_gets_the_statistics_of_both():
    a, b = keras.Input((2,)), keras.Input((2,))
    shared = layers.BatchNormalization()
    model = keras.Model([a, b], layers.Add()([shared(a), shared(b)]))
    xa, xb = normal(6, 2), normal(6, 2, seed=1) * 3
    recalibrate(model, [((xa[:4], xb[:4]), None), ((xa[4:], xb[4:]), None)])
    rows = np.concatenate([xa, xb])
    assert_statistics(shared, rows.mean(0), rows.var(0))


def test_nothing_else_moves_and_layers_work_as_before():
    stack = layers.Dense(3), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(1)
    model = keras.Sequential([keras.Input((2,)), *stack])
    model.compile("adam", "mse")
    x, y = normal(8, 2), normal(8, 1)
    model.fit(x, y, epochs=2, verbose=0)
    moving = [stack[1].moving_mean, stack[1].moving_variance]
    others = [v for v in [*model.variables, *model.optimizer.variables] if not any(v is m for m in moving)]
    before, attributes = [v.numpy() for v in others], set(vars(stack[1]))

    recalibrate(model, (x, y))

    for variable, value in zip(others, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert set(vars(stack[1])) == attributes
    model.fit(x, y, verbose=0)


def test_recalibrated_restores_the_moving_statistics_even_after_an_error():
    model = keras.Sequential([keras.Input((2,)), layers.BatchNormalization()])
    model.layers[0].moving_mean.assign([7.0, 8.0])
    x = normal(6, 2)
    with pytest.raises(ZeroDivisionError), recalibrated(model, (x, None)) as inside:
        assert inside is model
        assert_statistics(model.layers[0], x.mean(0), x.var(0))
        raise ZeroDivisionError
    assert_statistics(model.layers[0], [7, 8], [1, 1])


def test_frozen_layers_keep_the_statistics_they_were_trained_with():
    model = keras.Sequential([keras.Input((2,)), layers.BatchNormalization(trainable=False)])
    recalibrate(model, (normal(6, 2), None))
    assert_statistics(model.layers[0], [0, 0], [1, 1])


def test_a_model_without_batch_normalization_stays_as_it_is():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    recalibrate(model, iter([]))


def test_data_may_come_once_or_as_a_dataset_or_in_order():
    class InOrder:
        def in_order(self):
            return tf.data.Dataset.from_tensor_slices((x, x)).batch(4)

    stack = layers.BatchNormalization(), layers.Dense(2), layers.BatchNormalization()
    model = keras.Sequential([keras.Input((2,)), *stack])
    x = normal(10, 2)
    recalibrate(model, (x, None))
    expected = [w.copy() for w in model.get_weights()]
    for batches in (iter(cut(x, 3)), InOrder().in_order(), InOrder()):
        recalibrate(model, batches)
        for weight, value in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(weight, value, rtol=1e-12, atol=1e-14)


def test_bad_data_are_refused_with_what_to_do():
    model = keras.Sequential([keras.Input((2,)), layers.BatchNormalization()])
    for empty in ([], iter([]), tf.data.Dataset.from_tensors((normal(1, 2), 0)).take(0)):
        with pytest.raises(ValueError, match=r"batches (is empty|holds no batch)"):
            recalibrate(model, empty)
    with pytest.raises(ValueError, match="no finite mean"):
        recalibrate(model, (np.full((3, 2), np.nan), None))
    with pytest.raises(ValueError, match="batches is a int"):
        repeatable(3)
    with pytest.raises(ValueError, match="never ends"):
        repeatable(tf.data.Dataset.from_tensors(0).repeat())
