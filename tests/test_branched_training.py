"""Branches are the trainings they say, the verdict follows from their losses, and the model is as before."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from replicas import mirrored
from slow import slow, slow_but

from tf_lbgap import data
from tf_lbgap.pilot import branched_training


def linear(inputs=1, optimizer=None, weights=None, **options):
    """A model w·x with mean squared error, at w = 0."""
    model = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer or keras.optimizers.SGD(0.01), "mse", **options)
    model.set_weights([np.zeros((inputs, 1)) if weights is None else np.reshape(weights, (inputs, 1))])
    return model


def equal_examples(count=512, batch_size=4):
    """Examples (1, 1): L = (w - 1)², and a gradient without noise, whatever the batch."""
    return data.Batches(np.ones((count, 1), "float32"), np.ones((count, 1), "float32"), batch_size=batch_size)


def smoothed(losses):
    """The running mean of the paper, weight 0.5."""
    mean = losses[0]
    for loss in losses[1:]:
        mean = 0.5 * loss + 0.5 * mean
    return mean


# Without noise the loss after u updates at the rate a is (1 - 2a)^2u.


@pytest.mark.parametrize(
    "rule, power",
    slow_but([("sqrt", 0.5)], [("merrill", 1.0), ("linear", 1.0), ("sqrt", 0.5), ("none", 0.0)]),
)
def test_losses_and_verdict_are_those_of_the_closed_form(rule, power):
    """16 updates of the largest batch, 64, are 1024 examples; looks are 64 apart, the last 6 of them."""
    found = branched_training(
        linear(), equal_examples(), learning_rate=rule, seeds=1, tolerance=0.2, check_examples=8
    )
    sizes, looks = np.array([4, 8, 16, 32, 64]), np.arange(704, 1025, 64)
    rates = 0.01 * np.array([1, 2, 4, 8, 16]) ** power
    closed = (1 - 2 * rates[:, None]) ** (2 * looks / sizes[:, None])
    expected = np.array([smoothed(losses) for losses in closed])
    assert found.batch_sizes == tuple(sizes) and found.looked_at == tuple(looks)
    assert found.updates == (256, 128, 64, 32, 16) and found.examples == 1024
    np.testing.assert_allclose(found.learning_rates, rates, rtol=1e-6)
    np.testing.assert_allclose(found.histories, closed[None], rtol=1e-3)  # 512 roundings of w in float32
    np.testing.assert_allclose(found.mean_losses, expected, rtol=1e-3)
    np.testing.assert_allclose(found.start_loss, 1.0)
    fine = [all(expected[i] <= expected[j] + 0.2 for j in range(i)) for i in range(5)]
    best = max(i for i in range(5) if fine[i])
    assert found.is_fine.tolist() == fine and found.value == sizes[best]
    assert found.interval == (sizes[best] if best else 0, sizes[best + 1] if best < 4 else math.inf)
    np.testing.assert_allclose(
        found.excess[1:], [expected[i] - expected[:i].min() for i in range(1, 5)], atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule, tolerance, value, interval",
    [
        (
            "linear",
            0.0,
            64,
            (64, math.inf),
        ),  # larger steps of gradient descent come nearer for as many examples
        (
            "sqrt",
            0.03,
            16,
            (16, 32),
        ),  # (1 - 2 * 0.0283)^64 = 0.024 after 1024 examples, but was above 0.03 at the looks
        ("none", 0.01, 8, (8, 16)),  # 0.98^256 = 0.006, 0.98^128 = 0.075
        ("none", 0.001, 4, (0, 8)),
    ],
)
def test_what_the_rules_lose(rule, tolerance, value, interval):
    found = branched_training(linear(), equal_examples(), learning_rate=rule, seeds=1, tolerance=tolerance)
    assert (found.value, found.interval) == (value, interval)


@pytest.mark.parametrize(
    "losses, is_fine, value, interval",
    [
        ([0.5, 0.5, 0.505, 0.52], [1, 1, 1, 0], 8, (8, 16)),
        (
            [0.5, 0.48, 0.495, 0.489],
            [1, 1, 0, 1],
            16,
            (16, math.inf),
        ),  # the largest that is near all smaller ones
        (
            [0.5, 0.509, 0.518, 0.511],
            [1, 1, 0, 0],
            4,
            (4, 8),
        ),  # compared with the least, not with the one before
        (
            [0.5, math.nan, 0.5, math.inf],
            [1, 0, 1, 0],
            8,
            (8, 16),
        ),  # one that diverged is not in the way of a larger one
        slow([0.5, 0.6, 0.6, math.nan], [1, 0, 0, 0], 2, (0, 4)),
    ],
)
def test_the_verdict_is_the_rule_of_the_paper(losses, is_fine, value, interval):
    """A single look, so that a loss is not smoothed; the first is that of the model as it stands."""
    script = iter([1.0, *losses])
    found = branched_training(
        linear(), equal_examples(16, 2), factors=(1, 2, 4, 8), examples=16, seeds=1, loss=lambda: next(script)
    )
    assert found.is_fine.tolist() == [bool(fine) for fine in is_fine]
    assert (found.value, found.interval) == (value, interval)


@pytest.mark.slow
def test_adam_takes_the_square_root_and_sgd_the_factor():
    for optimizer, power in ((keras.optimizers.Adam(0.01), 0.5), (keras.optimizers.SGD(0.01), 1.0)):
        found = branched_training(
            linear(1, optimizer), equal_examples(), factors=(1, 4), examples=64, seeds=1
        )
        np.testing.assert_allclose(found.learning_rates, (0.01, 0.01 * 4**power), rtol=1e-6)


@pytest.mark.slow
def test_sizes_above_the_data_set_are_left_out_and_factors_below_one_may_be_asked_for():
    found = branched_training(linear(), equal_examples(20), factors=(4, 0.5, 1, 8), examples=32, seeds=1)
    assert found.batch_sizes == (2, 4, 16)


def test_a_branch_that_diverges_is_not_fine():
    """w - 1 is multiplied by 1 - 2a: by 0, -1 and -7 for the rates 0.5, 1 and 4; 7^64 is beyond float32."""
    found = branched_training(
        linear(1, keras.optimizers.SGD(0.5)), equal_examples(), factors=(1, 2, 8), examples=1024, seeds=1
    )
    np.testing.assert_allclose(found.mean_losses, [0, 1, math.inf], atol=1e-6)
    assert found.is_fine.tolist() == [True, False, False] and found.interval == (0, 8)


def test_the_smallest_branch_has_to_converge():
    model = linear(1, keras.optimizers.SGD(30.0))
    with pytest.raises(ValueError, match=r"smallest branch, of 4 .* rate 30, diverged.*lower learning rate"):
        branched_training(model, equal_examples(), factors=(1, 2), examples=512, seeds=1)
    assert model.get_weights()[0] == 0.0


# With noise.


def gaussian(count, inputs, noise, seed=0):
    rng = np.random.default_rng(seed)
    x, best = rng.choice([-1.0, 1.0], (count, inputs)), rng.normal(size=inputs)
    return x, x @ best + noise * rng.normal(size=count), best


@pytest.mark.slow
def test_beyond_a_size_the_noise_floor_of_sgd_rises():
    """Inputs ±1, so H = 2I, labels with noise of variance 1, w at the best: SGD with the rate a and batches of B stays
    d a / (B (1 - a)) above the least loss. With a / B held, that is 0.020 for a = 0.02, 0.029 at 16 times the batch, and
    0.056 at 32 times, as 2a comes near to 2.
    """
    x, y, best = gaussian(4096, 8, 1.0)
    model = linear(8, keras.optimizers.SGD(0.02), best)
    batches = data.Batches(x.astype("float32"), y[:, None].astype("float32"), batch_size=8)
    found = branched_training(
        model, batches, factors=(1, 4, 16, 32), examples=4096, tolerance=0.02, check_examples=4096, seeds=4
    )
    floor = 8 * 0.02 / 8 / (1 - 0.02 * np.array([1, 4, 16, 32]))
    least = np.mean((x @ np.linalg.lstsq(x, y)[0] - y) ** 2)
    # A loss above the least is χ² of 8 degrees: ± 50 %, and ± 15 to 20 % after smoothing over looks and 4 seeds.
    np.testing.assert_allclose(found.mean_losses - least, floor, rtol=0.5)
    assert found.value == 128 and found.interval == (128, 256)
    assert 0 < found.excess_error[3] < 0.02 < found.excess[3]


class Loop:
    """SGD with momentum in NumPy, on one order of examples cut anywhere: the rate is in the buffer, and corrected."""

    def __init__(self, x, y, order, rate, momentum, buffer):
        self.x, self.y, self.order, self.rate, self.momentum = x, y, order, rate, momentum
        self.w, self.buffer = np.zeros(x.shape[1]), buffer.copy()

    def train(self, size, own_size, looks):
        losses, seen, before = [], 0, 1.0
        for look in looks:
            while seen < look:
                index = self.order[seen : min(seen + size, looks[-1])]
                factor = len(index) / own_size
                self.buffer *= factor / before
                gradient = 2 * self.x[index].T @ (self.x[index] @ self.w - self.y[index]) / len(index)
                self.buffer = self.momentum * self.buffer - factor * self.rate * gradient
                self.w, seen, before = self.w + self.buffer, seen + len(index), factor
            losses.append(np.mean((self.x @ self.w - self.y) ** 2))
        return losses


@pytest.mark.parametrize("position", [slow((0, 0)), (2, 30)], ids=str)
def test_branches_are_sgd_over_the_examples_of_the_stream(position):
    """N = 37, batches of 3, 6 and 15: they run on over the ends of epochs, and 100 examples leave smaller last ones."""
    x, y, _ = gaussian(37, 4, 0.5)
    batches = data.Batches(x, y[:, None], batch_size=3, seed=5)
    batches.position = position
    keras.config.set_dtype_policy("float64")
    model = linear(4, keras.optimizers.SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    buffer = np.array([0.1, 0.0, -0.05, 0.02])
    model.optimizer.momentums[0].assign(buffer[:, None])

    found = branched_training(model, batches, factors=(1, 2, 5), examples=100, seeds=1, check_examples=37)

    order = np.concatenate([batches.order(position[0] + epoch) for epoch in range(5)])[position[1] :]
    looks = [25, 40, 55, 70, 85, 100]
    expected = [Loop(x, y, order, 0.01, 0.9, buffer).train(size, 3, looks) for size in (3, 6, 15)]
    assert found.looked_at == tuple(looks) and found.updates == (34, 17, 7)
    np.testing.assert_allclose(found.histories[0], expected, rtol=2e-6)  # the rate is a float32 variable


@pytest.mark.slow
def test_seeds_draw_other_orders_and_parts_of_a_batch_change_nothing():
    x, y, _ = gaussian(37, 4, 0.5)
    batches = data.Batches(x.astype("float32"), y[:, None].astype("float32"), batch_size=3)
    whole, parts = (
        branched_training(linear(4), batches, factors=(1, 4), examples=60, seeds=2, micro_batch_size=micro)
        for micro in (None, 2)
    )
    assert not np.allclose(whole.losses[0], whole.losses[1], rtol=1e-4)
    np.testing.assert_allclose(whole.losses, parts.losses, rtol=1e-4)
    assert np.isnan(whole.excess_error[0]) and whole.excess_error[1] > 0


@pytest.mark.slow
def test_a_stream_from_a_data_set_is_mapped_and_read_on_over_its_end():
    dataset = tf.data.Dataset.from_tensor_slices(
        (np.ones((10, 1), "float32"), np.full((10, 1), 0.5, "float32"))
    )
    batches = data.Batches.from_dataset(dataset, batch_size=2, map=lambda x, y: (x, 2 * y), last_batch="drop")
    found = branched_training(
        linear(), batches, factors=(1, 4), examples=32, seeds=1, loss=None, check_examples=10
    )
    # Trained towards 1, as map has it; the clean loss is (w - 0.5)² of the examples as stored.
    w = [1 - (1 - 2 * rate) ** updates for rate, updates in ((0.01, 16), (0.04, 4))]
    np.testing.assert_allclose(found.histories[0, :, -1], (np.array(w) - 0.5) ** 2, rtol=1e-4)


def test_a_loss_of_your_own():
    model = linear()
    found = branched_training(
        model,
        equal_examples(),
        factors=(1, 2),
        examples=64,
        seeds=1,
        loss=lambda: float(model.get_weights()[0][0, 0]),
    )
    np.testing.assert_allclose(found.histories[0, :, -1], [1 - 0.98**16, 1 - 0.96**8], rtol=1e-4)


@pytest.mark.slow
def test_a_keras_schedule_is_held_where_it_is():
    """The rate falls to a tenth after 3 updates; 5 have been made."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.1, 0.01])
    model = linear(1, keras.optimizers.SGD(schedule))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(5)
    found = branched_training(model, equal_examples(), factors=(1, 2), examples=64, seeds=1)
    np.testing.assert_allclose(found.histories[0, :, -1], [0.98**32, 0.96**16], rtol=1e-4)
    assert model.optimizer._learning_rate is schedule and model.optimizer.iterations.numpy() == 5


