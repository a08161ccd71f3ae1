"""What else happens around a `fit`: interruptions, other callbacks, other readers of the stream.

Whatever it is, each epoch holds every example once, in its order, one update per batch, each at the rate
that was asked for; weight decay tells (see `recording`).
"""

import contextlib

import keras
import numpy as np
import pytest
import recording as r
from slow import slow, slow_but

import tf_lbgap as lb

N = 103


def size(progress):
    """Cut at 0, 10, .., 60, 100, 103 in epoch 0, and at 40, 80, 103 later: 8 and 3 batches."""
    return 10 if progress < 0.55 else 40


UPDATES, RATES = [8, 3, 3], [1.0] * 6 + [4.0] * 2 + [4.0] * 6


def scheduler(batches, **options):
    return lb.callbacks.BatchSizeScheduler(batches, size, **options)


def fit(model, batches, callbacks=(), epochs=3, **options):
    return model.fit(
        batches, epochs=epochs, callbacks=list(callbacks), **{"verbose": 0, "shuffle": False, **options}
    )


def assert_exact(model, batches, updates=UPDATES):
    for epoch, seen in enumerate(r.epochs_seen(model, updates)):
        np.testing.assert_array_equal(seen, batches.order(epoch))
    assert r.num_iterations(model) == sum(updates)


def assert_rates(model, factors):
    """The kernel is the product of all weight decays."""
    expected = np.prod([1 - factor * r.RATE * r.DECAY for factor in factors])
    np.testing.assert_allclose(model.layers[1].kernel.numpy(), [[expected]], rtol=1e-5)


def stream(**options):
    return lb.data.Batches(*r.ids(N), **{"batch_size": 10, "seed": 3, **options})


class Interrupt(keras.callbacks.Callback):
    """Control-C in the update with that number."""

    def __init__(self, update, when):
        super().__init__()
        self.update, self.when, self.count = update, when, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.count += 1
        if self.when == "begin" and self.count == self.update:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        if self.when == "end" and self.count == self.update:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", ["same callback", "new callback", "no callback", "live", "rate"])
@pytest.mark.parametrize("when, ours_first", [("begin", True), slow("end", False)])
def test_a_fit_after_an_interrupted_one_begins_with_the_optimizers_own_rate(when, ours_first, after):
    model = r.recording_model()
    batches = stream()
    callback = scheduler(batches, learning_rate="linear")
    callbacks = [callback, Interrupt(7, when)]
    with contextlib.suppress(KeyboardInterrupt):
        fit(model, batches, callbacks if ours_first else callbacks[::-1])
    done = 6 if when == "begin" else 7
    assert r.num_iterations(model) == done
    model.layers[0].seen.clear()
    model.layers[1].kernel.assign([[1.0]])
    model.optimizer.iterations.assign(0)

    if after == "no callback":
        batches.batch_size = 40
        fit(model, batches, epochs=2)
        assert_exact(model, batches, [3, 3])
        assert_rates(model, [1.0] * 6)
    elif after == "live":
        batches.batch_size = 40
        fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches, learning_rate="linear")], epochs=2)
        assert_exact(model, batches, [3, 3])
        assert_rates(model, [1.0] * 6)
    elif after == "rate":
        batches.batch_size = 40
        fit(
            model,
            batches,
            [lb.callbacks.LearningRateScheduler(batches, lambda p: r.RATE * (1 + p))],
            epochs=2,
        )
        assert_exact(model, batches, [3, 3])
        assert_rates(model, [1 + epoch + at / N for epoch in (0, 1) for at in (0, 40, 80)])
    else:
        again = callback if after == "same callback" else scheduler(batches, learning_rate="linear")
        fit(model, batches, [again])
        assert_exact(model, batches)
        assert_rates(model, RATES)
    if after != "rate":
        assert float(model.optimizer.learning_rate.numpy()) == r.RATE


