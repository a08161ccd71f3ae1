"""Averages of weights against those of a linear model that is trained by hand, and what else has to stay as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import floatx
from replicas import mirrored

import tf_lbgap as lb
from tf_lbgap.callbacks import WeightAveraging

N, BATCH_SIZE, RATE = 11, 4, 0.05  # batches of 4, 4 and a ragged 3
UPDATES = 3  # of an epoch
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, 3)), RNG.normal(size=(N, 1))
ENDS = [4, 8, 11]  # examples seen


@pytest.fixture(autouse=True)
def _float64():
    with floatx("float64"):
        yield


def linear(optimizer=None, **options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.ones((3, 1))])
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse", **options)
    return model


def by_hand(epochs, sizes=(4, 4, 3)):
    """The weights after each update of linear regression, and how many epochs were seen by then."""
    w, weights, progress = np.ones((3, 1)), [], []
    for epoch in range(epochs):
        start = 0
        for size in sizes:
            x, y = X[start : start + size], Y[start : start + size]
            w = w - RATE * 2 / size * x.T @ (x @ w - y)
            start += size
            weights.append(w)
            progress.append(epoch + start / N)
    return weights, progress


def exponential(weights, progress, half_life):
    """Each by the formula of what it counts, from the first on."""
    average = weights[0]
    for i in range(1, len(weights)):
        decay = 0.5 ** ((progress[i] - progress[i - 1]) / half_life)
        average = decay * average + (1 - decay) * weights[i]
    return average


def fit(model, *callbacks, epochs=5, **options):
    settings = {"batch_size": BATCH_SIZE, "shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
    data = () if "x" in options else (X, Y)
    return model.fit(*data, epochs=epochs, **{**settings, **options})


def kernel(model):
    return model.layers[-1].kernel.numpy()


@pytest.mark.parametrize("start", [0, 2, 2.5, 5])
def test_the_flat_average_is_of_the_ends_of_epochs_from_start_on(start):
    """start=2 takes the weights after epochs 2, 3, 4 and 5."""
    weights, _ = by_hand(5)
    ends = [weights[3 * epoch - 1] for epoch in range(1, 6) if epoch >= start]
    averaging = WeightAveraging(start=start)
    model = linear()

    fit(model, averaging)

    np.testing.assert_allclose(kernel(model), np.mean(ends, axis=0), rtol=1e-12)
    assert averaging.num_averaged == len(ends)
    averaging.restore()
    np.testing.assert_allclose(kernel(model), weights[-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("every", "taken"),
    [
        (1, range(15)),
        (4, [3, 7, 11]),
        ({"epochs": 2}, [5, 11]),
        (lambda update, progress: progress == 2, [5]),
    ],
    ids=["every update", "every 4", "every 2 epochs", "a function"],
)
def test_weights_are_taken_when_every_says(every, taken):
    weights, _ = by_hand(5)
    model = linear()
    fit(model, WeightAveraging(every=every))
    np.testing.assert_allclose(kernel(model), np.mean([weights[i] for i in taken], axis=0), rtol=1e-12)


@pytest.mark.parametrize("how", ["arrays", "batches", "steered", "steered, last"])
def test_the_exponential_average_has_its_half_life_in_epochs_with_a_ragged_last_batch(how):
    weights, progress = by_hand(5)
    model, averaging, options, callbacks = linear(), WeightAveraging(half_life=0.7), {}, []
    if how != "arrays":
        batches = lb.data.Batches(X, Y, batch_size=BATCH_SIZE, shuffle=False)
        options = {"x": batches, "batch_size": None}
    if "steered" in how:
        callbacks = [lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(BATCH_SIZE))]
    callbacks = [averaging, *callbacks] if "last" in how else [*callbacks, averaging]

    fit(model, *callbacks, **options)

    np.testing.assert_allclose(kernel(model), exponential(weights, progress, 0.7), rtol=1e-12)
    assert averaging.num_averaged == 15


def test_it_starts_within_an_epoch_and_as_the_weights_that_it_meets():
    weights, progress = by_hand(3)
    first = next(i for i, p in enumerate(progress) if p >= 1.5)
    model = linear()
    fit(model, WeightAveraging(half_life=1, start=1.5), epochs=3)
    np.testing.assert_allclose(kernel(model), exponential(weights[first:], progress[first:], 1), rtol=1e-12)


def test_the_half_life_follows_a_batch_that_grows():
    """Sizes 2, 2, .. for an epoch, then 5, 5, 1: steps of unequal length in epochs."""
    w, weights, progress, seen = np.ones((3, 1)), [], [], 0
    for sizes in ([2] * 5 + [1], [5, 5, 1]):
        start = 0
        for size in sizes:
            x, y = X[start : start + size], Y[start : start + size]
            w = w - RATE * 2 / size * x.T @ (x @ w - y)
            start, seen = start + size, seen + size
            weights.append(w)
            progress.append(seen / N)
    batches = lb.data.Batches(X, Y, batch_size=2, shuffle=False)
    steering = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.staircase(2, factor=2.5, milestones=[1]))
    for order in (slice(None), slice(None, None, -1)):
        model = linear()
        callbacks = [steering, WeightAveraging(half_life=0.5)][order]
        model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        np.testing.assert_allclose(kernel(model), exponential(weights, progress, 0.5), rtol=1e-12)


@pytest.mark.slow
def test_several_steps_per_execution_are_one_step_of_the_average():
    """Executions of two updates end after updates 2 and 3 of an epoch."""
    weights, progress = by_hand(3)
    at = [3 * epoch + i for epoch in range(3) for i in (1, 2)]
    model = linear(steps_per_execution=2)
    fit(model, WeightAveraging(half_life=0.7), epochs=3)
    expected = exponential([weights[i] for i in at], [progress[i] for i in at], 0.7)
    np.testing.assert_allclose(kernel(model), expected, rtol=1e-12)


def test_updates_are_counted_exactly_with_several_steps_per_execution():
    """Executions end after updates 2, 3, 5, 6, 8, 9, 11, 12; of every 4 the first end at or after it is taken."""
    weights, _ = by_hand(4)
    model = linear(steps_per_execution=2)
    fit(model, WeightAveraging(every=4), epochs=4)
    expected = np.mean([weights[i - 1] for i in (5, 8, 12)], axis=0)
    np.testing.assert_allclose(kernel(model), expected, rtol=1e-12)


def network(seed=1, **options):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", **options)
    return model


def statistics_by_hand(model, x):
    """Mean and variance of what reaches the batch normalization, over all of x."""
    hidden = x @ model.layers[0].kernel.numpy() + model.layers[0].bias.numpy()
    return hidden.mean(0), hidden.var(0)


@pytest.mark.parametrize("validate", [False, True])
def test_training_is_as_without_it_to_the_bit(validate):
    """Weights, statistics, optimizer and dropout seeds, with the average lent to each validation."""
    plain, averaged = network(), network()
    one = fit(plain, validation_data=(X, Y)).history
    averaging = WeightAveraging(half_life=1, recalibrate=(X, Y), validate=validate)
    other = fit(averaged, averaging, validation_data=(X, Y)).history

    averaging.restore()

    assert one["loss"] == other["loss"]
    assert (one["val_loss"] == other["val_loss"]) != validate
    for a, b in zip(
        plain.variables + plain.optimizer.variables,
        averaged.variables + averaged.optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


def test_statistics_are_exact_for_the_average():
    model = network()
    averaging = WeightAveraging(start=2, recalibrate=[(X[:4], Y[:4]), (X[4:], Y[4:])])
    fit(model, averaging)
    mean, variance = statistics_by_hand(model, X)
    np.testing.assert_allclose(model.layers[1].moving_mean, mean, rtol=1e-10)
    np.testing.assert_allclose(model.layers[1].moving_variance, variance, rtol=1e-10)


def test_recalibrate_false_leaves_the_statistics_of_the_last_weights():
    plain, averaged = network(), network()
    fit(plain)
    fit(averaged, WeightAveraging(recalibrate=False))
    np.testing.assert_array_equal(averaged.layers[1].moving_mean, plain.layers[1].moving_mean)
    assert np.abs(averaged.layers[0].kernel - plain.layers[0].kernel).max() > 1e-4


def test_validation_sees_the_average_of_each_epoch_from_start_on():
    """val_loss of epoch e is that of the mean of epochs 2 .. e; of the first epoch that of its own weights."""
    weights, _ = by_hand(4)
    ends = [weights[3 * epoch - 1] for epoch in range(1, 5)]
    # The average takes in an epoch when it has ended, after its validation.
    seen = [ends[0], ends[1], ends[1], (ends[1] + ends[2]) / 2]
    model = linear()
    history = fit(model, WeightAveraging(start=2, validate=True), epochs=4, validation_data=(X, Y)).history
    expected = [np.mean((X @ w - Y) ** 2) for w in seen]
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-6)


def test_the_exponential_average_of_a_validation_holds_all_updates_before():
    weights, progress = by_hand(3)
    model = linear()
    history = fit(
        model, WeightAveraging(half_life=0.7, validate=True), epochs=3, validation_data=(X, Y)
    ).history
    for epoch in range(3):
        w = exponential(weights[: 3 * epoch + 3], progress[: 3 * epoch + 3], 0.7)
        np.testing.assert_allclose(history["val_loss"][epoch], np.mean((X @ w - Y) ** 2), rtol=1e-6)


def test_the_average_can_be_lent_while_training():
    class Lends(keras.callbacks.Callback):
        seen = ()

        def on_epoch_end(self, epoch, logs=None):
            with averaging.averaged() as model:
                self.seen += (kernel(model).copy(),)

    weights, _ = by_hand(5)
    averaging, lends, model = WeightAveraging(start=2), Lends(), linear()
    fit(model, averaging, lends)
    ends = [weights[3 * epoch - 1] for epoch in range(1, 6)]
    expected = [ends[0], *(np.mean(ends[1 : i + 1], axis=0) for i in range(1, 5))]
    for one, other in zip(lends.seen, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    averaging.restore()
    np.testing.assert_allclose(kernel(model), weights[-1], rtol=1e-12)


def test_the_average_that_is_lent_after_an_update_holds_it():
    class Lends(keras.callbacks.Callback):
        seen = ()

        def on_train_batch_end(self, batch, logs=None):
            with averaging.averaged() as model:
                self.seen += (kernel(model).copy(),)

    weights, progress = by_hand(2)
    averaging, lends = WeightAveraging(half_life=0.7), Lends()
    fit(linear(), averaging, lends, epochs=2)
    for i, found in enumerate(lends.seen):
        expected = exponential(weights[: i + 1], progress[: i + 1], 0.7)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_after_a_validation_that_broke_off_the_weights_that_trained_can_be_restored():
    class Stop(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    weights, progress = by_hand(1)
    averaging, model = WeightAveraging(half_life=0.7, validate=True), linear()
    with pytest.raises(KeyboardInterrupt):
        fit(model, averaging, Stop(), validation_data=(X, Y))
    np.testing.assert_allclose(kernel(model), exponential(weights, progress, 0.7), rtol=1e-12)
    averaging.restore()
    np.testing.assert_allclose(kernel(model), weights[-1], rtol=1e-12)


def test_a_second_fit_begins_a_new_average():
    averaging, model = WeightAveraging(), linear()
    fit(model, averaging)
    model.set_weights([np.ones((3, 1))])
    fit(model, averaging, epochs=2)
    weights, _ = by_hand(2)
    np.testing.assert_allclose(kernel(model), (weights[2] + weights[5]) / 2, rtol=1e-12)


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == self.at:
            raise Killed


@pytest.mark.parametrize(
    "options",
    [{"half_life": 0.7}, pytest.param({"start": 1.0}, marks=pytest.mark.slow)],
    ids=["exponential", "flat"],
)
def test_a_fit_that_was_killed_within_an_epoch_comes_to_the_same_average(tmp_path, options):
    def run(*more, folder):
        model = network()
        batches = lb.data.Batches(X, Y, batch_size=BATCH_SIZE, seed=3)
        averaging = WeightAveraging(recalibrate=(X, Y), **options)
        steering = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(BATCH_SIZE))
        checkpoint = lb.callbacks.Checkpoint(folder, every=1, verbose=0)
        model.fit(
            batches, epochs=4, shuffle=False, verbose=0, callbacks=[averaging, checkpoint, steering, *more]
        )
        return [variable.numpy() for variable in model.variables], averaging.num_averaged

    expected = run(folder=tmp_path / "whole")
    with pytest.raises(Killed):
        run(Kill(at=8), folder=tmp_path / "killed")
    found = run(folder=tmp_path / "killed")
    assert found[1] == expected[1]
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "within", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "fit within the scope"]
)
def test_two_replicas_have_the_average_of_one_device(within):
    def run(model, batches):
        averaging = WeightAveraging(half_life=0.7, validate=True)
        steering = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(4))
        # Under a strategy Keras does not take validation data whose first batch the replicas cannot share equally.
        options = {"shuffle": False, "verbose": 0, "validation_data": (X[:8], Y[:8])}
        history = model.fit(batches, epochs=3, callbacks=[steering, averaging], **options)
        return averaging, history.history

    streams = [lb.data.Batches(X[:8], Y[:8], batch_size=4, shuffle=False) for _ in range(2)]
    with mirrored().scope():
        shared = linear()
        if within:
            averaging, history = run(shared, streams[0])
    if not within:
        averaging, history = run(shared, streams[0])
    alone = linear()
    reference, expected = run(alone, streams[1])

    np.testing.assert_allclose(kernel(shared), kernel(alone), rtol=1e-12)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-6)
    for copy in shared.layers[-1].kernel.value.values:
        np.testing.assert_allclose(copy, kernel(alone), rtol=1e-12)
    averaging.restore()
    reference.restore()
    for copy in shared.layers[-1].kernel.value.values:
        np.testing.assert_allclose(copy, kernel(alone), rtol=1e-12)


@pytest.mark.parametrize("policy", [pytest.param("mixed_float16", marks=pytest.mark.slow), "bfloat16"])
def test_low_precision_is_averaged_in_float32(policy):
    """Steps of 2 % of a difference of 1, near 2, are less than half of what separates numbers in bfloat16."""
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    averaging = WeightAveraging(half_life=12)

    class Move(keras.callbacks.Callback):
        to = 1.0

        def on_train_batch_end(self, batch, logs=None):
            self.model.layers[-1].kernel.assign(tf.fill((3, 1), self.to))
            self.to = 2.0

    fit(model, Move(), averaging, epochs=20)

    expected = 2 - 0.5 ** ((20 - 4 / 11) / 12)  # 1 after the first update, 2 after all others
    averages = averaging.get_state()["averages"]
    assert averages[0].dtype == np.float32
    np.testing.assert_allclose(averages[0], expected, rtol=1e-5)
    np.testing.assert_allclose(kernel(model).astype("float64"), expected, rtol=4e-3)


def test_nothing_to_average_is_told_and_the_last_weights_stay():
    model = linear()
    with pytest.warns(UserWarning, match="nothing to average|anything to average from start=9"):
        fit(model, WeightAveraging(start=9), epochs=2)
    np.testing.assert_allclose(kernel(model), by_hand(2)[0][-1], rtol=1e-12)
    with pytest.raises(ValueError, match="There are no weights to restore"):
        WeightAveraging().restore()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half_life": 0}, "half_life=0 should be a number of epochs"),
        ({"half_life": True}, "half_life=True"),
        ({"start": -1}, "start=-1"),
        ({"start": "2"}, "start='2'"),
        ({"every": "update"}, "every='update' is not known"),
        ({"validate": "yes"}, "validate='yes'"),
        ({"recalibrate": 3}, "batches is a int"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:12],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WeightAveraging(**options)


def test_a_model_with_batch_normalization_needs_data_for_it():
    with pytest.raises(ValueError, match=r"Pass WeightAveraging\(recalibrate=\(x, y\)\)"):
        fit(network(), WeightAveraging())


def test_two_averages_are_refused():
    with pytest.raises(ValueError, match="two WeightAveraging callbacks"):
        fit(linear(), WeightAveraging(), WeightAveraging(half_life=1))
    with pytest.raises(ValueError, match="use_ema=True and WeightAveraging"):
        fit(linear(keras.optimizers.SGD(RATE, use_ema=True)), WeightAveraging())


def test_a_half_life_needs_to_know_how_long_an_epoch_is():
    unknown = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).filter(lambda x, y: True)
    with pytest.raises(ValueError, match="half_life is in epochs"):
        linear().fit(unknown, epochs=2, verbose=0, callbacks=[WeightAveraging(half_life=1)])
    model = linear()
    model.fit(unknown, epochs=2, verbose=0, callbacks=[WeightAveraging()])  # a flat one needs not
    weights, _ = by_hand(2)
    np.testing.assert_allclose(kernel(model), (weights[2] + weights[5]) / 2, rtol=1e-12)


def test_updates_are_counted_as_the_optimizer_counts_them():
    """Conservative training makes three of a batch: after 3, 6, 9, 12 updates, every=6 takes the weights twice."""
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    averaging = lb.callbacks.WeightAveraging(every=6)
    callbacks = [lb.callbacks.ChangeUpdates(lb.training.Conservative(steps=3)), averaging]
    model.fit(x, y, batch_size=2, verbose=0, callbacks=callbacks)
    assert averaging.num_averaged == 2
