"""An accumulated update is the update of the whole batch: Keras' own `fit` is the reference throughout.

21 updates with batches of 16, 16 and a ragged 5, from parts of 3 at most, so 2 or 3 each: nothing divides. In
float64 to 1e-12, where the order of summation leaves about 1e-15 per update.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from both_ways import LABELS, NUM_EXAMPLES, RNG, TARGETS, X, assert_both_equal, both, fit, mlp
from replicas import mirrored
from slow import slow

from tf_lbgap.training import TrainFunctions

layers, losses, optimizers = keras.layers, keras.losses, keras.optimizers
WEIGHTS = RNG.uniform(0, 2, NUM_EXAMPLES)
SPARSE = {"from_logits": True}


def floats(name, policy=None):
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(policy or name)


@pytest.fixture(autouse=True)
def _float64():
    floats("float64")


OPTIMIZERS = {
    "sgd, weights decay": lambda: optimizers.SGD(0.1, weight_decay=0.01),
    "momentum, global norm clipped": lambda: optimizers.SGD(
        0.1, momentum=0.9, nesterov=True, global_clipnorm=0.2
    ),
    "adam, norms clipped, average": lambda: optimizers.Adam(
        0.01, clipnorm=0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5
    ),
    "loss scale": lambda: optimizers.SGD(0.1, loss_scale_factor=1024.0),
    "schedule": lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 5, 0.5), clipvalue=0.05),
}


@pytest.mark.parametrize(
    "name",
    [slow(name) if name in ("loss scale", "schedule") else name for name in OPTIMIZERS],
)
def test_weights_optimizer_and_logs_are_those_of_the_whole_batch(name):
    """Clipping a part, or decaying once per part, would differ in the first digits."""
    assert_both_equal(lambda: mlp(OPTIMIZERS[name](), metrics=["accuracy"]), X, LABELS)


def test_in_float32_they_are_equal_to_its_precision():
    floats("float32")
    assert_both_equal(
        lambda: mlp(optimizers.Adam(0.01), metrics=["accuracy"]), X.astype("float32"), LABELS, atol=1e-6
    )


@pytest.mark.parametrize("reduction", ["sum", slow("sum_over_batch_size"), "mean_with_sample_weight"])
def test_reductions_with_sample_weights_and_a_penalty(reduction):
    """The penalty counts once: a sum multiplied by the number of parts would move it in the first digits."""
    loss = losses.SparseCategoricalCrossentropy(**SPARSE, reduction=reduction)
    assert_both_equal(
        lambda: mlp(optimizers.SGD(0.01), loss, regularizer="l2", weighted_metrics=["accuracy"]),
        X,
        LABELS,
        sample_weight=WEIGHTS,
    )


def test_classes_that_a_loss_ignores():
    """Of the classes 0, 1, 2 the last is ignored, so parts count 0 to 3 examples."""
    loss = losses.SparseCategoricalCrossentropy(**SPARSE, ignore_class=2)
    assert_both_equal(lambda: mlp("sgd", loss, regularizer="l2"), X, LABELS)


@pytest.mark.slow
def test_a_loss_that_returns_one_number_is_a_mean():
    def mean_squared_error(y, p):
        return tf.reduce_mean((y - p) ** 2)

    assert_both_equal(lambda: mlp("sgd", mean_squared_error, outputs=2), X, TARGETS)


@pytest.mark.parametrize("micro_batch_size", [1, *(slow(n) for n in (16, 1000))])
def test_sizes_from_one_example_to_more_than_a_batch(micro_batch_size):
    assert_both_equal(lambda: mlp("sgd"), X, LABELS, micro_batch_size=micro_batch_size, epochs=2)


def test_masked_sequences_through_an_embedding():
    """Word 0 is padding, so rows count 1 to 5 of 5 positions; gradients of an embedding come as rows."""
    lengths = RNG.integers(1, 6, NUM_EXAMPLES)
    words = np.where(np.arange(5) < lengths[:, None], RNG.integers(1, 7, (NUM_EXAMPLES, 5)), 0)
    tags = RNG.integers(0, 3, (NUM_EXAMPLES, 5))

    def make():
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((5,), dtype="int32"), layers.Embedding(7, 4, mask_zero=True), layers.Dense(3)]
        )
        model.compile(
            optimizers.SGD(0.1), losses.SparseCategoricalCrossentropy(**SPARSE), metrics=["accuracy"]
        )
        return model

    assert_both_equal(make, words, tags)


def two_outputs(*losses_of_outputs, **options):
    keras.utils.set_random_seed(1)
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    hidden = layers.Dense(5, "tanh")(layers.Concatenate()([a, b]))
    outputs = {
        "label": layers.Dense(3, name="label")(hidden),
        "target": layers.Dense(2, name="target")(hidden),
    }
    model = keras.Model({"a": a, "b": b}, outputs)
    model.compile(
        optimizers.SGD(0.01),
        dict(zip(outputs, losses_of_outputs, strict=True)),
        loss_weights={"label": 0.3, "target": 2.0},
        **options,
    )
    return model


def test_dicts_of_inputs_and_outputs_with_a_reduction_each():
    """One loss is a sum and one a mean: no common weight of the parts would do for both."""
    both_losses = losses.SparseCategoricalCrossentropy(**SPARSE, reduction="sum"), losses.MeanSquaredError()
    data = {"a": X, "b": TARGETS}, {"label": LABELS, "target": TARGETS}
    assert_both_equal(lambda: two_outputs(*both_losses, metrics={"label": "accuracy"}), *data)


def test_masks_of_one_of_several_outputs_are_refused():
    model = two_outputs(
        losses.SparseCategoricalCrossentropy(**SPARSE, ignore_class=2), losses.MeanSquaredError()
    )
    TrainFunctions(model).use_accumulating(3)
    with pytest.raises(ValueError, match="one of 2 outputs divides by what its mask"):
        fit(model, {"a": X, "b": TARGETS}, {"label": LABELS, "target": TARGETS})


def test_a_mask_beside_an_activity_penalty_is_refused():
    loss = losses.SparseCategoricalCrossentropy(**SPARSE, ignore_class=2)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activity_regularizer="l2")])
    model.compile("sgd", loss)
    TrainFunctions(model).use_accumulating(3)
    with pytest.raises(ValueError, match="add losses of their own"):
        fit(model, X, LABELS)


def test_one_number_per_example_is_refused():
    model = mlp("sgd", losses.SparseCategoricalCrossentropy(**SPARSE, reduction=None))
    TrainFunctions(model).use_accumulating(3)
    with pytest.raises(ValueError, match='reduction="sum", which has the same gradient'):
        fit(model, X, LABELS)


# Ways to run a step.


@pytest.mark.parametrize(
    "options",
    [
        slow({"jit_compile": True}),
        {"steps_per_execution": 4},
        slow({"run_eagerly": True}),
    ],
    ids=str,
)
def test_ways_to_run_a_step(options):
    assert_both_equal(
        lambda: mlp(optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"], **options), X, LABELS, epochs=4
    )


@pytest.mark.slow
def test_xla_cuts_batches_that_it_has_not_seen_the_size_of():
    """20 = 7 + 7 + 6 and 17 = 6 + 6 + 5: two sizes of parts, for batches traced without a size."""
    assert_both_equal(
        lambda: mlp("sgd", jit_compile=True), X, LABELS, micro_batch_size=7, batch_size=20, epochs=2
    )


def half(initial_scale):
    scaled = optimizers.LossScaleOptimizer(
        optimizers.SGD(0.1), initial_scale=initial_scale, dynamic_growth_steps=4
    )
    model = mlp(scaled)
    # Else Keras traces its first step with the initial scale as a constant, and never lowers it there.
    scaled.build(model.trainable_variables)
    return model


def test_mixed_precision_with_a_loss_scale_that_grows():
    """Doubled after each 4 of 21 updates: 2^4 to 2^9. float16 has 11 bits, and a part rounds elsewhere than the batch."""
    floats("float32", "mixed_float16")
    plain, accumulated, expected, found = both(lambda: half(2.0**4), X.astype("float32"), LABELS)
    for one, other in zip(plain.weights, accumulated.weights, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), atol=2e-3)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=2e-3)
    assert accumulated.optimizer.dynamic_scale.numpy() == 2.0**9
    assert accumulated.optimizer.iterations.numpy() == 21


@pytest.mark.slow
def test_an_update_of_which_a_part_overflows_is_left_out_once():
    """Each of the s first updates halves the scale of 2^24 until no part overflows; 21 - s are made."""
    floats("float32", "mixed_float16")
    model = half(2.0**24)
    model.optimizer.dynamic_growth_steps = 1000
    TrainFunctions(model).use_accumulating(3)
    fit(model, X.astype("float32"), LABELS)
    left_out = 24 - np.log2(model.optimizer.dynamic_scale.numpy())
    assert 3 <= left_out == 21 - model.optimizer.iterations.numpy()
    assert all(np.isfinite(v.numpy()).all() for v in model.weights)


@pytest.mark.slow
def test_two_replicas():
    """Each cuts its own half; 36 = 16 + 16 + 4 examples, so halves are even."""

    def make():
        with mirrored().scope():
            return mlp(optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.2), metrics=["accuracy"])

    assert_both_equal(make, X[:36], LABELS[:36], epochs=3)


# What is not a function of the batch alone.


def test_batch_normalization_sees_the_parts():
    """Parts of 16 are 8 + 8, so the moving mean moves twice by 0.01 towards the mean of its half."""
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(momentum=0.99), layers.Dense(3)])
    model.compile("sgd", losses.SparseCategoricalCrossentropy(**SPARSE))
    TrainFunctions(model).use_accumulating(8)
    fit(model, X[:16], LABELS[:16], epochs=1)
    expected = 0.99 * 0.01 * X[:8].mean(0) + 0.01 * X[8:16].mean(0)
    np.testing.assert_allclose(model.layers[0].moving_mean.numpy(), expected, rtol=1e-12)
    assert model.optimizer.iterations.numpy() == 1


def test_dropout_draws_a_mask_for_each_part():
    """From equal inputs 1 and weights 1, kept units give loss = output = 2 x kept: parts of one mask would be equal."""

    class Outputs(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="spread")
            self.low = self.add_weight(name="low", initializer="ones")
            self.high = self.add_weight(name="high", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.low.assign(tf.minimum(self.low, tf.reduce_mean(y_pred) / 16))
            self.high.assign(tf.maximum(self.high, tf.reduce_mean(y_pred) / 16))

        def result(self):
            return self.high - self.low

    model = keras.Sequential(
        [keras.Input((16,)), layers.Dropout(0.5, seed=0), layers.Dense(1, kernel_initializer="ones")]
    )
    model.compile(optimizers.SGD(0.0), "mse", metrics=[Outputs()])
    TrainFunctions(model).use_accumulating(1)
    assert fit(model, np.ones((8, 16)), np.zeros((8, 1)), epochs=1)["spread"][0] > 0.1


# A train_step of one's own.


class Distilled(keras.Sequential):
    """A step with a loss, a metric and logs of its own, that trains one layer of two and has a None gradient."""

    def __init__(self, *args):
        super().__init__(*args)
        self.own = keras.metrics.Mean(name="own_loss")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(losses.mean_squared_error(y, self(x, training=True)))
        variables = [*self.layers[0].trainable_variables, *self.layers[2].trainable_variables]
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.own.update_state(loss)
        return {
            "mse": self.own.result(),
            "twice": 2 * loss,
            "rate": self.optimizer.learning_rate,
            "updates": tf.constant(3),
        }


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_train_step_of_ones_own_with_its_own_logs():
    def make():
        keras.utils.set_random_seed(1)
        unused = layers.Dense(2)
        unused.build((None, 4))
        model = Distilled([keras.Input((4,)), layers.Dense(5), layers.Dense(2), _Beside(unused)])
        model.compile(optimizers.SGD(0.1, momentum=0.5))
        return model

    plain, accumulated, expected, found = both(make, X, TARGETS)
    assert set(found) == {"own_loss"} or set(found) == {"mse", "twice", "rate", "updates"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12)
    for one, other in zip(plain.variables, accumulated.variables, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), atol=1e-12)


class _Beside(layers.Layer):
    """Has weights that its output does not depend on."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return x


