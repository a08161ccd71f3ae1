"""RunSummary in `fit`: what event files hold is what training did, to the number."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from event_files import events

import tf_lbgap as lb

N = 60


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 4)).astype("float32"), rng.integers(0, 2, N)


def model(optimizer=None, **options):
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(optimizer or keras.optimizers.SGD(0.125), loss, metrics=["accuracy"], **options)
    return net


def fit(net, *callbacks, epochs=2, **options):
    x, y = data()
    return net.fit(
        x, y, batch_size=10, epochs=epochs, verbose=0, callbacks=list(callbacks), **options
    ).history


def curve(found, tag):
    """Return {step: float} of a scalar."""
    return {step: float(array) for step, array in found.get(tag, {}).items()}


def test_arrays_tell_all_by_their_length_and_fits_batch_size(tmp_path):
    """60 examples in batches of 25 make updates of 25, 25 and 10; g = 0.125 / (1 - 0.5) (60 / 25 - 1) = 0.35."""
    net = model(keras.optimizers.SGD(0.125, momentum=0.5))
    x, y = data()
    logs = net.fit(
        x, y, batch_size=25, epochs=2, verbose=0, validation_data=(x[:7], y[:7]),
        callbacks=[lb.callbacks.RunSummary(tmp_path)],
    ).history  # fmt: skip
    found = events(tmp_path)
    assert curve(found, "schedule/batch_size") == {1: 25, 3: 25, 6: 25}
    assert curve(found, "schedule/learning_rate") == {1: 0.125, 3: 0.125, 6: 0.125}
    assert curve(found, "schedule/noise_scale") == pytest.approx(dict.fromkeys((1, 3, 6), 0.35))
    assert curve(found, "progress/examples") == {0: 0, 1: 25, 3: 60, 6: 120}
    assert curve(found, "progress/epochs") == pytest.approx({0: 0, 1: 25 / 60, 3: 1, 6: 2})
    for tag, key in (
        ("train_loss", "loss"),
        ("test_loss", "val_loss"),
        ("train_accuracy", "accuracy"),
        ("test_accuracy", "val_accuracy"),
    ):
        expected = dict(zip((3, 6), map(np.float32, logs[key]), strict=True))
        assert curve(found, f"generalization/{tag}") == expected
        assert curve(found, f"lbgap/{tag}") == expected  # for hosted TensorBoards


@pytest.mark.parametrize("order", [1, -1], ids=["before the scheduler", "behind it"])
@pytest.mark.parametrize(
    "rate", [None, 0.125], ids=["scaled by the scheduler", "written by LearningRateScheduler"]
)
def test_batch_size_and_rate_are_those_of_the_update_whatever_the_order_of_callbacks(tmp_path, order, rate):
    """10, 10, 10, 10, 20 from progress 4/6 on: an epoch of 5 updates, then 3; the rate doubles with the batch."""
    batches = lb.data.Batches(*data(), batch_size=10)
    scheduler = lb.callbacks.BatchSizeScheduler(
        batches, lambda p: 10 if p < 0.6 else 20, learning_rate="linear"
    )
    summary = lb.callbacks.RunSummary(tmp_path)
    others = [lb.callbacks.LearningRateScheduler(batches, lb.schedules.constant(rate))] if rate else []
    net = model()

    net.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[summary, scheduler, *others][::order])

    found = events(tmp_path)
    # Update 4 is the last with 10 examples, 5 the first with 20.
    assert curve(found, "schedule/batch_size") == {1: 10, 4: 10, 5: 20, 8: 20}
    assert curve(found, "schedule/learning_rate") == {1: 0.125, 4: 0.125, 5: 0.25, 8: 0.25}
    assert curve(found, "schedule/noise_scale") == {1: 0.625, 4: 0.625, 5: 0.5, 8: 0.5}
    assert curve(found, "progress/examples") == {0: 0, 1: 10, 4: 40, 5: 60, 8: 120}
    assert int(net.optimizer.iterations) == 8


def test_a_size_set_by_hand_is_seen_from_its_first_update_on(tmp_path):
    batches = lb.data.Batches(*data(), batch_size=10)

    def grow(batch, logs):
        if batch == 1:  # after two updates
            batches.batch_size = 40

    by_hand = keras.callbacks.LambdaCallback(on_train_batch_end=grow)
    scheduler = lb.callbacks.BatchSizeScheduler(batches)
    for order in (1, -1):
        callbacks = [lb.callbacks.RunSummary(tmp_path / str(order)), scheduler, by_hand][::order]
        batches.batch_size = 10
        model().fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=callbacks)
        found = events(tmp_path / str(order))
        assert curve(found, "schedule/batch_size") == {1: 10, 2: 10, 3: 40}
        assert curve(found, "progress/examples") == {0: 0, 1: 10, 2: 20, 3: 60}


def test_a_rate_that_somebody_sets_between_updates_is_seen_and_small_changes_wait(tmp_path):
    """0.125 until update 3; then 0.25, and from 0.25 by less than 1 % up to update 9, which an epoch's end tells."""
    net = model()

    def change(batch, logs):
        done = int(net.optimizer.iterations)
        if done >= 3:
            net.optimizer.learning_rate = 0.25 + 0.0001 * (done - 3)

    callbacks = [
        keras.callbacks.LambdaCallback(on_train_batch_begin=change),
        lb.callbacks.RunSummary(tmp_path),
    ]
    fit(net, *callbacks, epochs=1, validation_split=0.0)
    fit(net, *callbacks, epochs=2, initial_epoch=1)
    rates = curve(events(tmp_path), "schedule/learning_rate")
    # A new fit writes its first update.
    assert rates == pytest.approx({1: 0.125, 3: 0.125, 4: 0.25, 6: 0.2502, 7: 0.2503, 12: 0.2508})


