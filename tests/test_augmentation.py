"""Augmentation: where a spot of light goes says what was done to its image; and what is the same twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from replicas import mirrored

import tf_lbgap as lb
from tf_lbgap.data.augmentation import keskar, seeded

SIZE, MANY = 33, 400  # the centre is a pixel
CENTRE = (SIZE - 1) / 2
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE] - CENTRE


def spots(row, column, count=MANY):
    """Images of one spot, wide enough that interpolation leaves its centre where it is."""
    image = np.exp(-((ROWS - row) ** 2 + (COLUMNS - column) ** 2) / (2 * 1.5**2))
    return np.repeat(image.astype("float32")[None], count, axis=0)


def centres(images):
    """Where the spots are, (row, column) from the centre, shape (n, 2)."""
    images = np.asarray(images, "float64")
    total = images.sum((1, 2))
    return np.stack([(images * grid).sum((1, 2)) / total for grid in (ROWS, COLUMNS)], axis=1)


def only(**options):
    """Augmentation that does one thing."""
    return keskar(**{"rotation": 0, "shift": 0, "flip": False, "fill_mode": "constant", **options})


def assert_uniform(values, largest):
    """Within ±largest, and as spread as uniform numbers: mean and variance within 4.5 standard errors."""
    assert np.abs(values).max() <= largest * 1.01
    assert np.abs(values).max() > 0.97 * largest
    assert abs(values.mean()) < 4.5 * largest / np.sqrt(3 * len(values))
    variance, error = largest**2 / 3, largest**2 * np.sqrt((1 / 5 - 1 / 9) / len(values))
    assert abs(np.mean(values**2) - variance) < 4.5 * error


@pytest.mark.parametrize("largest", [10, 45])
def test_rotations_are_uniform_within_the_angle_in_degrees(largest):
    at = centres(only(rotation=largest)(spots(0, 11), seed=[1, 2]))
    np.testing.assert_allclose(np.hypot(*at.T), 11, rtol=0.01)
    assert_uniform(np.degrees(np.arctan2(at[:, 0], at[:, 1])), largest)


def test_shifts_are_uniform_within_the_share_of_height_and_of_width():
    at = centres(only(shift=0.2)(spots(0, 0), seed=[1, 2]))
    for values in at.T:
        assert_uniform(values, 0.2 * SIZE)
    assert abs(np.corrcoef(at.T)[0, 1]) < 4.5 / np.sqrt(MANY)


def test_half_of_the_images_are_mirrored_left_to_right():
    at = centres(only(flip=True)(spots(5, 8), seed=[1, 2]))
    np.testing.assert_allclose(at[:, 0], 5, atol=1e-3)
    np.testing.assert_allclose(np.abs(at[:, 1]), 8, atol=1e-3)
    assert abs(np.sum(at[:, 1] < 0) - MANY / 2) < 4.5 * np.sqrt(MANY) / 2


def test_the_default_is_all_three_as_in_the_paper():
    """A spot at (0, 6) comes to ±6 (sin, cos) of at most 10 degrees, and then at most a fifth of the image further."""
    at = centres(keskar(fill_mode="constant")(spots(0, 6), seed=[1, 2]))
    assert np.abs(at[:, 0]).max() <= 0.2 * SIZE + 6 * np.sin(np.radians(10)) + 0.1
    assert np.abs(at[:, 0]).max() > 0.19 * SIZE
    assert np.abs(np.abs(at[:, 1]) - 6).max() <= 0.2 * SIZE + 0.2
    assert abs(np.sum(at[:, 1] < 0) - MANY / 2) < 60


@pytest.mark.parametrize(("fill_mode", "border"), [("nearest", 1.0), ("constant", 0.0)])
def test_what_comes_in_at_the_border(fill_mode, border):
    """Of images that are all light."""
    images = np.ones((50, 8, 8), "float32")
    shifted = np.asarray(only(shift=0.5, fill_mode=fill_mode)(images, seed=[0, 0]))
    assert shifted.min() == border
    assert shifted.max() == 1


def test_the_same_seed_gives_the_same_images_and_another_others():
    augment, images = keskar(), spots(3, 4, 5)
    one, same, other = (np.asarray(augment(images, seed=seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(np.asarray(keskar()(images, seed=[1, 2])), one)
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(one, other, strict=True))
    assert np.abs(one[0] - one[1]).max() > 0.01  # each image its own


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)], ids=["grey", "colour"])
def test_shape_and_dtype_stay(shape, dtype):
    images = (np.random.default_rng(0).random((4, *shape)) * 200).astype(dtype)
    x, y = keskar()(images, np.arange(4), seed=[0, 1])
    assert (x.shape, x.dtype.name) == (images.shape, dtype)
    np.testing.assert_array_equal(y, np.arange(4))
    in_float = np.asarray(keskar()(images.astype("float32"), seed=[0, 1]))
    np.testing.assert_allclose(np.asarray(x, "float64"), in_float, atol=0.5 if dtype == "uint8" else 0.1)


def test_flattened_images_are_those_of_their_shape():
    images = np.random.default_rng(0).random((4, 8, 6)).astype("float32")
    flat = keskar(image_shape=(8, 6))(images.reshape(4, 48), seed=[0, 1])
    np.testing.assert_array_equal(np.reshape(flat, (4, 8, 6)), keskar()(images, seed=[0, 1]))


def test_mixed_precision_of_the_model_is_not_that_of_the_images():
    images = np.random.default_rng(0).random((4, 8, 8)).astype("float32")
    expected = np.asarray(keskar()(images, seed=[0, 1]))
    keras.config.set_dtype_policy("mixed_float16")
    np.testing.assert_array_equal(keskar()(images, seed=[0, 1]), expected)


# In a stream.

N, BATCH_SIZE = 43, 8  # the last batch holds 3
X = np.random.default_rng(1).random((N, 8, 8, 1)).astype("float32")
LABELS = np.arange(N) % 3


class Seen(keras.layers.Layer):
    """Passes images on and notes those of each training batch."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def call(self, inputs, training=False):
        if not training:
            return inputs

        def note(images):
            self.batches.append(images.copy())
            return images

        noted = tf.numpy_function(note, [inputs], tf.float32)
        noted.set_shape(inputs.shape)
        return noted