def test_returned_logs_are_those_of_the_batch():
    """Whatever fit makes of them: a metric's result after the last part, and the weighted mean of another number."""
    model = Distilled([keras.Input((4,)), layers.Dense(5), layers.Dense(2), layers.Dense(2)])
    model.compile(optimizers.SGD(0.0))
    mse = np.mean((model.predict(X, verbose=0) - TARGETS) ** 2)
    TrainFunctions(model).use_accumulating(3)
    logs = model.train_function(iter([(X, TARGETS)]))
    assert float(logs["mse"]) == pytest.approx(mse, rel=1e-12)
    assert float(logs["twice"]) == pytest.approx(2 * mse, rel=1e-12)
    assert int(logs["updates"]) == 3 and float(logs["rate"]) == 0.0


class Step(keras.Sequential):
    """A model whose step is what the test says."""

    def train_step(self, data):
        return self.do(data, super().train_step)

    @classmethod
    def compiled(cls, do):
        model = cls([keras.Input((4,)), layers.Dense(3)])
        model.compile("sgd", losses.SparseCategoricalCrossentropy(**SPARSE))
        model.do = do
        return model


def no_update(data, step):
    return {"loss": tf.constant(0.0)}


def two_updates(data, step):
    step(data)
    return step(data)


def compiled_inside(data, step):
    return tf.function(step)(data)