@pytest.mark.parametrize("scaled", [False, True])
def test_a_keras_schedule_is_evaluated_for_the_update_that_was_made(tmp_path, scaled):
    """Keras makes update t at schedule(t - 1). Looked at when a point is written: here each 2 updates."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    batches = lb.data.Batches(*data(), batch_size=10)
    scheduler = lb.callbacks.BatchSizeScheduler(
        batches, lambda p: 10, learning_rate="linear" if scaled else "none"
    )
    summary = lb.callbacks.RunSummary(tmp_path, batches, every=2)
    model(keras.optimizers.SGD(schedule)).fit(
        batches, epochs=1, shuffle=False, verbose=0, callbacks=[scheduler, summary]
    )
    rates = curve(events(tmp_path), "schedule/learning_rate")
    assert {step: rates[step] for step in (1, 3, 5, 6)} == {1: 0.5, 3: 0.125, 5: 0.03125, 6: 0.015625}


def test_points_come_at_least_every_so_many_updates(tmp_path):
    fit(model(), lb.callbacks.RunSummary(tmp_path, every=4), epochs=3)
    assert list(events(tmp_path)["schedule/learning_rate"]) == [1, 5, 6, 10, 12, 16, 18]


@pytest.mark.parametrize("known", [True, False])
def test_a_data_set_of_keras_tells_no_sizes_and_steps_only_if_it_knows_them(tmp_path, known):
    dataset = tf.data.Dataset.from_tensor_slices(data()).batch(10)
    dataset = dataset if known else dataset.filter(lambda x, y: tf.reduce_all(x < np.inf))
    summary = lb.callbacks.RunSummary(tmp_path, every=2)
    model().fit(dataset, epochs=2, verbose=0, callbacks=[summary])
    found = events(tmp_path)
    assert not {"schedule/batch_size", "schedule/noise_scale", "progress/examples"} & found.keys()
    epochs = curve(found, "progress/epochs")
    if known:
        assert epochs == pytest.approx({0: 0, 1: 1 / 6, 3: 0.5, 5: 5 / 6, 6: 1, 8: 4 / 3, 10: 5 / 3, 12: 2})
    else:  # known at its end only
        assert list(epochs.values()) == [0, 1, 2]


@pytest.mark.parametrize("last_batch", ["partial", "merge", "drop"])
def test_a_stream_alone_is_counted_as_it_is_cut(tmp_path, last_batch):
    batches = lb.data.Batches(*data(), batch_size=25, last_batch=last_batch)
    model().fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[lb.callbacks.RunSummary(tmp_path)])
    found = events(tmp_path)
    last = 3 if last_batch == "partial" else 2
    seen = 50 if last_batch == "drop" else 60
    assert curve(found, "progress/examples") == {0: 0, 1: 25, last: seen}
    assert curve(found, "schedule/batch_size") == {1: 25, last: 25}


def test_executions_of_several_steps_end_where_the_epoch_does(tmp_path):
    """4 and 2 updates an epoch."""
    fit(model(steps_per_execution=4), lb.callbacks.RunSummary(tmp_path, every=1), epochs=2)
    assert curve(events(tmp_path), "progress/examples") == {0: 0, 4: 40, 6: 60, 10: 100, 12: 120}


def test_training_is_bit_identical_and_other_callbacks_share_the_file(tmp_path):
    def trained(*callbacks):
        keras.utils.set_random_seed(0)
        net = model("adam")
        logs = fit(net, *callbacks)
        return [*net.get_weights(), *(v.numpy() for v in net.optimizer.variables)], logs

    alone, logs = trained()
    monitor = lb.callbacks.SharpnessMonitor(data(), measures=lambda subject: 1.0, log_dir=tmp_path)
    watched, watched_logs = trained(lb.callbacks.RunSummary(tmp_path), monitor)
    for got, wanted in zip(watched, alone, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert all(watched_logs[key] == values for key, values in logs.items())
    assert len(list(tmp_path.glob("*tfevents*"))) == 1


def test_nothing_is_lost_when_fit_is_interrupted(tmp_path):
    net = model()

    def interrupt(batch, logs):
        if int(net.optimizer.iterations) == 9:
            raise KeyboardInterrupt

    by_user = keras.callbacks.LambdaCallback(on_train_batch_begin=interrupt)
    summary = lb.callbacks.RunSummary(tmp_path, every=1)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(net, summary, by_user)
    assert list(events(tmp_path)["schedule/learning_rate"]) == list(range(1, 10))
    del caught

    fit(net, summary, epochs=1)  # and again
    assert max(events(tmp_path)["schedule/learning_rate"]) == 15


def test_what_is_asked_for_wrongly_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="every=0 should be a whole number of at least 1"):
        lb.callbacks.RunSummary(tmp_path, every=0)
    with pytest.raises(ValueError, match=r"works with a tf_lbgap.data.Batches, not with list"):
        lb.callbacks.RunSummary(tmp_path, [1, 2])
    twin = copy.deepcopy(lb.callbacks.RunSummary(tmp_path, every=3))
    assert (twin.log_dir, twin.every) == (tmp_path, 3)
