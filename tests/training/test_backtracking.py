"""The line search on the batch against a loop in NumPy, in all the ways in which `fit` makes updates."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import floatx
from replicas import mirrored

import tf_lbgap as lb

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(37, 4)), RNG.normal(size=(37, 2))
W = RNG.normal(size=(4, 2))


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def linear(rate=8.0, *layers, penalty=None, optimizer=None, **options):
    """Least squares in 8 weights: l(w) = mean (xᵀw - y)², with a penalty if there is one."""
    dense = keras.layers.Dense(2, use_bias=False, kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((4,)), *layers, dense])
    model.compile(optimizer or keras.optimizers.SGD(rate), "mse", **options)
    dense.kernel.assign(W)
    return model


def by_hand(batches, rate, *, c=0.1, factor=0.5, growth=2.0, every_update=False, halvings=30, l2=0.0):
    """Weights, rates of all updates, and trials."""
    w, rates, trials, largest = W.copy(), [], 0, 0

    def loss(w, x, y):
        return np.mean((x @ w - y) ** 2) + l2 * np.sum(w**2)

    for x, y in batches:
        g = 2 * x.T @ (x @ w - y) / y.size + 2 * l2 * w
        if every_update or 0 < largest < len(x):
            rate *= growth
        largest = max(largest, len(x))
        for trial in range(halvings + 1):
            rate = rate * factor if trial else rate
            trials += 1
            if loss(w - rate * g, x, y) <= loss(w, x, y) - c * rate * np.sum(g**2):
                break
        w = w - rate * g
        rates.append(rate)
    return w, rates, trials


def cut(sizes):
    """Batches of these sizes, from the first example on."""
    ends = np.cumsum(sizes)
    return [(X[end - size : end], Y[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


class Rates(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(self.model.optimizer.learning_rate.numpy()))


def fit(model, change, data=None, *callbacks, epochs=1):
    """The rates of all updates, of batches of 16, 16 and 5 unless others are given."""
    if isinstance(data, list):
        specs, batches = (tf.TensorSpec([None, 4], tf.float64), tf.TensorSpec([None, 2], tf.float64)), data
        data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs)
    data = lb.data.Batches(X, Y, batch_size=16, shuffle=False) if data is None else data
    rates = Rates()
    callbacks = [lb.callbacks.ChangeUpdates(change), *callbacks, rates]
    model.fit(data, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)
    return rates.found


def assert_equal(model, change, found, expected):
    w, rates, trials = expected
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found, rates, rtol=1e-14)
    assert (change.num_trials, change.num_failures) == (trials, 0)


@pytest.mark.parametrize(
    "options",
    [{}, {"run_eagerly": True}, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)],
    ids=str,
)
def test_updates_are_those_of_the_formula(options):
    """Batches of 16, 16 and 5, twice: six updates. The rate of 8 is much too long at first."""
    model, change = linear(**options), lb.training.Backtracking()
    expected = by_hand(cut([16, 16, 5]) * 2, 8.0)
    assert_equal(model, change, fit(model, change, epochs=2), expected)
    assert 1 < len(set(expected[1])) < 6 and expected[2] > 8
    assert int(model.optimizer.iterations.numpy()) == 6


def test_every_argument_is_that_of_the_formula():
    options = {"c": 0.6, "factor": 0.7, "growth": 3.0, "every_update": True}
    model, change = linear(), lb.training.Backtracking(**options)
    assert_equal(model, change, fit(model, change, epochs=2), by_hand(cut([16, 16, 5]) * 2, 8.0, **options))


def test_the_step_doubles_where_the_batch_is_larger_than_any_before():
    """Sizes 4, 8, 8, 3, 8, 6: at the second alone. (A rate that is always accepted shows it.)"""
    batches = cut([4, 8, 8, 3, 8, 6])
    model, change = linear(1e-3), lb.training.Backtracking()
    assert_equal(model, change, fit(model, change, batches), by_hand(batches, 1e-3))
    np.testing.assert_allclose(model.optimizer.learning_rate.numpy(), 2e-3)
    assert fit(model, change, batches) == [2e-3] + [4e-3] * 5  # a second fit counts batches anew


def test_penalties_are_part_of_the_loss():
    """One so strong that without it in the loss the accepted steps would be others."""
    model, change = linear(penalty=keras.regularizers.L2(2.0)), lb.training.Backtracking()
    expected = by_hand(cut([16, 16, 5]), 8.0, l2=2.0)
    assert_equal(model, change, fit(model, change), expected)
    assert expected[1] != by_hand(cut([16, 16, 5]), 8.0)[1]


@pytest.mark.parametrize(
    "options",
    [{}, {"run_eagerly": True}, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)],
    ids=str,
)
def test_micro_batches_change_nothing(options):
    model, change = linear(**options), lb.training.Backtracking()
    batches = lb.data.Batches(X, Y, batch_size=16, shuffle=False)
    steered = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(16), micro_batch_size=3)
    found = fit(model, change, batches, steered, epochs=2)
    assert_equal(model, change, found, by_hand(cut([16, 16, 5]) * 2, 8.0))


@pytest.mark.slow
def test_several_updates_per_execution():
    model, change = linear(steps_per_execution=2), lb.training.Backtracking()
    fit(model, change, epochs=2)
    np.testing.assert_allclose(
        model.get_weights()[0], by_hand(cut([16, 16, 5]) * 2, 8.0)[0], rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_replicas_take_one_step_that_fits_the_batch_of_all(micro_batch_size):
    """Two replicas with 8 examples each; the batch grows to 20, so the step doubles once."""
    batches = cut([16, 20]) + cut([16, 20])
    with mirrored().scope():
        model = linear()
    change = lb.training.Backtracking(halvings=6)
    stream = lb.data.Batches(X[:36], Y[:36], batch_size=18, shuffle=False)
    sizes = lb.callbacks.BatchSizeScheduler(
        stream, lambda p: 16 if p < 0.4 or 1 <= p < 1.4 else 20, micro_batch_size=micro_batch_size
    )
    found = fit(model, change, stream, sizes, epochs=2)
    w, rates, trials = by_hand(batches, 8.0)
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found, rates, rtol=1e-14)
    assert trials < change.num_trials <= 2 * trials and change.num_failures == 0
    for copy in model.layers[-1].kernel.value.values:
        np.testing.assert_array_equal(copy.numpy(), model.get_weights()[0])


def test_a_batch_has_grown_if_that_of_all_replicas_has():
    """8, 9, 10 are 4 and 4, then 5 and 4 (or 4 and 5), then 5 and 5: each replica alone would see one growth of the two."""
    with mirrored().scope():
        model = linear(1e-3)
    rates = fit(model, lb.training.Backtracking(halvings=1), cut([8, 9, 10]))
    assert rates == [1e-3, 2e-3, 4e-3]


def test_all_trials_see_the_dropout_masks_of_the_gradient():
    """With equal masks a tiny step is accepted at once; with others the loss is another by far more than it gains."""
    model, change = linear(1e-9, keras.layers.Dropout(0.5, seed=0)), lb.training.Backtracking()
    fit(model, change, epochs=4)
    assert change.num_trials == 12
    before = model.layers[0].seed_generator.state.numpy()
    fit(model, change)
    # Keras counts the draws in the state: one for each update, however many trials there were.
    assert model.layers[0].seed_generator.state.numpy()[1] - before[1] == 3


def test_statistics_and_metrics_are_those_of_the_plain_pass():
    """Batch normalization moves once per update, from w, and the logged loss is that at w."""
    models = [linear(1e-12, keras.layers.BatchNormalization()) for _ in range(2)]
    batches = lb.data.Batches(X, Y, batch_size=16, shuffle=False)
    logs = [
        model.fit(batches, verbose=0, shuffle=False, callbacks=callbacks).history
        for model, callbacks in zip(
            models, ([], [lb.callbacks.ChangeUpdates(lb.training.Backtracking())]), strict=True
        )
    ]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-10)
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


def test_a_search_that_fails_takes_the_last_step_and_counts_it():
    """8 · 2⁻² is too long still at both first batches."""
    model, change = linear(64.0), lb.training.Backtracking(halvings=1)
    w, rates, trials = by_hand(cut([16, 16]), 64.0, halvings=1)
    assert fit(model, change, cut([16, 16])) == rates == [32.0, 16.0]
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-10)
    assert (change.num_failures, change.num_trials) == (2, trials) == (2, 4)


def test_at_a_minimum_the_step_stays():
    """In float32 the gradient there is rounding, and so is what the loss changes by: no reason to halve, 100 times."""
    with floatx("float32"):
        model = linear(0.5)
        model.layers[0].kernel.assign(np.linalg.lstsq(X[:16], Y[:16])[0])
        data = lb.data.Batches(X[:16].astype("float32"), Y[:16].astype("float32"), batch_size=16)
        assert fit(model, lb.training.Backtracking(), data, epochs=100) == [0.5] * 100


class Crash(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_a_fit_goes_on_from_a_checkpoint_to_the_bit(tmp_path):
    """The step that was found, and the largest batch so far: 16, so 8, 12 brings no doubling after the crash."""

    def trained(*callbacks):
        stream = lb.data.Batches(X, Y, batch_size=16, seed=0)
        sizes = lb.callbacks.BatchSizeScheduler(stream, lambda p: 16 if p < 2 else 8 if p < 3 else 12)
        model, change = linear(), lb.training.Backtracking()
        with contextlib.suppress(KeyboardInterrupt):
            fit(model, change, stream, sizes, *callbacks, epochs=4)
        return model, change

    whole, its = trained()
    trained(lb.callbacks.Checkpoint(tmp_path, verbose=0), Crash())
    resumed, change = trained(lb.callbacks.Checkpoint(tmp_path, verbose=0))
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert resumed.optimizer.learning_rate.numpy() == whole.optimizer.learning_rate.numpy()
    assert change.num_trials == its.num_trials


def test_a_saved_model_has_its_own_updates_and_the_step_that_was_found(tmp_path):
    model = linear()
    fit(model, lb.training.Backtracking())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.learning_rate.numpy() == model.optimizer.learning_rate.numpy() < 8
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    change = lb.training.Backtracking(0.2, growth=1.5, every_update=True)
    assert lb.training.Backtracking.from_config(change.get_config()).get_config() == change.get_config()


@pytest.mark.parametrize(
    "options, told",
    [
        ({"c": 1.0}, r"c=1\): c must be between 0 and 1"),
        ({"c": 0.0}, "between 0 and 1"),
        ({"factor": 1.0}, "factor must be between"),
        ({"factor": float("nan")}, "a number from 0 to 1"),
        ({"growth": 0.5}, "a number from 1 up"),
        ({"halvings": 0}, "whole number"),
    ],
)
def test_arguments_out_of_range_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        lb.training.Backtracking(**options)


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.5)


@pytest.mark.parametrize(
    "optimizer, told",
    [
        (lambda: keras.optimizers.Adam(), "Adam does not follow"),
        (lambda: keras.optimizers.SGD(1.0, momentum=0.9), "momentum=0.9 of SGD"),
        (lambda: keras.optimizers.SGD(1.0, weight_decay=0.1), "weight_decay=0.1"),
        (lambda: keras.optimizers.SGD(1.0, global_clipnorm=0.1), "global_clipnorm=0.1"),
        (lambda: keras.optimizers.SGD(1.0, use_ema=True), "use_ema=True"),
        (lambda: keras.optimizers.SGD(schedule()), "from a schedule"),
        (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0)), "LossScaleOptimizer"),
    ],
)
def test_another_optimizer_is_refused(optimizer, told):
    with pytest.raises(ValueError, match=told):
        fit(linear(optimizer=optimizer()), lb.training.Backtracking())


class TwoLosses(keras.Model):
    def train_step(self, data):
        logs = super().train_step(data)
        self._loss_tracker.update_state(1.0)
        return logs


def test_what_cannot_be_searched_is_refused():
    batches = lb.data.Batches(X, Y, batch_size=16)
    bound = linear()
    bound.layers[0].kernel.constraint = keras.constraints.NonNeg()
    lowered = linear(1.0, keras.layers.Dense(4, dtype="mixed_bfloat16"))
    x = keras.Input((4,))
    own = TwoLosses(x, keras.layers.Dense(2)(x))
    own.compile(keras.optimizers.SGD(1.0), "mse")
    for model, callback, told in (
        (bound, None, "has a constraint"),
        (lowered, None, "mixed_bfloat16 they have too few digits"),
        (own, None, "updated the metric 'loss' of model.metrics 2 times"),
        (linear(), keras.callbacks.LearningRateScheduler(lambda e: 1.0), "LearningRateScheduler sets it too"),
        (linear(), keras.callbacks.ReduceLROnPlateau(), "ReduceLROnPlateau sets it too"),
        (linear(), lb.callbacks.LearningRateScheduler(batches, lambda p: 1.0), "sets it too"),
        (
            linear(),
            lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(16), learning_rate="linear"),
            r"learning_rate='linear'\) sets",
        ),
    ):
        with pytest.raises(ValueError, match=told):
            fit(model, lb.training.Backtracking(), batches, *([callback] if callback else []))
    for other in (lb.training.SharpnessAware(), lb.training.SharpnessAware(m=4), lb.training.Conservative()):
        with pytest.raises(ValueError, match="hands on another gradient"):
            lb.callbacks.ChangeUpdates([lb.training.Backtracking(), other])


def test_changes_of_the_loss_are_searched_along():
    """Stability training adds a distance to the loss, and NoisyGradient weighs it: the search still has the gradient of it."""
    model = linear()
    change = lb.training.Backtracking()
    fit(model, [change, lb.training.Stability(alpha=1.0, sigma=0.5), lb.training.NoisyGradient(sigma=0.3)])
    assert 0.1 < float(model.optimizer.learning_rate.numpy()) < 8 and change.num_failures == 0
