"""Variance-reduced gradients against two loops in NumPy, and their variance against 0."""

import contextlib
import functools

import keras
import least_squares
import numpy as np
import pytest
from least_squares import W, X, Y
from references import floatx
from replicas import mirrored

import tf_lbgap as lb

RNG = np.random.default_rng(1)
RATE = 0.3
linear = functools.partial(least_squares.linear, rate=RATE)


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def gradient(w, x, y, l2=0.0, weight=None):
    weight = np.ones(len(x)) if weight is None else weight
    return 2 * x.T @ (weight[:, None] * (x @ w - y)) / y.size + 2 * l2 * w


def by_hand(epochs, every=1, sizes=(16, 16, 5), *, weight=None, **options):
    """The weights after some epochs over the examples in order."""
    w, ends = W.copy(), np.cumsum(sizes)
    n = ends[-1]
    weight = np.ones(n) if weight is None else weight
    for epoch in range(epochs):
        if epoch % every == 0:
            s = w
            mu = gradient(s, X[:n], Y[:n], weight=weight, **options)
        for low, end in zip(ends - sizes, ends, strict=True):
            batch = X[low:end], Y[low:end]
            its = {"weight": weight[low:end], **options}
            w = w - RATE * (gradient(w, *batch, **its) - gradient(s, *batch, **its) + mu)
    return w


def stream(n=37, size=16, **options):
    return lb.data.Batches(X[:n], Y[:n], batch_size=size, shuffle=False, **options)


def fit(model, data, changes=None, *callbacks, epochs=2, every=1, **options):
    changes = lb.training.VarianceReduced(data, every=every) if changes is None else changes
    callbacks = [lb.callbacks.ChangeUpdates(changes), *callbacks]
    return model.fit(data, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks, **options)


def assert_weights(model, w, atol=1e-10):
    np.testing.assert_allclose(model.layers[-1].kernel.numpy(), w, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "options",
    [{}, {"run_eagerly": True}, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)],
    ids=str,
)
def test_two_epochs_are_those_of_the_formula(options):
    """Batches of 16, 16 and 5. The average of their gradients, each counted once, is not that of the data."""
    model = linear(**options)
    fit(model, stream())
    assert_weights(model, by_hand(2))
    assert int(model.optimizer.iterations.numpy()) == 6
    assert np.abs(by_hand(2) - by_hand(2, every=2)).max() > 1e-3


def test_the_snapshot_is_kept_for_some_epochs_and_a_second_fit_takes_another():
    model = linear()
    fit(model, stream(), epochs=4, every=2)
    assert_weights(model, by_hand(4, every=2))
    model, change = linear(), lb.training.VarianceReduced(stream(), every=3)
    fit(model, stream(), change, epochs=3)
    fit(model, stream(), change, epochs=3)
    assert_weights(model, by_hand(6, every=3))


def test_penalties_count_once():
    model = linear(penalty=keras.regularizers.L2(0.25))
    fit(model, stream())
    assert_weights(model, by_hand(2, l2=0.25))


def test_sample_weights_are_those_of_the_data():
    weight = RNG.uniform(0.1, 2, 37)
    data = lb.data.Batches(X, Y, weight, batch_size=16, shuffle=False)
    model = linear()
    fit(model, data)
    assert_weights(model, by_hand(2, weight=weight))


@pytest.mark.parametrize("size", [1, 3])
def test_at_the_snapshot_the_gradient_has_no_variance(size):
    """One example, or some, give the gradient of all; the plain gradients of these batches differ by far more."""
    for start in (0, 21):
        model = linear()
        part = X[start : start + size], Y[start : start + size]
        fit(
            model, part_of(*part), lb.training.VarianceReduced([(X[:20], Y[:20]), (X[20:], Y[20:])]), epochs=1
        )
        assert_weights(model, W - RATE * gradient(W, X, Y))
        assert np.abs(gradient(W, *part) - gradient(W, X, Y)).max() > 1e-2


def part_of(x, y):
    return lb.data.Batches(x, y, batch_size=len(x), shuffle=False)


def test_micro_batches_change_nothing():
    model, data = linear(), stream()
    steered = lb.callbacks.BatchSizeScheduler(data, lb.schedules.constant(16), micro_batch_size=3)
    fit(model, data, None, steered)
    assert_weights(model, by_hand(2))


def test_replicas_change_nothing():
    """36 examples in batches of 16, 16 and 4, halved between two replicas."""
    with mirrored().scope():
        model = linear()
    fit(model, stream(36))
    assert_weights(model, by_hand(2, sizes=(16, 16, 4)))
    for copy in model.layers[-1].kernel.value.values:
        np.testing.assert_array_equal(copy.numpy(), model.layers[-1].kernel.numpy())


@pytest.mark.parametrize("adaptive", [False, True])
def test_sharpness_aware_minimisation_stands_around_it(adaptive):
    """g = ∇f_B(w + e) - ∇f_B(s) + μ: the snapshot stays where it is while the pass is at w + e."""
    model, data, rho = linear(), stream(37, 37), 0.5
    fit(
        model,
        data,
        [lb.training.SharpnessAware(rho, adaptive=adaptive), lb.training.VarianceReduced(data)],
        epochs=1,
    )
    g = gradient(W, X, Y)
    T = np.abs(W) if adaptive else 1.0
    e = rho * T**2 * g / np.linalg.norm(T * g)
    assert_weights(model, W - RATE * gradient(W + e, X, Y))


