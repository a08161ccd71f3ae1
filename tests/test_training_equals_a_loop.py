"""`fit` with our callbacks is the training that one would write by hand.

The loops below know x, the order of an epoch, and the rules of the schedules; they cut batches, take
gradients and set rates as plainly as can be. N = 203 leaves a ragged last batch in every epoch.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from slow import slow, slow_but

import tf_lbgap as lb

N, EPOCHS = 203, 3


def size(progress):
    """10, then 25 and 64 from within an epoch on, and back to 16."""
    return 10 if progress < 0.4 else 25 if progress < 1.3 else 64 if progress < 2 else 16


def rate(progress):
    """Another value at each update."""
    return 0.05 / (1 + progress)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 5)).astype("float32")
    return x, np.sin(x @ rng.normal(size=(5, 1))).astype("float32")


def dense():
    return [keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)]


def noisy():
    """Layers that see how the batch is cut, and count the updates."""
    return [
        keras.layers.Dense(8, "relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3, seed=7),
        keras.layers.Dense(1),
    ]


def model_of(layers, optimizer, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((5,)), *layers()])
    model.compile(optimizer(), "mse", **options)
    return model


def cut_plainly(epoch):
    """Yield (progress, first position, last position + 1, size asked for)."""
    position = 0
    while position < N:
        progress = epoch + position / N
        end = min(position + size(progress), N)
        yield progress, position, end, size(progress)
        position = end


def train_by_hand(model, order, rate_of=None, momentum_update=None):
    """Train with a tape; `rate_of(progress, size)` sets the rate, `momentum_update` replaces the optimizer."""
    x, y = data()
    for epoch in range(EPOCHS):
        for progress, start, end, asked in cut_plainly(epoch):
            index = order(epoch)[start:end]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x[index], training=True) - y[index]) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            if momentum_update is not None:
                momentum_update(gradients, rate_of(progress, asked))
                continue
            if rate_of is not None:
                model.optimizer.learning_rate = rate_of(progress, asked)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


def train_by_fit(model, make_callbacks):
    batches = lb.data.Batches(*data(), batch_size=10, seed=3)
    model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=make_callbacks(batches))
    return batches


def assert_same_weights(model, expected):
    for got, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6, rtol=1e-5)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: keras.optimizers.Adam(0.01),
}


@pytest.mark.parametrize("layers", [dense, noisy], ids=lambda layers: layers.__name__)
@pytest.mark.parametrize("optimizer", slow_but(["adam"], OPTIMIZERS))
def test_a_batch_that_changes_in_mid_epoch(optimizer, layers):
    model, by_hand = (model_of(layers, OPTIMIZERS[optimizer]) for _ in range(2))

    batches = train_by_fit(model, lambda b: [lb.callbacks.BatchSizeScheduler(b, size)])
    train_by_hand(by_hand, batches.order)

    assert_same_weights(model, by_hand)


@pytest.mark.parametrize("options", [{"run_eagerly": True}, slow({"jit_compile": True})], ids=str)
def test_eager_and_compiled_training(options):
    optimizer = OPTIMIZERS["momentum"]
    model, by_hand = model_of(dense, optimizer, **options), model_of(dense, optimizer)

    batches = train_by_fit(
        model, lambda b: [lb.callbacks.BatchSizeScheduler(b, size, learning_rate="linear")]
    )
    train_by_hand(by_hand, batches.order, lambda progress, asked: 0.05 * asked / 10)

    assert_same_weights(model, by_hand)


def test_a_train_step_of_the_users_own():
    class Own(keras.Sequential):
        def train_step(self, batch):
            x, y = batch
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"own_loss": loss}

    keras.utils.set_random_seed(1)
    model = Own([keras.Input((5,)), *dense()])
    model.compile(OPTIMIZERS["momentum"]())
    by_hand = model_of(dense, OPTIMIZERS["momentum"])

    batches = train_by_fit(model, lambda b: [lb.callbacks.BatchSizeScheduler(b, size)])
    train_by_hand(by_hand, batches.order)

    assert_same_weights(model, by_hand)


@pytest.mark.parametrize("ours_first", slow_but([True], [True, False]))
@pytest.mark.parametrize("optimizer", slow_but(["nesterov"], OPTIMIZERS))
def test_a_rate_that_follows_progress_and_the_batch(optimizer, ours_first):
    model, by_hand = (model_of(noisy, OPTIMIZERS[optimizer]) for _ in range(2))

    def callbacks(batches):
        both = [
            lb.callbacks.BatchSizeScheduler(batches, size, learning_rate="sqrt", check_rule=False),
            lb.callbacks.LearningRateScheduler(batches, rate),
        ]
        return both if ours_first else both[::-1]

    batches = train_by_fit(model, callbacks)
    train_by_hand(by_hand, batches.order, lambda progress, asked: rate(progress) * (asked / 10) ** 0.5)

    assert_same_weights(model, by_hand)


def test_linear_scaling_of_the_optimizers_own_rate():
    model, by_hand = model_of(dense, OPTIMIZERS["momentum"]), model_of(dense, OPTIMIZERS["momentum"])

    batches = train_by_fit(
        model, lambda b: [lb.callbacks.BatchSizeScheduler(b, size, learning_rate="linear")]
    )
    train_by_hand(by_hand, batches.order, lambda progress, asked: 0.05 * asked / 10)

    assert_same_weights(model, by_hand)


@pytest.mark.parametrize("nesterov", slow_but([True], [False, True]))
@pytest.mark.parametrize("written_by", ["batch size", "rate"])
def test_momentum_correction_is_that_of_goyal_et_al(written_by, nesterov):
    """Their equations 9 and 10: v = m v + g, w = w - lr v. Keras' buffer holds lr v, with the lr of its time."""

    def optimizer():
        return keras.optimizers.SGD(0.05, momentum=0.9, nesterov=nesterov)

    model, by_hand = model_of(dense, optimizer), model_of(dense, optimizer)
    velocities = [np.zeros(v.shape, np.float32) for v in by_hand.trainable_variables]

    def goyal(gradients, new):
        for i, (variable, g) in enumerate(zip(by_hand.trainable_variables, gradients, strict=True)):
            velocities[i] = 0.9 * velocities[i] + g
            variable.assign_sub(new * (0.9 * velocities[i] + g if nesterov else velocities[i]))

    def callbacks(batches):
        if written_by == "batch size":
            return [
                lb.callbacks.BatchSizeScheduler(
                    batches, size, learning_rate="linear", momentum_correction=True
                )
            ]
        return [
            lb.callbacks.BatchSizeScheduler(batches, size, learning_rate="linear"),
            lb.callbacks.LearningRateScheduler(batches, rate, momentum_correction=True),
        ]

    batches = train_by_fit(model, callbacks)
    base = rate if written_by == "rate" else lambda progress: 0.05
    train_by_hand(by_hand, batches.order, lambda progress, asked: base(progress) * asked / 10, goyal)

    assert_same_weights(model, by_hand)