def fitted(*, seed=0, epochs=2, **options):
    """The images of each batch that `fit` trained on."""
    seen = Seen()
    model = keras.Sequential([keras.Input((8, 8, 1)), seen, keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = lb.data.Batches(X, LABELS, batch_size=BATCH_SIZE, seed=seed, map=keskar())
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0, **options)
    return seen.batches


def test_each_epoch_is_augmented_anew_and_a_rerun_as_before():
    """Batches are made in parallel; two reruns give the same to the bit."""
    first = fitted()
    assert [len(batch) for batch in first] == 2 * [8, 8, 8, 8, 8, 3]
    for _ in range(2):
        for one, other in zip(first, fitted(), strict=True):
            np.testing.assert_array_equal(one, other)
    order = [lb.data.Batches(X, batch_size=BATCH_SIZE).order(epoch) for epoch in range(2)]
    epochs = [np.concatenate(first[6 * e : 6 * e + 6])[np.argsort(order[e])] for e in range(2)]  # as stored
    assert all(np.abs(one - other).max() > 0.01 for one, other in zip(*epochs, strict=True))
    assert all(np.abs(one - x).max() > 0.01 for one, x in zip(epochs[0], X, strict=True))


def test_a_fit_that_goes_on_sees_the_images_that_it_would_have_seen():
    whole = fitted(epochs=3)
    for one, other in zip(whole[12:], fitted(epochs=3, initial_epoch=2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_of_the_stream_gives_other_images():
    assert np.abs(fitted(epochs=1)[0] - fitted(epochs=1, seed=1)[0]).max() > 0.01


def test_evaluation_sees_the_images_as_they_are():
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = lb.data.Batches(X, LABELS, batch_size=BATCH_SIZE, map=keskar())
    expected = model.evaluate(X, LABELS, verbose=0)
    np.testing.assert_allclose(model.evaluate(batches, verbose=0), expected, rtol=1e-6)


def test_a_rerun_on_two_replicas_is_the_same():
    """Batches of 8 come to two replicas as 4 and 4, and the same ones in a rerun."""

    def run():
        with mirrored().scope():
            model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.set_weights([np.ones((64, 3)) * np.arange(3) / 64, np.zeros(3)])
        batches = lb.data.Batches(X, LABELS, batch_size=BATCH_SIZE, map=keskar())
        steering = lb.callbacks.BatchSizeScheduler(batches, lb.schedules.constant(BATCH_SIZE))
        model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[steering])
        return model.get_weights()

    for one, other in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_layers_of_keras_work_and_a_config_makes_them():
    from tf_lbgap.experiment import calls

    layer = {"call": "keras.layers.RandomZoom", "height_factor": 0.3}
    augment = calls.make({"call": "data.augmentation.seeded", "layers": [layer]})
    images = spots(3, 4, 5)
    one, same, other = (np.asarray(augment(images, seed=seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
    assert calls.make({"call": "data.augmentation.keskar"})(images, seed=[0, 0]).shape == images.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": 200}, "rotation=200 should be a number from 0 to 180"),
        ({"rotation": "10"}, "rotation='10' should be"),
        ({"shift": -0.1}, "shift=-0.1 should be a number from 0 to 1"),
        ({"fill_mode": "edge"}, "fill_mode='edge' should be one of"),
        ({"flip": False, "rotation": 0, "shift": 0}, "nothing is augmented"),
        ({"image_shape": 8}, "image_shape=8 should be"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:12],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        keskar(**options)


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"pass image_shape=\(height, width\)"):
        keskar()(np.zeros((4, 64), "float32"), seed=[0, 0])
    with pytest.raises(ValueError, match="no flattened images"):
        keskar(image_shape=(8, 8))(np.zeros((4, 63), "float32"), seed=[0, 0])
    with pytest.raises(ValueError, match="Keras' random image layers"):
        seeded([keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="layers is empty"):
        seeded([])
