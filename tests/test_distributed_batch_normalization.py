"""Batch normalization on two devices: of each piece by default, of the whole batch if it is synchronized; with growth.

Without synchronization Keras keeps the moving statistics of the first device, and drops those of the others.
"""

import keras
import numpy as np
import pytest
import recording as r
import tensorflow as tf
from replicas import mirrored
from slow import slow

import tf_lbgap as lb

N, MOMENTUM = 45, 0.5
GROWTH = lb.schedules.staircase(8, factor=2, milestones=[0.5, 1])


@pytest.mark.parametrize("synchronized", [False, slow(True)], ids=["per replica", "synchronized"])
def test_moving_statistics_are_those_of_pieces_or_of_batches(synchronized):
    """Of each batch of 8, then 16, two devices have half."""
    x = np.random.default_rng(0).normal(size=(N, 3)).astype("float32")
    with mirrored().scope():
        layer = keras.layers.BatchNormalization(momentum=MOMENTUM, synchronized=synchronized)
        model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.0), r.no_loss)
    batches = lb.data.Batches(x, x[:, :1], batch_size=8, seed=0)
    steering = lb.callbacks.BatchSizeScheduler(batches, GROWTH)
    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[steering])

    mean, variance = np.zeros(3), np.ones(3)
    for epoch in range(2):
        order, at = batches.order(epoch), 0
        while at < N - 1:
            end = min(at + int(GROWTH(epoch + at / N)), N - 1)
            whole = x[order[at:end]].astype("float64")
            kept = whole if synchronized else whole[: len(whole) // 2]
            mean = MOMENTUM * mean + (1 - MOMENTUM) * kept.mean(0)
            variance = MOMENTUM * variance + (1 - MOMENTUM) * kept.var(0)
            at = end
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.numpy(), variance, atol=1e-6)


@pytest.mark.slow
def test_synchronized_statistics_give_the_weights_of_one_device():
    x = np.random.default_rng(0).normal(size=(N - 1, 3)).astype("float32")
    y = (x.sum(1, keepdims=True) > 0).astype("float32")
    found = []
    for scope in (mirrored().scope(), tf.distribute.get_strategy().scope()):
        keras.utils.set_random_seed(0)
        with scope:
            layer = keras.layers.BatchNormalization(synchronized=True)
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), layer, keras.layers.Dense(1)])
            model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
        batches = lb.data.Batches(x, y, batch_size=8, seed=0)
        steering = lb.callbacks.BatchSizeScheduler(batches, GROWTH)
        model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[steering])
        found.append(model.get_weights())
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
