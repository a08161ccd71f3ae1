"""Regimes of the papers in a real `fit`: the rate and the batch of each update against the papers' formulas."""

import keras
import numpy as np
import pytest
import recording as r
from slow import slow

import tf_lbgap as lb
from tf_lbgap import scaling, schedules
from tf_lbgap.experiment import calls


class Noted(keras.callbacks.Callback):
    """Notes the rate in force at each update."""

    def on_train_begin(self, logs=None):
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


def fit(num_examples, epochs, *, batch_size, rate=None, rule="none"):
    """The sizes and the rates of all updates."""
    sizes = batch_size if callable(batch_size) else schedules.constant(batch_size)
    batches = lb.data.Batches(*r.ids(num_examples), batch_size=round(sizes(0)))
    callbacks = [lb.callbacks.BatchSizeScheduler(batches, sizes, learning_rate=rule)]
    if rate is not None:
        callbacks.append(lb.callbacks.LearningRateScheduler(batches, rate))
    model, noted = r.recording_model(), Noted()
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks, noted])
    assert r.num_iterations(model) == r.num_decays(model) or rate is not None or rule != "none"
    return r.sizes_seen(model), noted.rates


# Gradual warm-up (Goyal et al., section 2.2).


def test_warm_up_adds_the_same_at_each_update_until_k_times_the_rate_after_five_epochs():
    """η_t = η + (kη - η) t / (5 n) at update t, n updates an epoch; then the schedule, on its own clock."""
    eta, k, n = 0.1, 8, 6
    after = schedules.staircase(k * eta, factor=0.1, milestones=[6])
    sizes, rates = fit(48, 8, batch_size=8, rate=schedules.warmup(after, epochs=5, initial=eta))
    assert sizes == [8] * 8 * n
    expected = (
        [eta + (k - 1) * eta * t / (5 * n) for t in range(5 * n)] + [k * eta] * n + [k * eta / 10] * 2 * n
    )
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_warm_up_with_a_ragged_last_batch_adds_by_examples():
    """Of 50 examples the last batch holds 2, and lifts the rate by a quarter of what one of 8 does."""
    _, rates = fit(50, 6, batch_size=8, rate=schedules.warmup(0.8, epochs=5, initial=0.1))
    seen = [50 * epoch + 8 * i for epoch in range(6) for i in range(7)]
    expected = [0.1 + 0.7 * min(examples / 250, 1) for examples in seen]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


# Regime adaptation (Hoffer et al., section 5).

REGIME = [1, 3]  # boundaries of a regime of 4 epochs