# The model is as before.


class Drawing(keras.layers.Layer):
    def call(self, x):
        return x + 0.1 * keras.random.normal(tf.shape(x))  # from Keras' global seed


def with_everything():
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(5), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), Drawing()]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), "mse", metrics=["mae"])
    return model


def state_of(model):
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    seeds = keras.src.random.seed_generator.global_seed_generator().state
    return [v.numpy() for v in (*variables, seeds)]


def test_nothing_in_the_model_changes_and_training_goes_on_as_it_would_have():
    x, y, _ = gaussian(37, 4, 0.5)
    histories = []
    for branches in (False, True):
        batches = data.Batches(x.astype("float32"), y[:, None].astype("float32"), batch_size=8)
        model = with_everything()
        model.fit(batches, epochs=1, shuffle=False, verbose=0)
        before, function, history = state_of(model), model.train_function, model.history
        if branches:
            found = branched_training(model, batches, factors=(1, 2), examples=32, seeds=1)
            assert np.isfinite(found.losses).all() and batches.batch_size == 8
        for one, other in zip(before, state_of(model), strict=True):
            np.testing.assert_array_equal(one, other)
        assert model.train_function is function and model.history is history
        histories.append(model.fit(batches, epochs=2, shuffle=False, verbose=0).history["loss"])
    assert histories[0] == histories[1]