def test_a_rate_that_the_user_sets_after_an_interruption_is_kept():
    model = r.recording_model()
    batches = stream()
    callback = scheduler(batches, learning_rate="linear")
    with contextlib.suppress(KeyboardInterrupt):
        fit(model, batches, [callback, Interrupt(7, "begin")])

    model.optimizer.learning_rate = 0.25
    fit(model, batches, [callback])

    assert float(model.optimizer.learning_rate.numpy()) == 0.25


def test_an_interrupted_keras_schedule():
    model = r.recording_model(
        optimizer=keras.optimizers.SGD(
            keras.optimizers.schedules.PiecewiseConstantDecay([10**6], [r.RATE, 0.0]), weight_decay=r.DECAY
        )
    )
    batches = stream()
    with contextlib.suppress(KeyboardInterrupt):
        fit(model, batches, [scheduler(batches, learning_rate="linear"), Interrupt(7, "begin")])
    model.layers[1].kernel.assign([[1.0]])

    history = fit(model, batches, [scheduler(batches, learning_rate="linear")])

    assert_rates(model, RATES)
    np.testing.assert_allclose(history.history["learning_rate"], [4 * r.RATE] * 3)


@pytest.mark.parametrize("schedule", [size, None], ids=["planned", "live"])
def test_a_callback_that_is_alive_but_not_given_to_fit(schedule):
    """Keras counts the steps before any hook runs, so the stream has to know who takes part."""
    model = r.recording_model()
    batches = stream()
    callback = lb.callbacks.BatchSizeScheduler(batches, schedule, learning_rate="linear")

    fit(model, batches, epochs=2)
    assert_exact(model, batches, [11, 11])
    assert_rates(model, [1.0] * 22)

    fit(model, batches, [callback], epochs=2)
    batches.batch_size = 40
    model.layers[0].seen.clear()
    model.optimizer.iterations.assign(0)
    model.layers[1].kernel.assign([[1.0]])
    fit(model, batches, epochs=2)
    assert_exact(model, batches, [3, 3])
    assert_rates(model, [1.0] * 6)


def test_a_new_model_with_the_same_stream_and_callback():
    batches = stream()
    callback = scheduler(batches, learning_rate="linear")

    for _ in range(2):
        model = r.recording_model()
        fit(model, batches, [callback])

        assert_exact(model, batches)
        assert_rates(model, RATES)


class StopOrBreak(keras.callbacks.Callback):
    """Ends a fit in its update with that number, by asking or by force."""

    def __init__(self, update, force):
        super().__init__()
        self.update, self.force, self.count = update, force, 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        if self.count == self.update:
            if self.force:
                raise KeyboardInterrupt
            self.model.stop_training = True


@pytest.mark.parametrize(
    "last_batch",
    ["partial", slow("merge"), slow("drop")],
)
def test_fits_of_all_kinds_on_one_stream_and_one_model(last_batch):
    """An iterator outlives its epoch, and its fit: none may begin where another one stopped."""
    rng = np.random.default_rng(1)
    model = r.recording_model()
    batches = stream(last_batch=last_batch)
    for _ in range(25):
        kind = rng.choice(["alone", "planned", "live"])
        batches.batch_size = int(rng.choice([10, 25, 51, N]))
        schedule = {"planned": [size], "live": [None]}.get(kind, [])
        callbacks = [lb.callbacks.BatchSizeScheduler(batches, each) for each in schedule]
        callbacks.append(StopOrBreak(int(rng.integers(1, 30)), force=rng.random() < 0.5))
        first = int(rng.integers(0, 3))
        model.layers[0].seen.clear()
        before = r.num_iterations(model)

        with contextlib.suppress(KeyboardInterrupt):
            fit(model, batches, callbacks, epochs=first + 2, initial_epoch=first)
        if rng.random() < 0.3:
            next(iter(batches))
        if rng.random() < 0.3:
            model.evaluate(batches, verbose=0)

        sizes = r.sizes_seen(model)
        assert r.num_iterations(model) - before == len(sizes) == r.num_decays(model) - before
        ids, epoch = np.concatenate(model.layers[0].seen), first
        while len(ids):
            length = min(len(ids), N)
            if last_batch == "drop":
                length = int(np.argmin(np.append(ids[:N] == batches.order(epoch)[: len(ids)], False)))
                assert length > N / 2 or length == len(ids)
            np.testing.assert_array_equal(ids[:length], batches.order(epoch)[:length])
            ids, epoch = ids[length:], epoch + 1
        assert epoch <= first + 2