@pytest.mark.parametrize(
    ("num_examples", "small", "large", "more"),
    [
        (64, 4, 16, 0),
        (61, 4, 16, 0),  # 16 updates of 4 and a last of 1; four times 4 of 16, the last of 13
        (67, 4, 16, 3),  # 17 updates, and four times 5
        (50, 8, 24, 2),  # 7 updates, and three times 3
        (50, 8, 20, 2),  # not a multiple: ⌈20 / 8⌉ = 3 times 3
        (50, 8, 50, 0),  # the whole set: 7 times 1
    ],
)
def test_an_adapted_regime_has_the_updates_of_the_small_batch_in_each_phase(num_examples, small, large, more):
    """`more` updates for each epoch of the small batch, and never fewer."""
    rate, epochs = schedules.staircase(0.1, factor=0.1, milestones=REGIME), 4
    factor = scaling.regime_factor(small, large)

    _, before = fit(num_examples, epochs, batch_size=small, rate=rate)
    sizes, after = fit(
        num_examples, factor * epochs, batch_size=large, rate=schedules.stretched(rate, factor)
    )

    of_an_epoch = -(-num_examples // small)
    assert len(before) == epochs * of_an_epoch
    assert len(after) == len(before) + epochs * more
    for value, length in zip((0.1, 0.01, 0.001), (1, 2, 1), strict=True):
        assert np.sum(np.isclose(before, value)) == length * of_an_epoch
        assert np.sum(np.isclose(after, value)) == length * (of_an_epoch + more)
    assert sum(sizes) == factor * epochs * num_examples
    if large % small == 0:
        assert more == -of_an_epoch % factor <= factor - 1


def test_a_stretched_schedule_is_the_schedule_on_a_slower_clock_and_a_config():
    schedule = schedules.stretched(schedules.cosine(0.1, epochs=5), 4)
    for progress in np.linspace(0, 25, 26):
        assert schedule(progress) == schedules.cosine(0.1, epochs=5)(progress / 4)
    assert repr(schedule) == "stretched(cosine(0.1, epochs=5), 4)"
    assert schedules.from_config(schedule.get_config()) == schedule
    assert calls.make(schedule.get_config())(7) == schedule(7)
    assert schedules.stretched(3, 2)(1) == 3


@pytest.mark.parametrize("factor", [0, -1, "2", float("nan"), True])
def test_a_clock_that_stands_is_refused(factor):
    with pytest.raises(ValueError, match="factor must be"):
        schedules.stretched(0.1, factor)


def test_the_factor_is_rounded_up_as_in_the_papers_code():
    assert [scaling.regime_factor(128, b) for b in (128, 129, 256, 4096)] == [1, 2, 2, 32]
    with pytest.raises(ValueError, match="Give the smaller first"):
        scaling.regime_factor(256, 128)
    with pytest.raises(ValueError, match="whole number of examples"):
        scaling.regime_factor(0.5, 128)


# Warm start and the timed switch (Keskar et al., section 4.2).


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [
        slow(schedules.staircase(4, factor=4, milestones=[1]), [4] * 10 + [2] + [16, 16, 10]),
        (schedules.join([4, 16], [1]), [4] * 10 + [2] + [16, 16, 10]),
        # in the second epoch: 21 examples are half of it, and the update that begins at 24 is the first behind them
        slow(schedules.join([4, 16], [1.5]), [4] * 10 + [2] + [4] * 6 + [16, 2]),
        slow(schedules.staircase(16, factor=0.25, milestones=[1]), [16, 16, 10] + [4] * 10 + [2]),
        (schedules.staircase(16, factor=0.25, milestones=[0.5]), [16, 16] + [4, 4, 2] + [4] * 10 + [2]),
        slow(schedules.join([4, 16, 4], [0.5, 1]), [4] * 6 + [16, 2] + [4] * 10 + [2]),
    ],
    ids=[
        "small to large",
        "by join",
        "within an epoch",
        "large to small",
        "large to small within",
        "there and back",
    ],
)
def test_the_batch_switches_at_the_update_in_either_direction(batch_size, expected):
    """42 examples, two epochs; with "linear" the rate switches with the batch."""
    sizes, rates = fit(42, 2, batch_size=batch_size, rule="linear")
    assert sizes == expected
    first = round(batch_size(0))
    # A batch that the end of the epoch cuts short has the rate of the size that was asked for.
    for i, size in enumerate(sizes):
        if size in (4, 16):
            np.testing.assert_allclose(rates[i], r.RATE * size / first, rtol=1e-6)


def test_the_rate_may_switch_by_a_schedule_of_its_own():
    sizes, rates = fit(48, 2, batch_size=schedules.join([4, 16], [1]), rate=schedules.join([0.1, 0.3], [1]))
    assert sizes == [4] * 12 + [16] * 3
    np.testing.assert_allclose(rates, [0.1] * 12 + [0.3] * 3, rtol=1e-6)


def test_a_warm_start_goes_on_from_the_weights_and_the_optimizer_of_the_small_batch():
    """A switch within one fit is two fits of the two sizes, momentum included; by hand on a linear model."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 2)), rng.normal(size=(10, 1))
    w, m, rate, momentum = (
        np.ones((2, 1)),
        np.zeros((2, 1)),
        0.05,
        0.5,
    )  # Keras rounds a momentum of 0.9 to float32
    for sizes in ([2] * 5, [5, 5]):
        start = 0
        for size in sizes:
            part_x, part_y = x[start : start + size], y[start : start + size]
            m = momentum * m - rate * 2 / size * part_x.T @ (part_x @ w - part_y)
            w, start = w + m, start + size
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.ones((2, 1))])
    model.compile(keras.optimizers.SGD(rate, momentum=momentum), "mse")
    batches = lb.data.Batches(x, y, batch_size=2, shuffle=False)
    steering = lb.callbacks.BatchSizeScheduler(batches, schedules.join([2, 5], [1]))

    model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[steering])

    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-12)
