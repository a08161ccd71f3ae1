"""Ghost batch normalization against NumPy part by part, and against a loop over parts through Keras' layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import finite_difference_hessian
from replicas import mirrored
from slow import slow

import tf_lbgap as lb
from tf_lbgap.layers import GhostBatchNormalization

layers = keras.layers
RNG = np.random.default_rng(0)
SETTINGS = {"momentum": 0.7, "epsilon": 0.01}


def floats(name, policy=None):
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(policy or name)


@pytest.fixture(autouse=True)
def _float64():
    floats("float64")


def cut(n, size):
    """Where the parts begin and end: as many as are needed, from floor(i n / k) on."""
    k = -(-n // size)
    return [(i * n // k, (i + 1) * n // k) for i in range(k)]


def ghost(size, shape, **options):
    """A built layer whose parameters are not those of the beginning, and the same in Keras' class."""
    pair = (
        GhostBatchNormalization(size, **SETTINGS, **options),
        layers.BatchNormalization(**SETTINGS, **options),
    )
    for layer in pair:
        layer.build((None, *shape))
        rng = np.random.default_rng(1)
        layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return pair


def by_hand(layer, x, size, axis=-1):
    """Outputs and moving statistics after one batch."""
    weights = [w.numpy() for w in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)]
    gamma, beta, mean, variance = weights
    outputs = []
    for low, high in cut(len(x), size):
        rows = np.moveaxis(x[low:high], axis, -1)
        flat = rows.reshape(-1, rows.shape[-1])
        normal = (rows - flat.mean(0)) / np.sqrt(flat.var(0) + 0.01)
        outputs.append(np.moveaxis(normal * gamma + beta, -1, axis))
        mean, variance = 0.7 * mean + 0.3 * flat.mean(0), 0.7 * variance + 0.3 * flat.var(0)
    return np.concatenate(outputs), mean, variance


@pytest.mark.parametrize("is_known", [True, False], ids=["size known", "size unknown"])
@pytest.mark.parametrize(("n", "size"), [(12, 4), (11, 4), (7, 3), (3, 8), (5, 1), (9, 9)])
@pytest.mark.parametrize(
    ("shape", "axis"), [((3,), -1), ((4, 5, 3), -1), ((3, 4, 2), 1), ((2, 3, 4), 2)], ids=str
)
def test_each_part_is_normalized_by_itself_and_moves_the_statistics_in_turn(shape, axis, n, size, is_known):
    """11 examples in parts of at most 4 are 3, 4 and 4; the traced function is not told how many."""
    layer, _ = ghost(size, shape, axis=axis)
    x = RNG.normal(size=(n, *shape)) * 3 + 1
    expected, mean, variance = by_hand(layer, x, size, axis)
    call = tf.function(lambda t: layer(t, training=True))
    if not is_known:
        call = call.get_concrete_function(tf.TensorSpec((None, *shape), "float64"))
    np.testing.assert_allclose(call(tf.constant(x)), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-12)


