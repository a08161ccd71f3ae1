"""Quasi-Newton updates against a loop in NumPy with the dense formula of BFGS, in all the ways in which `fit` makes updates."""

import contextlib
import functools

import keras
import least_squares
import numpy as np
import pytest
from least_squares import W, X, Y
from references import floatx
from replicas import mirrored
from slow import slow

import tf_lbgap as lb

RATE = 0.25
SIZES = (16, 16, 5)
linear = functools.partial(least_squares.linear, rate=RATE)


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def gradient(w, x, y, l2=0.0):
    w = w.reshape(4, 2)
    return (2 * x.T @ (x @ w - y) / y.size + 2 * l2 * w).ravel()


def inverse(pairs, first):
    """H by the formula of BFGS, the newest pair last."""
    gamma = np.mean([s @ y / (y @ y) for s, y in pairs]) if pairs else first
    H, eye = gamma * np.eye(8), np.eye(8)
    for s, y in pairs:
        V = eye - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    return H


def by_hand(
    epochs=2, sizes=SIZES, *, memory=10, every=1, damping=0.0, first=0.01, rate=RATE, momentum=0.0, l2=0.0
):
    """Weights and the number of pairs after some epochs over the examples in order."""
    w, pairs, velocity, ends, n, number = W.ravel(), [], 0.0, np.cumsum(sizes), 0, 0
    total, average = 0.0, None
    for _ in range(epochs):
        for low, end in zip(ends - sizes, ends, strict=True):
            batch = X[low:end], Y[low:end]
            g = gradient(w, *batch, l2)
            velocity = momentum * velocity - rate * inverse(pairs[-memory:], first) @ g
            old, w, n = w, w + velocity, n + 1
            if every > 1:
                total, old = total + w, average
                if n % every:
                    continue
                average, total = total / every, 0.0
            if old is not None:
                new = w if every == 1 else average
                s = new - old
                pairs.append((s, gradient(new, *batch, l2) - gradient(old, *batch, l2) + damping * s))
                number += 1
    return w.reshape(4, 2), number


def stream(n=37, size=16):
    return lb.data.Batches(X[:n], Y[:n], batch_size=size, shuffle=False)


def fit(model, change, data=None, *callbacks, epochs=2, **options):
    callbacks = [lb.callbacks.ChangeUpdates(change), *callbacks]
    data = stream() if data is None else data
    return model.fit(data, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks, **options)