def test_half_precision_with_a_scaled_loss():
    """Both sides run in float16 with the same loss scale, so they agree although float32 would not."""

    def optimizer():
        return keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.05, momentum=0.9), initial_scale=64.0
        )

    def parts():
        keras.utils.set_random_seed(1)
        layers = [
            keras.layers.Dense(8, "tanh", dtype="mixed_float16"),
            keras.layers.Dense(1, dtype="float32"),
        ]
        model = keras.Sequential([keras.Input((5,)), *layers])
        model.compile(optimizer(), "mse")
        return model

    model, by_hand = parts(), parts()
    x, y = data()

    batches = train_by_fit(
        model, lambda b: [lb.callbacks.BatchSizeScheduler(b, size, learning_rate="linear")]
    )
    updates = 0
    for epoch in range(EPOCHS):
        for _, start, end, asked in cut_plainly(epoch):
            index = batches.order(epoch)[start:end]
            by_hand.optimizer.learning_rate = 0.05 * asked / 10
            by_hand.train_on_batch(x[index], y[index])
            updates += 1

    assert int(model.optimizer.iterations.numpy()) == updates
    assert float(model.optimizer.learning_rate.numpy()) == np.float32(0.05)
    for got, wanted in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.fixture
def double_precision():
    before = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(before)


def test_double_precision(double_precision):
    model, by_hand = model_of(dense, OPTIMIZERS["momentum"]), model_of(dense, OPTIMIZERS["momentum"])

    batches = train_by_fit(
        model, lambda b: [lb.callbacks.BatchSizeScheduler(b, size, learning_rate="linear")]
    )
    train_by_hand(by_hand, batches.order, lambda progress, asked: 0.05 * asked / 10)

    for got, wanted in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, wanted, atol=1e-12)