@pytest.mark.parametrize(
    "do, message",
    [(no_update, "did not call"), (two_updates, "called 2 times"), (compiled_inside, "inside a tf.function")],
)
def test_a_step_that_does_not_apply_once_is_refused(do, message):
    model = Step.compiled(do)
    TrainFunctions(model).use_accumulating(3)
    with pytest.raises(ValueError, match=message):
        fit(model, X, LABELS)


def test_a_step_with_two_optimizers_is_refused_and_leaves_keras_as_it_was():
    other = optimizers.Adam()
    before = {cls: vars(cls).get("apply") for cls in (optimizers.Optimizer, optimizers.LossScaleOptimizer)}

    def do(data, step):
        other.apply([tf.zeros_like(v) for v in model.trainable_variables], model.trainable_variables)
        return step(data)

    model = Step.compiled(do)
    TrainFunctions(model).use_accumulating(3)
    with pytest.raises(ValueError, match="a second optimizer, 'adam"):
        fit(model, X, LABELS)
    assert {cls: vars(cls).get("apply") for cls in before} == before
    assert "apply" not in vars(model.optimizer)


def test_a_log_without_a_value_for_the_batch_is_refused():
    model = Step.compiled(lambda data, step: {**step(data), "outputs": tf.zeros(3)})
    TrainFunctions(model).use_accumulating(3)
    with pytest.raises(ValueError, match="log of shape"):
        fit(model, X, LABELS)