# Other readers.


class Read(keras.callbacks.Callback):
    """Reads the stream in a hook, by evaluate and by hand."""

    def __init__(self, batches, hook, how):
        super().__init__()
        self.batches, self.how, self.read = batches, how, []
        setattr(self, hook, self.look)

    def look(self, index, logs=None):
        if self.how == "evaluate":
            self.model.evaluate(self.batches, verbose=0)
            self.read.append(np.arange(N))
        elif self.how == "all by hand":
            self.read.append(np.concatenate([x.numpy()[:, 0] for x, _ in self.batches]))
        else:
            next(iter(self.batches if self.how == "one by hand" else self.batches.take(1)))


@pytest.mark.parametrize("schedule", [size, None], ids=["planned", "live"])
@pytest.mark.parametrize(
    "how",
    slow_but(["evaluate", "one by hand"], ["evaluate", "all by hand", "one by hand", "through take"]),
)
@pytest.mark.parametrize(
    "hook, ours_first",
    [
        slow("on_epoch_begin", True),
        ("on_train_batch_begin", True),
        slow("on_train_batch_end", False),
    ],
)
def test_reading_the_stream_while_it_feeds_a_fit(hook, how, schedule, ours_first):
    model = r.recording_model()
    batches = stream(batch_size=40)
    read = Read(batches, hook, how)
    callbacks = [lb.callbacks.BatchSizeScheduler(batches, schedule, learning_rate="linear"), read]

    history = fit(model, batches, callbacks if ours_first else callbacks[::-1], epochs=2)

    assert_exact(model, batches, UPDATES[:2] if schedule else [3, 3])
    assert_rates(model, RATES[:11] if schedule else [1.0] * 6)
    assert history.history["examples"] == [N, 2 * N]
    for ids in read.read:
        np.testing.assert_array_equal(np.sort(ids), np.arange(N))


@pytest.mark.parametrize("schedule", [size, *(slow(other) for other in (None, "alone"))])
def test_validation_on_the_stream_itself_and_on_another(schedule):
    """The batch shrinks between epochs, and Keras keeps the steps that it counted in the first evaluation."""

    class Count(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="count")
            self.total = self.add_variable((), "zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign_add(keras.ops.cast(keras.ops.shape(y_true)[0], "float32"))

        def result(self):
            return self.total

    for own in (True, False):
        model = r.recording_model(metrics=[Count()])
        batches, other = stream(batch_size=40, last_batch="partial"), stream(batch_size=7, last_batch="drop")
        callbacks = [] if schedule == "alone" else [lb.callbacks.BatchSizeScheduler(batches, schedule)]

        history = fit(model, batches, callbacks, validation_data=batches if own else other)

        assert history.history["val_count"] == history.history["count"] == [N] * 3
        assert r.num_iterations(model) == r.num_decays(model) == (14 if schedule == size else 9)


# Sizes set by hand.


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize(
    "hook, steps_per_execution",
    [
        slow("on_epoch_begin", 1),
        ("on_train_batch_begin", 1),
        ("on_train_batch_end", 1),
        slow("on_train_batch_end", 4),
        slow("on_epoch_end", 1),
    ],
)
@pytest.mark.parametrize("last_batch", ["partial", "drop"])
def test_a_size_may_be_set_in_any_hook(last_batch, hook, ours_first, steps_per_execution):
    """Sizes, rates and logs agree, and no update goes without data, also where the new size ends the epoch."""
    model = r.recording_model(steps_per_execution=steps_per_execution)
    batches = stream(last_batch=last_batch)
    wanted = iter([10, 35, 7, 60, 3, 3, 50, 20, 90, 103, 1, 40, 5, 30] * 30)
    ours = lb.callbacks.BatchSizeScheduler(batches, learning_rate="linear")
    by_hand, logged = keras.callbacks.Callback(), []
    setattr(by_hand, hook, lambda index, logs=None: setattr(batches, "batch_size", next(wanted)))
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: logged.append(logs["batch_size"])
    )

    fit(model, batches, [*([ours, by_hand] if ours_first else [by_hand, ours]), note], epochs=3)

    sizes = r.sizes_seen(model)
    assert r.num_iterations(model) == len(sizes)
    ids, epoch = np.concatenate(model.layers[0].seen), 0
    while len(ids):
        order = batches.order(epoch)
        length = N
        if last_batch == "drop":  # as far as the order is followed
            agree = np.append(ids[:N] == order[: len(ids)], False)
            length = int(np.argmin(agree))
        np.testing.assert_array_equal(ids[:length], order[:length])
        ids, epoch = ids[length:], epoch + 1
    assert epoch == 3
    if steps_per_execution == 1 and last_batch == "drop":
        assert logged == sizes
        assert_rates(model, [each / 10 for each in sizes])


