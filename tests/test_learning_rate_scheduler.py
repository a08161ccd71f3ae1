"""The rate of each update, as a callback that stands behind ours finds it in the optimizer."""

import copy

import keras
import numpy as np
import pytest
import recording as r

import tf_lbgap as lb

N = 103


def falling(progress):
    return 0.1 / (1 + progress)


class Rates(keras.callbacks.Callback):
    """Notes the optimizer's rate before each execution."""

    def on_train_begin(self, logs=None):
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


def fit(batches, callbacks, *, model=None, **options):
    """Return the model, its history, and the rates."""
    model = model or r.recording_model()
    rates = Rates()
    history = model.fit(batches, shuffle=False, verbose=0, callbacks=[*callbacks, rates], **options)
    return model, history.history, rates.rates


def test_rates_on_a_constant_stream():
    batches = lb.data.Batches(*r.ids(N), batch_size=10)
    callback = lb.callbacks.LearningRateScheduler(batches, falling)

    for _ in range(2):  # the second fit begins anew
        model, logs, rates = fit(batches, [callback], epochs=2)

        expected = [falling(epoch + 10 * i / N) for epoch in range(2) for i in range(11)]
        np.testing.assert_allclose(rates, expected, rtol=1e-6)
        np.testing.assert_allclose(logs["learning_rate"], [expected[10], expected[21]], rtol=1e-6)
        assert r.num_decays(model) == 22 or r.num_iterations(model) == 22


@pytest.mark.parametrize("ours_first", [True, False])
def test_rates_beside_a_batch_that_grows(ours_first):
    """10 for half an epoch, then 25: cut at 0, 10, .., 50, 60, 85, 103 and 0, 25, .., 100, 103."""
    batches = lb.data.Batches(*r.ids(N), batch_size=10)
    callbacks = [
        lb.callbacks.BatchSizeScheduler(batches, lambda p: 10 if p < 0.5 else 25, learning_rate="linear"),
        lb.callbacks.LearningRateScheduler(batches, falling),
    ]

    _, logs, rates = fit(batches, callbacks if ours_first else callbacks[::-1], epochs=2)

    starts = [0, 10, 20, 30, 40, 50, 60, 85, N, N + 25, N + 50, N + 75, N + 100]
    expected = [falling(at / N) * (1.0 if at <= 50 else 2.5) for at in starts]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    np.testing.assert_allclose(logs["learning_rate"], [expected[7], expected[12]], rtol=1e-6)
    np.testing.assert_allclose(logs["noise_scale"][0], expected[7] * (N / 25 - 1), rtol=1e-6)


def test_rates_beside_a_size_set_by_hand():
    batches = lb.data.Batches(*r.ids(N), batch_size=10)

    class Double(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:  # too late for this update, whose rate is set
                self.model.sizes_before = len(r.sizes_seen(self.model))
                batches.batch_size = 20

    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        batches.batch_size = 10
        callbacks = [
            lb.callbacks.LearningRateScheduler(batches, falling),
            Double(),
            lb.callbacks.BatchSizeScheduler(batches, learning_rate="linear"),
        ]
        model, _, rates = fit(batches, [callbacks[i] for i in order], epochs=1)

        sizes = r.sizes_seen(model)
        starts = np.cumsum([0, *sizes[:-1]])
        assert sizes in ([10, 10, 10, 20, 20, 20, 13], [10, 10, 20, 20, 20, 20, 3])
        assert sizes[2] == (20 if order == [1, 2, 0] else 10)  # set before either of ours fixed it
        factors = [1.0 if size == 10 else 2.0 for size in sizes]
        expected = [falling(at / N) * factor for at, factor in zip(starts, factors, strict=True)]
        np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_an_initial_epoch_is_progress():
    batches = lb.data.Batches(*r.ids(N), batch_size=10)

    model, _, rates = fit(
        batches, [lb.callbacks.LearningRateScheduler(batches, falling)], epochs=4, initial_epoch=3
    )

    np.testing.assert_allclose(rates, [falling(3 + 10 * i / N) for i in range(11)], rtol=1e-6)
    np.testing.assert_array_equal(r.epochs_seen(model, [11])[0], batches.order(3))


@pytest.mark.parametrize("scheduled", [True, False])
def test_a_rate_holds_for_an_execution(scheduled):
    batches = lb.data.Batches(*r.ids(N), batch_size=10)
    callbacks = [lb.callbacks.LearningRateScheduler(batches, falling)]
    if scheduled:
        callbacks.append(lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(10)))

    model, _, rates = fit(batches, callbacks, model=r.recording_model(steps_per_execution=4), epochs=2)

    expected = [falling(epoch + 40 * i / N) for epoch in range(2) for i in range(3)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    kernel = np.prod(
        [
            1 - rate * r.DECAY
            for rate, updates in zip(expected, 2 * [4, 4, 3], strict=True)
            for _ in range(updates)
        ]
    )
    np.testing.assert_allclose(model.layers[1].kernel.numpy(), [[kernel]], rtol=1e-5)


def test_copies_and_config_round_trips_give_the_same_rates():
    batches = lb.data.Batches(*r.ids(N), batch_size=10)
    schedule = lb.schedules.warmup(lb.schedules.cosine(0.1, epochs=2), epochs=1)
    callback = lb.callbacks.LearningRateScheduler(batches, schedule, momentum_correction=False)
    again = lb.callbacks.LearningRateScheduler.from_config(callback.get_config(), batches)
    twin = copy.deepcopy(callback)

    assert again.get_config() == callback.get_config() == twin.get_config()
    assert twin.batches is batches
    expected = [schedule(epoch + 10 * i / N) for epoch in range(2) for i in range(11)]
    for each in (callback, again, twin):
        np.testing.assert_allclose(fit(batches, [each], epochs=2)[2], expected, rtol=1e-6)


def test_momentum_correction_works_from_the_first_update_of_a_new_optimizer():
    """The schedule begins elsewhere than the optimizer, which has no momentum buffers yet."""
    model = r.recording_model(optimizer=keras.optimizers.SGD(0.5, momentum=0.9))
    batches = lb.data.Batches(*r.ids(N), batch_size=10)

    fit(
        batches,
        [lb.callbacks.LearningRateScheduler(batches, falling, momentum_correction=True)],
        model=model,
        epochs=1,
    )

    assert r.num_iterations(model) == 11


@pytest.mark.parametrize("theirs", ["plateau", "keras"])
def test_somebody_else_who_sets_the_rate_is_an_error(theirs):
    batches = lb.data.Batches(*r.ids(N), batch_size=10)
    other = {
        "plateau": keras.callbacks.ReduceLROnPlateau("loss", patience=1),
        "keras": keras.callbacks.LearningRateScheduler(lambda epoch: 0.3),
    }[theirs]

    with pytest.raises(ValueError, match="Something else set the learning rate to"):
        fit(batches, [lb.callbacks.LearningRateScheduler(batches, lambda p: 0.1), other], epochs=4)