def assert_equal(model, change, expected, atol=1e-10):
    w, pairs = expected
    np.testing.assert_allclose(model.layers[-1].kernel.numpy(), w, rtol=0, atol=atol)
    assert (change.num_pairs, change.num_left_out) == (pairs, 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        slow({"run_eagerly": True}),
        slow({"jit_compile": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("every", [1, 2])
def test_updates_are_those_of_the_formula(options, every):
    """Batches of 16, 16 and 5, three times: nine updates, nine pairs of steps; and three of averages of two (the fourth has none yet)."""
    model, change = linear(**options), lb.training.QuasiNewton(every=every)
    fit(model, change, epochs=3)
    assert_equal(model, change, by_hand(3, every=every))
    assert change.num_pairs == (9 if every == 1 else 3)
    assert int(model.optimizer.iterations.numpy()) == 9


@pytest.mark.parametrize(
    "arguments",
    [
        {"memory": 2},
        {"damping": 0.5},
        {"first": 0.2},
        {"memory": 1, "every": 3, "damping": 0.1, "first": 0.1},
    ],
    ids=str,
)
def test_every_argument_is_that_of_the_formula(arguments):
    model, change = linear(), lb.training.QuasiNewton(**arguments)
    fit(model, change, epochs=4)
    assert_equal(model, change, by_hand(4, **arguments))
    assert np.abs(by_hand(4, **arguments)[0] - by_hand(4)[0]).max() > 1e-4


def test_one_pair_of_one_weight_is_newtons_step():
    """l(w) = mean (x w - y)² is at its minimum after the second update of rate 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    x, y = X[:, :1], Y[:, :1]
    fit(model, lb.training.QuasiNewton(), lb.data.Batches(x, y, batch_size=37))
    np.testing.assert_allclose(model.layers[0].kernel.numpy(), x.T @ y / (x.T @ x), rtol=1e-10)


def test_penalties_and_momentum_are_part_of_a_pair():
    """s is the step that was made, momentum and all, and y has the gradient of the penalty in it."""
    optimizer = keras.optimizers.SGD(RATE, momentum=0.5)
    model, change = (
        linear(penalty=keras.regularizers.L2(0.25), optimizer=optimizer),
        lb.training.QuasiNewton(),
    )
    fit(model, change)
    assert_equal(model, change, by_hand(momentum=0.5, l2=0.25))


@pytest.mark.parametrize("every", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_micro_batches_change_nothing(every):
    model, change, data = linear(), lb.training.QuasiNewton(every=every), stream()
    steered = lb.callbacks.BatchSizeScheduler(data, lb.schedules.constant(16), micro_batch_size=3)
    fit(model, change, data, steered)
    assert_equal(model, change, by_hand(every=every))


@pytest.mark.parametrize("every", [slow(1), 2])
def test_replicas_change_nothing(every):
    """36 examples in batches of 16, 16 and 4, halved between two replicas."""
    with mirrored().scope():
        model = linear()
    change = lb.training.QuasiNewton(every=every)
    fit(model, change, stream(36))
    assert_equal(model, change, by_hand(sizes=(16, 16, 4), every=every))
    for copy in model.layers[-1].kernel.value.values:
        np.testing.assert_array_equal(copy.numpy(), model.layers[-1].kernel.numpy())


@pytest.mark.slow
def test_a_loss_scale_cancels_out():
    """Also under replicas, whose shares of the step are added up."""
    for scope in (contextlib.nullcontext(), mirrored().scope()):
        with scope:
            optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=2.0**10)
            model = linear(optimizer=optimizer)
        change = lb.training.QuasiNewton()
        fit(model, change, stream(36))
        assert_equal(model, change, by_hand(sizes=(16, 16, 4)))


@pytest.mark.parametrize("every", [1, 2])
def test_an_unfrozen_layer_is_among_the_weights_after_compile(every):
    """The same change, the same model: 4 weights, then 12. The second fit is that of a change that never saw the first."""

    def two_fits(first, second):
        frozen = keras.layers.Dense(4, use_bias=False, trainable=False, kernel_initializer="identity")
        model = linear(frozen)
        fit(model, first)
        frozen.trainable = True
        model.compile(keras.optimizers.SGD(RATE), "mse")
        fit(model, second)
        return model.get_weights(), second.num_pairs

    same = lb.training.QuasiNewton(every=every)
    one, another = two_fits(same, same), two_fits(*(lb.training.QuasiNewton(every=every) for _ in range(2)))
    for a, b in zip(one[0], another[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert one[1] == another[1] > 0 and np.abs(one[0][0] - np.eye(4)).max() > 1e-3


def test_both_gradients_of_a_pair_see_the_same_dropout_masks():
    """Else y would be the noise of the masks: with a step of 1e-9 its curvature would be some 1e8, not that of the loss."""
    model, change = linear(keras.layers.Dropout(0.5, seed=0)), lb.training.QuasiNewton(first=1e-9, memory=1)
    fit(model, change, epochs=1, steps_per_epoch=1)
    _, moves, changes, *_ = change.get_state()
    curvature = np.sum(moves[0] * changes[0]) / np.sum(moves[0] ** 2)
    assert 0 < curvature < 4 * 2 / 74 * np.linalg.norm(X[:16], 2) ** 2 * 37 / 16
    assert (
        model.layers[0].seed_generator.state.numpy()[1] == 1
    )  # Keras counts draws: one, as without a change


def test_negative_curvature_is_left_out_and_counted():
    """l(w) = mean (xᵀw - y)² - 2 ‖w‖² curves down; H stays `first`, and the updates are plain."""
    model, change = linear(penalty=lambda w: -2 * keras.ops.sum(w**2)), lb.training.QuasiNewton()
    fit(model, change, stream(37, 37))
    w = W.ravel()
    for _ in range(2):
        w = w - RATE * 0.01 * gradient(w, X, Y, -2.0)
    np.testing.assert_allclose(model.layers[-1].kernel.numpy(), w.reshape(4, 2), rtol=0, atol=1e-12)
    assert (change.num_pairs, change.num_left_out) == (0, 2)


def test_a_gradient_that_is_not_finite_makes_no_pair():
    model, change = linear(), lb.training.QuasiNewton()
    fit(model, change, lb.data.Batches(np.full((16, 4), 1e300), Y[:16], batch_size=16), epochs=1)
    assert (change.num_pairs, change.num_left_out) == (0, 1)


def test_within_it_the_noise_of_the_batch_may_be_reduced():
    """∇f_B(w) - ∇f_B(s) + μ at both ends: y is that of the batch, and at the snapshot g is that of all data."""
    model, data = linear(), stream(37, 16)
    change = lb.training.QuasiNewton(memory=1)
    fit(model, [change, lb.training.VarianceReduced(data)], data, epochs=1)
    w = W.ravel()
    mu, pairs = gradient(w, X, Y), []
    for low, end in ((0, 16), (16, 32), (32, 37)):
        batch = X[low:end], Y[low:end]
        g = gradient(w, *batch) - gradient(W, *batch) + mu
        new = w - RATE * inverse(pairs[-1:], 0.01) @ g
        pairs.append((new - w, gradient(new, *batch) - gradient(w, *batch)))
        w = new
    assert_equal(model, change, (w.reshape(4, 2), 3))


class Crash(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("every", [slow(1), 2])
def test_a_fit_goes_on_from_a_checkpoint_with_the_pairs_it_had(tmp_path, every):
    """Saved after update 4, in the middle of an epoch of three."""

    def trained(*callbacks):
        model, data = linear(), lb.data.Batches(X, Y, batch_size=16, seed=0)
        change = lb.training.QuasiNewton(every=every)
        steered = lb.callbacks.BatchSizeScheduler(data, lb.schedules.constant(16))
        with contextlib.suppress(KeyboardInterrupt):
            fit(model, change, data, steered, *callbacks, epochs=3)
        return model.layers[-1].kernel.numpy(), change.num_pairs

    whole, pairs = trained()
    trained(lb.callbacks.Checkpoint(tmp_path, every=4, verbose=0), Crash())
    resumed = trained(lb.callbacks.Checkpoint(tmp_path, every=4, verbose=0))
    np.testing.assert_array_equal(resumed[0], whole)
    assert resumed[1] == pairs


@pytest.mark.slow
def test_a_second_fit_begins_without_pairs():
    model, change = linear(), lb.training.QuasiNewton()
    fit(model, change, epochs=1)
    model.layers[-1].kernel.assign(W)
    fit(model, change)
    assert_equal(model, change, by_hand())


@pytest.mark.slow
def test_frozen_weights_are_left_alone():
    frozen = keras.layers.Dense(4, use_bias=False, trainable=False, kernel_initializer="identity")
    model, change = linear(frozen), lb.training.QuasiNewton()
    fit(model, change)
    assert_equal(model, change, by_hand())


@pytest.mark.parametrize(
    "options, told",
    [
        ({"memory": 0}, "memory must be a whole number"),
        ({"every": 1.5}, "every must be a whole number"),
        ({"damping": -1}, "damping must be a number from 0 up"),
        ({"first": 0}, "the first step would be none"),
    ],
)
def test_arguments_out_of_range_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        lb.training.QuasiNewton(**options)


def test_what_it_cannot_stand_beside_is_refused():
    with pytest.raises(ValueError, match="Adam would scale it again"):
        fit(linear(optimizer=keras.optimizers.Adam()), lb.training.QuasiNewton())
    with mirrored().scope():
        model = linear(optimizer=keras.optimizers.SGD(RATE, global_clipnorm=1.0))
    with pytest.raises(ValueError, match="global_clipnorm of SGD would clip each one's share"):
        fit(model, lb.training.QuasiNewton())
    with pytest.raises(ValueError, match="Name QuasiNewton first"):
        lb.callbacks.ChangeUpdates([lb.training.SharpnessAware(), lb.training.QuasiNewton()])
