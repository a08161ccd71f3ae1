"""A model with its batch normalization replaced: the same weights under the same names, and ghost batches."""

import keras
import numpy as np
import pytest

import tf_lbgap as lb
from tf_lbgap.layers import GhostBatchNormalization, with_ghost_batch_normalization

layers = keras.layers


def nested():
    """A functional model with a shortcut, a frozen layer, and a sequential model inside."""
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="first")(inputs)
    x = layers.BatchNormalization(momentum=0.5, epsilon=0.1, name="free")(x)
    x = layers.Add()([x, layers.BatchNormalization(name="frozen", trainable=False)(inputs)])
    inner = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="inner"), layers.Dense(2)])
    model = keras.Model(inputs, inner(x), name="nested")
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).uniform(0.5, 1.5, weight.shape))
    return model


def test_all_layers_and_weights_are_kept_and_each_normalization_is_a_ghost():
    model = nested()
    copy = with_ghost_batch_normalization(model, 3)
    assert [layer.name for layer in copy._flatten_layers()] == [
        layer.name for layer in model._flatten_layers()
    ]
    found = {layer.name: layer for layer in copy._flatten_layers()}
    for name in ("free", "frozen", "inner"):
        assert isinstance(found[name], GhostBatchNormalization) and found[name].ghost_batch_size == 3
    assert found["free"].momentum == 0.5 and found["free"].epsilon == 0.1
    assert not found["frozen"].trainable and found["inner"].trainable
    for ours, theirs in zip(copy.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x = np.random.default_rng(1).normal(size=(7, 4))
    np.testing.assert_array_equal(copy(x, training=False), model(x, training=False))
    assert not any(isinstance(layer, GhostBatchNormalization) for layer in model._flatten_layers())


def test_training_the_copy_leaves_the_model_as_it_was_and_normalizes_in_parts():
    model = nested()
    before = model.get_weights()
    copy = with_ghost_batch_normalization(model, 3)
    x = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
    copy(x, training=True)
    first = x @ before[0] + before[1]
    mean = next(w for w in copy.weights if "free/moving_mean" in w.path)
    old = next(b for b, w in zip(before, model.weights, strict=True) if "free/moving_mean" in w.path)
    np.testing.assert_allclose(
        mean, old / 4 + first[:3].mean(0) / 4 + first[3:].mean(0) / 2, rtol=1e-5, atol=1e-6
    )
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_compiled_model_is_compiled_anew_and_its_inputs_keep_their_names():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    x = layers.BatchNormalization()(layers.Subtract()([a, b]))
    model = keras.Model({"a": a, "b": b}, layers.Dense(1)(x))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    copy = with_ghost_batch_normalization(model, 4)
    data = {"b": np.zeros((8, 2)), "a": np.random.default_rng(0).normal(size=(8, 2))}
    copy.fit(data, np.ones((8, 1)), verbose=0)
    assert copy.optimizer is not model.optimizer and copy.optimizer.momentum == 0.9
    assert int(copy.optimizer.iterations.numpy()) == 1 and int(model.optimizer.iterations.numpy()) == 0
    assert [tensor.name for tensor in copy.inputs] == [tensor.name for tensor in model.inputs]


def test_the_networks_of_the_papers_and_ghosts_themselves_can_be_replaced():
    model = lb.networks.resnet((8, 8, 3), depth=8, seed=0)
    for i, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(i).uniform(0.5, 1.5, weight.shape) / 10)
    again = with_ghost_batch_normalization(with_ghost_batch_normalization(model, 16), 4)
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3))
    np.testing.assert_array_equal(again(x, training=False), model(x, training=False))
    sizes = {
        layer.ghost_batch_size
        for layer in again._flatten_layers()
        if isinstance(layer, GhostBatchNormalization)
    }
    assert sizes == {4}


class Subclassed(keras.Model):
    def call(self, x):
        return x


def of(*stack):
    return keras.Sequential([keras.Input((3, 4)), *stack])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: Subclassed(), "this is a Subclassed"),
        (lambda: of(layers.Dense(2)), "has no BatchNormalization"),
        (lambda: keras.Sequential([layers.BatchNormalization()]), "has no weights yet"),
        (lambda: of(layers.BatchNormalization(renorm=True)), "has renorm or synchronized"),
        (lambda: of(layers.BatchNormalization(synchronized=True)), "has renorm or synchronized"),
        (
            lambda: of(layers.TimeDistributed(layers.BatchNormalization(name="bn"))),
            "bn is inside another layer",
        ),
    ],
)
def test_what_cannot_be_replaced_is_refused_by_name(model, message):
    with pytest.raises(ValueError, match=message):
        with_ghost_batch_normalization(model(), 4)