def test_a_size_that_is_set_where_the_epoch_would_end_is_asked_once_more():
    """After 60 of 103 the rest is smaller than a batch, and dropped, unless the batch becomes smaller, too."""
    batches = stream(batch_size=60, last_batch="drop")
    for smaller, expected in ((60, [60]), (20, [60, 20, 20]), (43, [60, 43])):
        model = r.recording_model()
        batches.batch_size = 60
        by_hand = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, new=smaller: setattr(batches, "batch_size", new)
        )
        fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches), by_hand], epochs=1)
        assert r.sizes_seen(model) == expected
        assert r.num_iterations(model) == r.num_decays(model) == len(expected)
        assert batches.position == (1, 0)


# Other callbacks.


def test_reduce_on_plateau_and_keras_scheduler_act_on_the_own_rate():
    model = r.recording_model()
    batches = stream()
    callbacks = [
        scheduler(batches, learning_rate="linear"),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: [r.RATE, rate / 2, 0.1][epoch]),
    ]

    for order in (callbacks, callbacks[::-1]):
        model.layers[1].kernel.assign([[1.0]])
        fit(model, batches, order)
        assert_rates(model, [1.0] * 6 + [4.0] * 2 + [2.0] * 3 + [0.8] * 3)
        assert float(model.optimizer.learning_rate.numpy()) == np.float32(0.1)
        model.optimizer.learning_rate = r.RATE

    model.layers[1].kernel.assign([[1.0]])
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1.0)
    fit(model, batches, [callbacks[0], plateau])
    assert_rates(model, [1.0] * 6 + [4.0] * 2 + [4.0] * 3 + [2.0] * 3)


@pytest.mark.parametrize("ours_first", [True, False])
def test_backup_and_restore_goes_on_with_the_right_sizes_and_rates(tmp_path, ours_first):
    """A new process knows nothing of the callback that was interrupted: everything here is made anew."""

    def run(*extra):
        model = r.recording_model()
        batches = stream()
        backup = keras.callbacks.BackupAndRestore(tmp_path)
        callbacks = [scheduler(batches, learning_rate="linear"), backup]
        with contextlib.suppress(KeyboardInterrupt):
            fit(model, batches, [*(callbacks if ours_first else callbacks[::-1]), *extra])
        return model, batches

    run(Interrupt(13, "begin"))  # in epoch 2
    model, batches = run()

    assert r.num_iterations(model) == 14
    np.testing.assert_array_equal(r.epochs_seen(model, [3])[0], batches.order(2))
    assert_rates(model, RATES)
    assert float(model.optimizer.learning_rate.numpy()) == r.RATE