def test_a_model_is_put_back_when_a_branch_fails():
    model = linear()

    def loss():
        if model.get_weights()[0] != 0:
            raise RuntimeError("stop")
        return 1.0

    with pytest.raises(RuntimeError, match="stop"):
        branched_training(model, equal_examples(), loss=loss)
    assert model.get_weights()[0] == 0 and model.optimizer.iterations.numpy() == 0
    np.testing.assert_allclose(model.optimizer.learning_rate, 0.01)


# What cannot be asked.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"factors": (1, 1.3)}, r"1\.3 times the batch of 4 is no batch size"),
        ({"factors": (0, 1)}, "0 times the batch of 4"),
        ({"factors": ("2", 1)}, "'2' times the batch"),
        ({"factors": 2}, "leaves 1 of 1 sizes up to 512"),
        ({"factors": (1, 1000)}, r"leaves 1 of 2 sizes up to 512.*smaller batch"),
        ({"factors": ()}, "leaves 0 of 0 sizes"),
        ({"examples": 63}, "examples=63 must be a whole number, 64 or more.*Pass 1024 for 16"),
        ({"examples": 100.5}, "whole number"),
        ({"learning_rate": 0.1}, "learning_rate=0.1 must be one of 'merrill', 'linear'"),
        ({"learning_rate": "adascale"}, "must be one of"),
        ({"tolerance": -1}, "tolerance=-1 must be a number 0 or more"),
        ({"tolerance": math.nan}, "tolerance=nan"),
        ({"smoothing": 0}, "smoothing=0 must be a number above 0"),
        ({"smoothing": 1.5}, "smoothing=1.5"),
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": (0, 1)}, "how many"),
        ({"check_examples": 0}, "check_examples=0"),
        ({"micro_batch_size": 1.5}, "micro_batch_size=1.5"),
        ({"loss": 1.0}, "function without arguments"),
        ({"loss": lambda: math.nan}, "nothing to branch from"),
    ],
)
def test_what_came_and_what_to_type_next_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        branched_training(linear(), equal_examples(), **options)


def test_batches_and_a_compiled_model_are_needed():
    with pytest.raises(ValueError, match=r"batches is a tuple.*lb\.data\.Batches"):
        branched_training(linear(), (np.ones((4, 1)), np.ones((4, 1))))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"model\.compile"):
        branched_training(model, equal_examples())


@pytest.mark.slow
def test_several_replicas_are_refused():
    with mirrored().scope():
        model = linear()
    with pytest.raises(ValueError, match=r"2 replicas.*outside strategy\.scope"):
        branched_training(model, equal_examples())
