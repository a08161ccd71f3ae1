"""A real `fit`, counted: which examples, how many updates, which sizes, who may stop it."""

import contextlib
import copy
import io
import re
import warnings
from contextlib import redirect_stdout

import keras
import numpy as np
import pytest
import recording as r
import tensorflow as tf
from replicas import mirrored
from slow import slow

import tf_lbgap as lb

BY_EPOCH = [32, 128, 16, 64]
N = 2003


def by_epoch(progress):
    return BY_EPOCH[int(progress)]


def in_mid_epoch(progress):
    """Sizes 32, 100, 7, 250, changing at 0.3, 0.6 and 1.5 epochs."""
    return 32 if progress < 0.3 else 100 if progress < 0.6 else 7 if progress < 1.5 else 250


def replay(schedule, n, epochs, start=0):
    """The sizes of each epoch, written as plainly as can be."""
    result = []
    for epoch in range(start, epochs):
        sizes, position = [], 0
        while position < n:
            sizes.append(min(schedule(epoch + position / n), n - position))
            position += sizes[-1]
        result.append(sizes)
    return result


def fit(model, batches, callbacks=(), epochs=4, **options):
    """Fit, and fail on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(
            batches, epochs=epochs, shuffle=False, callbacks=list(callbacks), **{"verbose": 0, **options}
        )


@pytest.mark.parametrize("steps_per_execution", [1, 4])
@pytest.mark.parametrize("schedule", [by_epoch, in_mid_epoch], ids=lambda s: s.__name__)
def test_every_id_once_per_epoch_and_one_decay_per_batch(schedule, steps_per_execution):
    model = r.recording_model(steps_per_execution=steps_per_execution)
    batches = lb.data.Batches(*r.ids(N), batch_size=32, seed=3)

    fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches, schedule)])

    expected = replay(schedule, N, 4)
    if schedule is by_epoch:
        assert [len(sizes) for sizes in expected] == [63, 16, 126, 32]
    assert r.sizes_seen(model) == [size for epoch in expected for size in epoch]
    for epoch, seen in enumerate(r.epochs_seen(model, map(len, expected))):
        np.testing.assert_array_equal(np.sort(seen), np.arange(N))
        np.testing.assert_array_equal(seen, batches.order(epoch))
    assert r.num_iterations(model) == r.num_decays(model) == len(r.sizes_seen(model))


class SetSizeByHand(keras.callbacks.Callback):
    """What a user would write: a new size after some batches, in mid epoch."""

    def __init__(self, batches, changes):
        super().__init__()
        self.batches, self.changes, self.count = batches, changes, 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        if self.count in self.changes:
            self.batches.batch_size = self.changes[self.count]


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_a_live_size_holds_from_the_next_execution(steps_per_execution, ours_first):
    model = r.recording_model(steps_per_execution=steps_per_execution)
    batches = lb.data.Batches(*r.ids(N), batch_size=32, seed=3)
    by_hand = SetSizeByHand(batches, {3: 100, 9: 8, 14: 1000, 20: 5, 30: 77})
    callbacks = [lb.callbacks.BatchSizeScheduler(batches), by_hand]

    history = fit(model, batches, callbacks if ours_first else callbacks[::-1], epochs=3)

    expected, size, executions = [], 32, 0
    for _ in range(3):
        position, sizes = 0, []
        while position < N:
            for _ in range(steps_per_execution):
                if position < N:
                    sizes.append(min(size, N - position))
                    position += sizes[-1]
            executions += 1
            size = by_hand.changes.get(executions, size)
        expected.append(sizes)
    assert r.sizes_seen(model) == [size for epoch in expected for size in epoch]
    for epoch, seen in enumerate(r.epochs_seen(model, map(len, expected))):
        np.testing.assert_array_equal(seen, batches.order(epoch))
    assert r.num_iterations(model) == r.num_decays(model) == len(r.sizes_seen(model))
    assert history.history["updates"] == list(np.cumsum([len(sizes) for sizes in expected]))


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_without_a_callback_fit_is_exact_too(steps_per_execution):
    model = r.recording_model(steps_per_execution=steps_per_execution)
    batches = lb.data.Batches(*r.ids(N), batch_size=100, seed=3)

    fit(model, batches, epochs=3)
    batches.batch_size = 300
    fit(model, batches, epochs=2)

    for epoch, seen in zip([0, 1, 2, 0, 1], r.epochs_seen(model, [21] * 3 + [7] * 2), strict=True):
        np.testing.assert_array_equal(seen, batches.order(epoch))
    assert r.num_iterations(model) == r.num_decays(model) == 3 * 21 + 2 * 7


@pytest.mark.parametrize("scheduled", [True, False])
def test_models_with_other_steps_per_execution_take_turns_on_one_stream(scheduled):
    """With one step per execution an iterator outlives its epoch; with four it must not."""
    batches = lb.data.Batches(*r.ids(N), batch_size=100, seed=3)
    callbacks = [lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(100))] if scheduled else []
    models = [r.recording_model(steps_per_execution=steps) for steps in (1, 4)]
    for turn in range(4):
        model = models[turn % 2]
        model.layers[0].seen.clear()
        fit(model, batches, callbacks, epochs=2)
        for epoch, seen in enumerate(r.epochs_seen(model, [21, 21])):
            np.testing.assert_array_equal(seen, batches.order(epoch))
    assert [r.num_iterations(model) for model in models] == [84, 84]


@pytest.mark.parametrize("last_batch, tail", [("merge", 103), ("drop", 100), ("partial", 3)])
def test_the_remainder_goes_where_it_was_told(last_batch, tail):
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(N), batch_size=100, seed=0, last_batch=last_batch)

    fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(100))], epochs=2)

    assert r.sizes_seen(model)[-1] == tail
    assert r.num_iterations(model) == 2 * (21 if last_batch == "partial" else 20)


def test_a_stream_from_a_dataset_is_exact_planned_and_live():
    dataset = tf.data.Dataset.from_tensor_slices(r.ids(N))
    for schedule in (in_mid_epoch, None):
        model = r.recording_model()
        batches = lb.data.Batches.from_dataset(dataset, batch_size=32, seed=0)
        callbacks = [lb.callbacks.BatchSizeScheduler(batches, schedule)]
        if schedule is None:
            callbacks.append(SetSizeByHand(batches, {5: 100, 12: 7, 80: 64}))

        fit(model, batches, callbacks, epochs=2)

        counts = [len(sizes) for sizes in replay(in_mid_epoch, N, 2)]
        if schedule is None:
            counts = [5 + 7 + 68 + -(-(N - 160 - 700 - 68 * 7) // 64), -(-N // 64)]
        for seen in r.epochs_seen(model, counts):
            np.testing.assert_array_equal(np.sort(seen), np.arange(N))
        assert r.num_iterations(model) == r.num_decays(model) == sum(counts)


def test_validation_does_not_disturb_the_count():
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(N), batch_size=32, seed=3)

    history = fit(
        model,
        batches,
        [lb.callbacks.BatchSizeScheduler(batches, by_epoch)],
        validation_data=r.ids(50),
        verbose=0,
    )

    assert len(history.history["val_loss"]) == 4
    assert history.history["examples"] == [N, 2 * N, 3 * N, 4 * N]
    assert history.history["updates"] == [63, 79, 205, 237]
    assert history.history["batch_size"] == BY_EPOCH
    assert r.num_decays(model) == 237


@pytest.mark.parametrize("ours_first", [True, False])
def test_early_stopping_restores_the_best_weights(ours_first):
    """The loss of y = 1 rises as weight decay shrinks w, so patience 1 stops after the second epoch."""
    model = r.recording_model(
        loss=lambda y, prediction: -0.0 * prediction + keras.ops.stop_gradient((prediction - 1.0) ** 2)
    )
    ones = np.ones((N, 1), np.float32)
    batches = lb.data.Batches(ones, ones, batch_size=32)
    stopping = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    callbacks = [lb.callbacks.BatchSizeScheduler(batches, by_epoch), stopping]

    history = fit(model, batches, callbacks if ours_first else callbacks[::-1])

    assert len(history.history["loss"]) == 2
    assert r.num_iterations(model) == 63 + 16
    assert r.num_decays(model) == 63


class StopAt(keras.callbacks.Callback):
    def __init__(self, update):
        super().__init__()
        self.update, self.count = update, 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        if self.count == self.update:
            self.model.stop_training = True


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("update", [10, 63], ids=["in mid epoch", "at the last batch"])
def test_a_users_stop_survives(update, ours_first):
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(N), batch_size=32)
    callbacks = [lb.callbacks.BatchSizeScheduler(batches, by_epoch), StopAt(update)]

    history = fit(model, batches, callbacks if ours_first else callbacks[::-1])

    assert r.num_iterations(model) == r.num_decays(model) == update
    assert history.history["updates"] == [update]
    assert model.stop_training is True


@pytest.mark.parametrize("ours_first", [True, False])
def test_terminate_on_nan_survives(ours_first):
    model = r.recording_model(loss=lambda y, prediction: keras.ops.mean(prediction) * np.nan)
    batches = lb.data.Batches(*r.ids(N), batch_size=N)  # the NaN comes with the last batch of the epoch
    callbacks = [
        lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(N)),
        keras.callbacks.TerminateOnNaN(),
    ]

    fit(model, batches, callbacks if ours_first else callbacks[::-1])

    assert r.num_iterations(model) == 1


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_the_progress_bar_ends_on_the_number_of_updates(steps_per_execution):
    model = r.recording_model(steps_per_execution=steps_per_execution)
    batches = lb.data.Batches(*r.ids(N), batch_size=32)
    printed = io.StringIO()

    with redirect_stdout(printed):
        fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches, by_epoch)], verbose=1)

    plain = re.sub(r"\x1b\[[0-9;]*m|\x08", "", printed.getvalue())
    last = [re.split(r"[\r\n]+", epoch.strip())[-1] for epoch in re.split(r"Epoch \d/4", plain)[1:]]
    assert [line.split()[0] for line in last] == ["63/63", "16/16", "126/126", "32/32"]
    assert "batch_size: 64" in last[-1] and "updates: 237" in last[-1]


def test_two_traces_serve_all_sizes():
    traces = 0

    class Counting(keras.Sequential):
        def train_step(self, data):
            nonlocal traces
            traces += 1
            return super().train_step(data)

    model = Counting([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batches = lb.data.Batches(*r.ids(N), batch_size=10)
    ten_sizes = lb.schedules.staircase(10, factor=1.7, milestones=[0.5 * i for i in range(1, 10)])

    fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches, ten_sizes)], epochs=5)

    assert traces <= 2


def test_the_order_depends_on_seed_and_epoch_alone():
    def run(initial_epoch, noise):
        tf.random.set_seed(noise)
        model = r.recording_model()
        batches = lb.data.Batches(*r.ids(50), batch_size=9, seed=4)
        callback = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(9))
        fit(model, batches, [callback], epochs=3, initial_epoch=initial_epoch)
        return r.epochs_seen(model, [6] * (3 - initial_epoch))

    np.testing.assert_array_equal(run(0, noise=1)[1:], run(1, noise=2))


def test_a_resumed_fit_ends_bit_identical_to_an_uninterrupted_one():
    """Stopped in the middle of epoch 1, with the rate following the batch; Adam, so slots count."""
    x = np.random.default_rng(0).normal(size=(203, 5)).astype("float32")
    y = x @ np.arange(5.0, dtype="float32")[:, None]
    schedule = lb.schedules.staircase(10, factor=2, milestones=[0.7, 1.4])

    def parts():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        batches = lb.data.Batches(x, y, batch_size=10, seed=5)
        return (
            model,
            batches,
            lb.callbacks.BatchSizeScheduler(batches, schedule, learning_rate="linear", check_rule=False),
        )

    whole, batches, callback = parts()
    fit(whole, batches, [callback], epochs=3)

    first, batches, callback = parts()
    saved = {}

    class Save(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations.numpy()) == 21:
                saved["state"] = callback.get_state()
                saved["weights"] = self.model.get_weights()
                saved["optimizer"] = [v.numpy() for v in self.model.optimizer.variables]
                self.model.stop_training = True

    fit(first, batches, [callback, Save()], epochs=3)
    assert saved["state"]["epoch"] == 1 and 0 < saved["state"]["examples"] < 203

    second, batches, callback = parts()
    second.optimizer.build(second.trainable_variables)
    second.set_weights(saved["weights"])
    for variable, value in zip(second.optimizer.variables, saved["optimizer"], strict=True):
        variable.assign(value)
    callback.set_state(saved["state"])
    fit(second, batches, [callback], epochs=3, initial_epoch=1)

    for expected, got in zip(whole.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert float(second.optimizer.learning_rate) == float(whole.optimizer.learning_rate)


@pytest.mark.parametrize("rule, expected", [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0), ("merrill", 4.0)])
def test_the_rate_follows_the_batch_and_is_put_back(rule, expected):
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(100), batch_size=10)
    schedule = lb.schedules.staircase(10, factor=4, milestones=[1])
    callback = lb.callbacks.BatchSizeScheduler(batches, schedule, learning_rate=rule, check_rule=False)

    for _ in range(2):  # twice, since a fit that left the rate scaled would compound
        history = fit(model, batches, [callback], epochs=2)

        np.testing.assert_allclose(history.history["learning_rate"], [r.RATE, r.RATE * expected], rtol=1e-6)
    assert float(model.optimizer.learning_rate) == r.RATE


@pytest.mark.parametrize("rule, expected", [("smith", [1, 1, 0.25]), ("seesaw", [1, 0.5, 0.125])])
def test_the_rate_takes_what_the_maximum_keeps_from_the_batch(rule, expected):
    """The schedule asks for 10, 40 and 160; the batch takes 40, and the rate the rest."""
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(100), batch_size=10)
    schedule = lb.schedules.staircase(10, factor=4, milestones=[1, 2])
    callback = lb.callbacks.BatchSizeScheduler(
        batches, schedule, maximum=40, learning_rate=rule, check_rule=False
    )
    history = fit(model, batches, [callback], epochs=3).history
    assert history["batch_size"] == [10, 40, 40]
    np.testing.assert_allclose(history["learning_rate"], r.RATE * np.array(expected), rtol=1e-6)


def test_noise_scale_is_that_of_smith_and_le():
    model = r.recording_model(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    batches = lb.data.Batches(*r.ids(1000), batch_size=100)

    history = fit(
        model, batches, [lb.callbacks.BatchSizeScheduler(batches, lambda p: 100 if p < 1 else 1000)], epochs=2
    )

    np.testing.assert_allclose(history.history["noise_scale"], [0.1 / 0.1 * 9, 0.0], rtol=1e-6)


def test_a_keras_schedule_in_the_optimizer_is_multiplied():
    """Rate(update) x batch / first batch, where the Keras schedule halves every 5 updates."""
    decay = keras.optimizers.schedules.ExponentialDecay(0.5, 5, 0.5, staircase=True)
    model = r.recording_model(optimizer=keras.optimizers.SGD(decay, weight_decay=r.DECAY))
    batches = lb.data.Batches(*r.ids(100), batch_size=20)
    callback = lb.callbacks.BatchSizeScheduler(batches, lambda p: 20 if p < 1 else 40, learning_rate="linear")

    for repeat in range(2):
        fit(model, batches, [callback], epochs=2)

        rates = [0.5 * 0.5 ** (i // 5) * (1 if i % 8 < 5 else 2) for i in range(8 * (repeat + 1))]
        kernel = np.prod([1 - rate * r.DECAY for rate in rates])
        np.testing.assert_allclose(model.layers[1].kernel.numpy(), [[kernel]], rtol=1e-5)


def test_sizes_are_capped_and_rounded_to_what_was_asked():
    batches = lb.data.Batches(*r.ids(N), batch_size=30)
    growing = lb.schedules.exponential(30, factor=2)

    def sizes(**options):
        callback = lb.callbacks.BatchSizeScheduler(batches, growing, **options)
        return [callback.size_at(p) for p in (0, 0.5, 1, 2.3, 6)]

    assert sizes() == [30, 42, 60, 148, 1920]
    assert sizes(maximum=100, multiple_of=8) == [24, 40, 56, 96, 96]
    assert sizes(sizes="ladder") == [30, 30, 60, 120, 1920]


def test_callbacks_copy_and_round_trip():
    batches = lb.data.Batches(*r.ids(N), batch_size=32)
    schedule = lb.schedules.staircase(32, factor=2, milestones=[1])
    callback = lb.callbacks.BatchSizeScheduler(
        batches, schedule, maximum=50, sizes="ladder", learning_rate="sqrt", check_rule=False
    )

    twin = copy.deepcopy(callback)
    assert twin.batches is batches and twin is not callback
    again = lb.callbacks.BatchSizeScheduler.from_config(callback.get_config(), batches)
    assert again.get_config() == callback.get_config()
    for steering in (twin, again):
        model = r.recording_model()
        fit(model, batches, [steering], epochs=2)
        assert r.num_iterations(model) == 63 + -(-N // 32)  # the ladder has no rung from 32 to 50


def test_values_reach_the_other_callbacks(tmp_path):
    model = r.recording_model()
    batches = lb.data.Batches(*r.ids(100), batch_size=10)
    log = tmp_path / "log.csv"
    callbacks = [
        lb.callbacks.BatchSizeScheduler(batches, lb.schedules.staircase(10, factor=2, milestones=[1])),
        keras.callbacks.CSVLogger(log),
        keras.callbacks.EarlyStopping("noise_scale", mode="min", patience=0),
    ]

    fit(model, batches, callbacks, epochs=3)

    header, *rows = log.read_text().splitlines()
    assert {"batch_size", "learning_rate", "noise_scale", "updates", "examples"} <= set(header.split(","))
    assert len(rows) == 3  # noise fell in epoch 1 and not in epoch 2


def test_a_size_that_is_set_after_the_last_batch_holds_for_the_next_epoch():
    batches = lb.data.Batches(*r.ids(60), batch_size=20, seed=3)
    model = r.recording_model()

    def double(batch, logs=None):
        if batch == 2:
            batches.batch_size = 30

    by_hand = keras.callbacks.LambdaCallback(on_train_batch_end=double)
    fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches), by_hand], epochs=2)
    assert r.sizes_seen(model) == [20, 20, 20, 30, 30]


@pytest.mark.parametrize("scheduled", [True, slow(False)])
def test_two_replicas_share_each_planned_batch(scheduled):
    """With steps_per_execution=4 stock Keras itself fails under two CPU replicas, on any data set."""
    n, sizes = 2002, [32, 128, 16, 64]
    with mirrored().scope():
        model = r.recording_model()
    batches = lb.data.Batches(*r.ids(n), batch_size=32, seed=3)
    callbacks = [lb.callbacks.BatchSizeScheduler(batches, by_epoch)] if scheduled else []

    fit(model, batches, callbacks)

    updates = [-(-n // size) for size in (sizes if scheduled else [32] * 4)]
    orders = []
    for seen in r.epochs_seen(model, [2 * count for count in updates]):
        np.testing.assert_array_equal(np.sort(seen), np.arange(n))
        orders.append(tuple(seen))
    assert len(set(orders)) == 4
    assert r.num_iterations(model) == r.num_decays(model) == sum(updates)


def test_ghost_batches_are_of_one_size_whatever_the_batch_and_the_replicas():
    """Batches of 10 and 40 on one device, and 20 and 40 on two: batch normalization sees 10 examples at a time."""
    for scope, first in ((contextlib.nullcontext(), 10), (mirrored().scope(), 20)):
        with scope:
            model = keras.Sequential([keras.Input((1,)), r.Recorder(), keras.layers.BatchNormalization()])
            model.add(keras.layers.Dense(1))
            model.compile(keras.optimizers.SGD(0.01), r.no_loss)
        batches = lb.data.Batches(*r.ids(80), batch_size=first, seed=3)
        schedule = lb.schedules.join([lb.schedules.constant(first), lb.schedules.constant(40)], [1])
        ghosts = lb.callbacks.BatchSizeScheduler(batches, schedule, ghost_batch_size=10)

        fit(model, batches, [ghosts], epochs=2)

        assert r.sizes_seen(model) == 16 * [10]
        assert r.num_iterations(model) == 80 // first + 2