def test_a_checkpoint_in_mid_epoch_holds_the_own_rate(tmp_path):
    model = r.recording_model()
    batches = stream()
    rates = []

    class Load(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            path = tmp_path / f"{len(rates)}.weights.h5"
            self.model.save_weights(path)
            other = r.recording_model()
            other.optimizer.build(other.trainable_variables)
            other.load_weights(path)
            rates.append(float(other.optimizer.learning_rate.numpy()))

    fit(model, batches, [scheduler(batches, learning_rate="linear"), Load()], epochs=1)

    assert rates == [r.RATE] * 8


@pytest.mark.parametrize("saved_before_ours", [True, False])
def test_a_state_saved_in_any_order_resumes_with_the_right_rate(saved_before_ours):
    """Saved within an update, the optimizer holds the multiplied rate, and the state says by what."""
    model = r.recording_model()
    batches = stream()
    callback = scheduler(batches, learning_rate="linear")
    saved = {}

    class Save(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if r.num_iterations(self.model) == 8:
                saved["state"] = callback.get_state()
                saved["rate"] = float(self.model.optimizer.learning_rate.numpy())

    fit(model, batches, [Save(), callback] if saved_before_ours else [callback, Save()], epochs=2)
    assert saved["rate"] == (4 * r.RATE if saved_before_ours else r.RATE)

    model = r.recording_model()
    model.optimizer.learning_rate = saved["rate"]
    batches = stream()
    callback = scheduler(batches, learning_rate="linear")
    callback.set_state({**saved["state"], "epoch": 1, "examples": 0})
    fit(model, batches, [callback], epochs=2, initial_epoch=1)

    assert_rates(model, [4.0] * 3)
    assert float(model.optimizer.learning_rate.numpy()) == r.RATE


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_tensorboard_per_update_and_every_verbosity(tmp_path, verbose, capsys):
    model = r.recording_model()
    batches = stream()
    callbacks = [
        scheduler(batches, learning_rate="linear"),
        keras.callbacks.TensorBoard(tmp_path, update_freq=1),
        keras.callbacks.EarlyStopping("noise_scale", mode="min", patience=5),
    ]

    history = fit(model, batches, callbacks, verbose=verbose)

    assert_exact(model, batches)
    assert_rates(model, RATES)
    np.testing.assert_allclose(history.history["learning_rate"], [4 * r.RATE] * 3)
    printed = capsys.readouterr().out
    assert ("8/8" in printed and "3/3" in printed) if verbose else not printed


@pytest.mark.parametrize("live", [True, False])
def test_eager_training_ends_epochs_as_compiled_training_does(live):
    model = r.recording_model(run_eagerly=True)
    batches = stream()
    fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches, None if live else size)])
    assert_exact(model, batches, [11] * 3 if live else UPDATES)
    assert r.num_decays(model) == r.num_iterations(model)


def test_the_rate_is_that_of_the_first_batch_also_if_that_was_rounded():
    """A schedule of 30 in multiples of 8 begins with 24, and 48 is then twice the first batch."""
    model = r.recording_model()
    batches = stream()
    callback = lb.callbacks.BatchSizeScheduler(
        batches, lambda p: 30 if p < 1 else 50, multiple_of=8, learning_rate="linear"
    )
    history = fit(model, batches, [callback], epochs=2)
    assert history.history["batch_size"] == [24, 48]
    np.testing.assert_allclose(history.history["learning_rate"], [r.RATE, 2 * r.RATE])


def test_the_logged_rate_is_that_of_the_last_update():
    """A Keras schedule has moved on when the epoch ends: 1, 1/2, 1/4, .. per update."""
    decay = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    model = r.recording_model(optimizer=keras.optimizers.SGD(decay))
    batches = stream(batch_size=40)
    history = fit(model, batches, [lb.callbacks.BatchSizeScheduler(batches, lambda p: 40)], epochs=2)
    np.testing.assert_allclose(history.history["learning_rate"], [0.5**2, 0.5**5])