def test_in_mixed_precision_the_loss_scale_cancels_out():
    """float16 has three digits: errors of some 1e-3 of gradients of some 1, times the rate, over six updates."""
    with floatx("float32"):
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=2.0**10)
        model = linear(optimizer=optimizer, dtype="mixed_float16")
        fit(model, lb.data.Batches(X.astype("float32"), Y.astype("float32"), batch_size=16, shuffle=False))
    assert_weights(model, by_hand(2), atol=2e-3)
    assert int(model.optimizer.iterations.numpy()) == 6


def test_embeddings_and_weights_without_a_gradient():
    """Rows of an embedding come as slices; a weight that the loss does not see is left alone."""
    tokens = RNG.integers(0, 4, (37, 1))
    x = keras.Input((1,), dtype="int64")
    embedding, unseen = keras.layers.Embedding(4, 2), keras.layers.Dense(2)
    model = keras.Model(x, keras.layers.Flatten()(embedding(x)))
    unseen.build((None, 2))
    model.compile(keras.optimizers.SGD(RATE), "mse")
    embedding.embeddings.assign(W)
    data = lb.data.Batches(tokens, Y, batch_size=16, shuffle=False)
    fit(model, data)
    one_hot, w = np.eye(4)[tokens[:, 0]], W.copy()
    for _ in range(2):
        s, mu = w, gradient(w, one_hot, Y)
        for low in (0, 16, 32):
            batch = one_hot[low : low + 16], Y[low : low + 16]
            w = w - RATE * (gradient(w, *batch) - gradient(s, *batch) + mu)
    np.testing.assert_allclose(embedding.embeddings.numpy(), w, rtol=0, atol=1e-10)


class Crash(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("every", ["epoch", 4])
def test_a_fit_goes_on_from_a_checkpoint_with_the_snapshot_it_had(tmp_path, every):
    """Killed in the second of two epochs with one snapshot, and saved at its begin, or in it after update 4."""

    def trained(*callbacks):
        model, data = linear(), lb.data.Batches(X, Y, batch_size=16, seed=0)
        steered = lb.callbacks.BatchSizeScheduler(data, lb.schedules.constant(16))
        with contextlib.suppress(KeyboardInterrupt):
            fit(model, data, None, steered, *callbacks, epochs=4, every=2)
        return model.layers[-1].kernel.numpy()

    whole = trained()
    saves = {"every": every, "verbose": 0}
    trained(lb.callbacks.Checkpoint(tmp_path, **saves), Crash())
    np.testing.assert_array_equal(trained(lb.callbacks.Checkpoint(tmp_path, **saves)), whole)


def test_a_saved_model_has_its_own_updates(tmp_path):
    model = linear()
    fit(model, stream())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.fit(stream(), verbose=0, shuffle=False)
    model.fit(stream(), verbose=0, shuffle=False)
    assert_weights(loaded, model.layers[-1].kernel.numpy(), atol=1e-14)
    with pytest.raises(ValueError, match="Make it anew"):
        lb.training.VarianceReduced.from_config(lb.training.VarianceReduced(stream()).get_config())


class OwnStep(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


def test_a_loss_that_is_not_one_mean_of_the_weights_is_refused():
    x = keras.Input((4,))
    own = OwnStep(x, keras.layers.Dense(2)(x))
    own.compile("sgd", "mse")
    for model, told in (
        (linear(keras.layers.Dropout(0.5)), "'dropout.*' draws random numbers"),
        (linear(keras.layers.BatchNormalization()), "normalises by the statistics of the batch"),
        (linear(loss=keras.losses.MeanSquaredError(reduction="sum")), "reduction='sum'"),
        (own, "has a train_step of its own"),
    ):
        with pytest.raises(ValueError, match=told):
            fit(model, stream())
    frozen = keras.layers.BatchNormalization(trainable=False)
    fit(linear(keras.layers.Dropout(0.0), frozen), stream(), epochs=1)  # these are functions of the weights


def test_what_it_cannot_stand_around_is_refused():
    reduced = lb.training.VarianceReduced(stream())
    for other in (lb.training.Stability(), lb.training.SharpnessAware(m=4), lb.training.Conservative()):
        with pytest.raises(ValueError, match="hands on another"):
            lb.callbacks.ChangeUpdates([reduced, other])
    with pytest.raises(ValueError, match="hands on another"):
        lb.callbacks.ChangeUpdates([lb.training.Backtracking(), reduced])
    with pytest.raises(ValueError, match="every must be a whole number"):
        lb.training.VarianceReduced(stream(), every=0)
    with pytest.raises(ValueError, match="batches have a map"):
        lb.training.VarianceReduced(stream(map=lambda x, y: (-x, y)))


def test_noise_on_the_gradient_stays_noise():
    """z weighs examples alike at w and s, so at the snapshot it cancels out."""
    model, data = linear(), stream(37, 37)
    fit(model, data, [lb.training.VarianceReduced(data), lb.training.NoisyGradient(sigma=1.0)], epochs=1)
    assert_weights(model, W - RATE * gradient(W, X, Y))