def test_parts_are_told_apart_where_examples_times_parts_is_beyond_32_bits():
    x = RNG.normal(size=(70_001, 1))
    layer, _ = ghost(2, (1,))
    expected, _, _ = by_hand(layer, x, 2)
    np.testing.assert_allclose(layer(x, training=True), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("n", [12, 11])
def test_gradients_are_the_averages_over_parts_through_the_layer_of_keras(n):
    """Of inputs, γ and β, where a part of nᵢ of n examples weighs nᵢ / n in the mean loss."""
    layer, keras_layer = ghost(4, (5, 3))
    x, y = tf.constant(RNG.normal(size=(n, 5, 3))), tf.constant(RNG.normal(size=(n, 5, 3)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_mean((layer(x, training=True) - y) ** 4)
    found = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
    of_inputs, of_gamma, of_beta = [], 0.0, 0.0
    for low, high in cut(n, 4):
        part = x[low:high]
        with tf.GradientTape() as tape:
            tape.watch(part)
            loss = tf.reduce_mean((keras_layer(part, training=True) - y[low:high]) ** 4) * (high - low) / n
        gradients = tape.gradient(loss, [part, keras_layer.gamma.value, keras_layer.beta.value])
        of_inputs.append(gradients[0])
        of_gamma, of_beta = of_gamma + gradients[1], of_beta + gradients[2]
    for ours, theirs in zip(found, (tf.concat(of_inputs, 0), of_gamma, of_beta), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(layer.moving_variance, keras_layer.moving_variance, rtol=1e-12)


X, LABELS = RNG.normal(size=(37, 6, 6, 2)), RNG.integers(0, 3, 37)


def convolutional(normalization, **options):
    keras.utils.set_random_seed(1)
    stack = [layers.Conv2D(4, 3), normalization, layers.ReLU(), layers.Flatten(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((6, 6, 2)), *stack])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, **options)
    return model


def fit(model, batch_size=16, x=X, y=LABELS, micro_batch_size=None):
    functions = lb.training.TrainFunctions(model)
    if micro_batch_size:
        functions.use_accumulating(micro_batch_size)
    model.fit(x, y, batch_size=batch_size, epochs=2, shuffle=False, verbose=0)
    functions.restore()
    return model.get_weights()


def assert_same(one, other, atol):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(second, first, rtol=0, atol=atol)


@pytest.mark.parametrize("micro", [None, 8], ids=["whole batches", "micro-batches twice as large"])
def test_a_fit_is_that_of_accumulation_over_the_ghost_batches(micro):
    """37 examples in batches of 16 are 16, 16 and a ragged 5, in parts of 4, and of 2 and 3.

    Micro-batches of 8 are cut into 4 and 4, those of 5 into 2 and 3: the same ghost batches.
    """
    found = fit(convolutional(GhostBatchNormalization(4, **SETTINGS)), micro_batch_size=micro)
    expected = fit(convolutional(layers.BatchNormalization(**SETTINGS)), micro_batch_size=4)
    assert_same(expected, found, atol=1e-12)


def test_one_large_ghost_batch_is_batch_normalization():
    found = fit(convolutional(GhostBatchNormalization(100, **SETTINGS)))
    assert_same(fit(convolutional(layers.BatchNormalization(**SETTINGS))), found, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("micro", "n"), [(None, 37), slow(7, 28)], ids=["whole batches", "micro-batches"])
def test_compiled_by_xla_it_is_the_same_for_even_and_ragged_batches(micro, n):
    """Batches of 14 in parts of at most 4 are 3, 4, 3 and 4; the last one has 9.

    (The package cuts micro-batches of two sizes in another order for XLA, so those are even here.)
    """
    floats("float32")
    found = []
    for compiles in (False, True):
        keras.utils.set_random_seed(1)
        stack = [layers.Dense(4), GhostBatchNormalization(4), layers.Dense(2)]
        model = keras.Sequential([keras.Input((3,)), *stack])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", jit_compile=compiles)
        found.append(fit(model, 14, X[:n, 0, :3, 0], X[:n, 0, :2, 1], micro))
    assert_same(*found, atol=2e-6)


@pytest.mark.slow
def test_two_replicas_make_the_updates_of_one_where_each_has_whole_ghost_batches():
    """Moving statistics are those of the first replica's ghost batches, as Keras keeps them."""
    floats("float32")
    x, y = X[:32].astype("float32"), LABELS[:32]
    one = fit(convolutional(GhostBatchNormalization(4)), x=x, y=y)
    with mirrored().scope():
        model = convolutional(GhostBatchNormalization(4))
    two = fit(model, x=x, y=y)
    is_moving = ["moving" in weight.name for weight in model.weights]
    trained = [[w for w, moving in zip(ws, is_moving, strict=True) if not moving] for ws in (one, two)]
    assert_same(*trained, atol=2e-6)


@pytest.mark.parametrize("n", [8, 7])
def test_masked_positions_do_not_count(n):
    layer, keras_layer = ghost(3, (5, 2))
    x, mask = RNG.normal(size=(n, 5, 2)), RNG.random((n, 5)) < 0.6
    mask[:2] = False  # whole examples without a position
    found = layer(x, training=True, mask=tf.constant(mask))
    expected = [keras_layer(x[a:b], training=True, mask=tf.constant(mask[a:b])) for a, b in cut(n, 3)]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.moving_mean, keras_layer.moving_mean, rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance, keras_layer.moving_variance, rtol=1e-12)


def test_a_mask_of_masking_arrives():
    model = keras.Sequential(
        [keras.Input((4, 2)), layers.Masking(0.0), GhostBatchNormalization(2, **SETTINGS)]
    )
    x = RNG.normal(size=(4, 4, 2))
    x[:, 2:] = 0
    model(x, training=True)
    parts = [x[a : a + 2, :2].reshape(-1, 2).mean(0) for a in (0, 2)]
    # Keras divides by the count and its epsilon, 1e-7.
    np.testing.assert_allclose(model.layers[-1].moving_mean, 0.7 * 0.3 * parts[0] + 0.3 * parts[1], rtol=1e-6)


@pytest.mark.parametrize("is_frozen", [False, True], ids=["inference", "frozen"])
def test_in_inference_and_frozen_it_is_the_layer_of_keras(is_frozen):
    layer, keras_layer = ghost(3, (4,))
    layer.trainable = keras_layer.trainable = not is_frozen
    x, before = RNG.normal(size=(7, 4)), layer.get_weights()
    np.testing.assert_array_equal(layer(x, training=is_frozen), keras_layer(x, training=is_frozen))
    assert_same(before, layer.get_weights(), atol=0)


def test_no_examples_move_nothing():
    """As on a replica that is given none, where Keras' own layer has NaN from then on."""
    layer, _ = ghost(3, (2, 4))
    before = layer.get_weights()
    assert layer(np.zeros((0, 2, 4)), training=True).shape == (0, 2, 4)
    assert_same(before, layer.get_weights(), atol=0)


def test_without_scale_or_center():
    x = RNG.normal(size=(6, 2))
    layer = GhostBatchNormalization(3, scale=False, center=False, **SETTINGS)
    parts = [(part - part.mean(0)) / np.sqrt(part.var(0) + 0.01) for part in (x[:3], x[3:])]
    np.testing.assert_allclose(layer(x, training=True), np.concatenate(parts), rtol=1e-10)


def test_statistics_of_float16_do_not_overflow():
    """The variance, 10⁶, is above the largest float16; the outputs are ±1."""
    floats("float32", "mixed_float16")
    layer = GhostBatchNormalization(2, momentum=0.0)
    x = np.array([[-1000.0], [1000.0]] * 3)
    y = layer(x, training=True)
    assert y.dtype == "float16" and layer.moving_variance.dtype == "float32"
    np.testing.assert_allclose(y, np.sign(x), rtol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, [1e6], rtol=1e-6)


def test_recalibrate_sets_the_statistics_of_all_data():
    model = convolutional(GhostBatchNormalization(4))
    lb.training.recalibrate(model, [(X[:20], None), (X[20:], None)])
    inputs = model.layers[0](X).numpy().reshape(-1, 4)
    np.testing.assert_allclose(model.layers[1].moving_mean, inputs.mean(0), rtol=1e-10)
    np.testing.assert_allclose(model.layers[1].moving_variance, inputs.var(0), rtol=1e-10)


def test_second_derivatives_in_training_are_those_of_finite_differences():
    """Through the variance as well, where tf.nn.moments stops a gradient: without a context and in a measure."""
    keras.utils.set_random_seed(0)
    layer = GhostBatchNormalization(3, momentum=1.0)
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, use_bias=False), layer])
    x, y = tf.constant(RNG.normal(size=(7, 2))), tf.constant(RNG.normal(size=(7, 2)))
    kernel = model.layers[0].kernel.value

    def loss():
        return tf.reduce_mean((model(x, training=True) - y) ** 2)

    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = loss()
        gradient = inner.gradient(value, kernel)
    found = tf.reshape(outer.jacobian(gradient, kernel), (4, 4))
    expected = finite_difference_hessian(model, loss)
    np.testing.assert_allclose(found, expected[:4, :4], atol=1e-8)
    hessian = lb.curvature.HessianOperator(model, "mse", [(x, y)], batch_normalization="batch")
    np.testing.assert_allclose(np.stack([hessian.matvec(e) for e in np.eye(8)], 1), expected, atol=1e-8)


def test_a_saved_model_is_read_back_and_goes_on(tmp_path):
    model = convolutional(GhostBatchNormalization(4, **SETTINGS))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[1].get_config() == model.layers[1].get_config()
    assert_same(fit(model), fit(loaded), atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0,), {}, "ghost_batch_size must be a whole number of examples from 1 up, but got 0"),
        ((8.0,), {}, "ghost_batch_size must be a whole number of examples from 1 up, but got 8.0"),
        ((True,), {}, "but got True"),
        ((8,), {"renorm": True}, "GhostBatchNormalization has no renorm=True"),
        ((8,), {"synchronized": True}, "GhostBatchNormalization has no synchronized=True"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(arguments, options, message):
    with pytest.raises(ValueError, match=message) as error:
        GhostBatchNormalization(*arguments, **options)
    assert "\n" not in str(error.value)


def test_the_axis_of_the_examples_is_refused():
    with pytest.raises(ValueError, match="is that of the examples"):
        GhostBatchNormalization(2, axis=0).build((8, 3))


def test_a_mask_of_another_rank_is_refused():
    layer, _ = ghost(3, (5, 2))
    with pytest.raises(ValueError, match="should have one axis less than the inputs"):
        layer(np.ones((4, 5, 2)), training=True, mask=tf.constant([True] * 4))
