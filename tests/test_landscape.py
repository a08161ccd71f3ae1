"""Landscapes against closed forms, against NumPy's own networks, and against what they must leave alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import floatx

from tf_lbgap import landscape
from tf_lbgap.batch_normalization import recalibrate
from tf_lbgap.curvature import LossSurface
from tf_lbgap.landscape.filters import filter_axes
from tf_lbgap.landscape.weights import flat_weights

layers = keras.layers


@pytest.fixture(autouse=True)
def _float64():
    with floatx("float64"):
        yield


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def ragged(*arrays):
    """Batches of 3: the last of 8 examples holds 2, the last of 10 holds 1."""
    return [tuple(a[i : i + 3] for a in arrays) for i in range(0, len(arrays[0]), 3)]


def regression():
    """A linear model, and training and test data; its loss is ‖Xw - y‖² / N."""
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1, use_bias=False)])
    return model, (normal(8, 5), normal(8, 1)), (normal(10, 5, seed=1), normal(10, 1, seed=1))


def squared_error(data, w):
    x, y = data
    return np.mean((x @ w - y[:, 0]) ** 2)


def normalized_network():
    """Dense, batch normalization, Dense; moving statistics as after few updates: still the initial ones."""
    stack = layers.Dense(4), layers.BatchNormalization(), layers.Activation("tanh"), layers.Dense(3)
    model = keras.Sequential([keras.Input((2,)), *stack])
    for i, weight in enumerate(model.trainable_weights):
        weight.assign(normal(*weight.shape, seed=i))
    data = normal(8, 2), np.arange(8) % 3
    test = normal(10, 2, seed=5) * 2 + 1, np.arange(10) % 3
    return model, data, test


def sizes(model):
    return [int(np.prod(w.shape)) for w in model.trainable_weights]


def numpy_scores(model, flat, x, statistics_of):
    """What the normalized network makes of x at these weights, with the exact statistics of other inputs."""
    parts = np.split(flat, np.cumsum(sizes(model))[:-1])
    kernel, bias, gamma, beta, last, last_bias = (
        p.reshape(w.shape) for p, w in zip(parts, model.trainable_weights, strict=True)
    )
    z, reference = x @ kernel + bias, statistics_of @ kernel + bias
    z = gamma * (z - reference.mean(0)) / np.sqrt(reference.var(0) + model.layers[1].epsilon) + beta
    return np.tanh(z) @ last + last_bias


def numpy_loss_and_accuracy(scores, y):
    log_sum = np.log(np.exp(scores).sum(1))
    return np.mean(log_sum - scores[np.arange(len(y)), y]), np.mean(scores.argmax(1) == y)


CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")


def two_points(model, scale=1.0):
    n = sum(sizes(model))
    return normal(n, seed=10) * scale, normal(n, seed=11) * scale


def test_line_and_curve_of_linear_regression_have_their_closed_form_on_training_and_test_data():
    """With ragged batches: averaging batch means fails here."""
    model, data, test = regression()
    start, end = two_points(model)
    for path, factors in (
        (landscape.line, lambda a: (a, 1 - a)),
        (landscape.curve, lambda a: (np.sin(a * np.pi / 2), np.cos(a * np.pi / 2))),
    ):
        result = path(model, "mse", ragged(*data), start, end, test_batches=ragged(*test))
        assert result.path == path.__name__
        np.testing.assert_array_equal(result.alphas, np.linspace(-1, 2, 25))
        weights = [a * end + b * start for a, b in map(factors, result.alphas)]
        np.testing.assert_allclose(result.loss, [squared_error(data, w) for w in weights], rtol=1e-12)
        np.testing.assert_allclose(result.test_loss, [squared_error(test, w) for w in weights], rtol=1e-12)
        assert np.isnan(result.accuracy).all() and np.isnan(result.test_accuracy).all()


def test_plane_of_linear_regression_has_its_closed_form_alphas_along_the_rows():
    model, data, _ = regression()
    center, directions = normal(5, seed=2), normal(2, 5, seed=3)
    result = landscape.plane(
        model,
        "mse",
        ragged(*data),
        directions=directions,
        center=center,
        span=((-1, 1), (0, 3)),
        points=(3, 4),
    )
    np.testing.assert_array_equal(result.alphas, [-1, 0, 1])
    np.testing.assert_array_equal(result.betas, [0, 1, 2, 3])
    expected = [
        [squared_error(data, center + a * directions[0] + b * directions[1]) for b in result.betas]
        for a in result.alphas
    ]
    np.testing.assert_allclose(result.loss, expected, rtol=1e-12)
    assert result.test_loss is None and result.test_accuracy is None
    np.testing.assert_allclose(result.lengths, np.sqrt((directions**2).sum(1)))
    np.testing.assert_allclose(result.cosine, np.corrcoef(np.c_[directions, -directions])[0, 1])


def test_ends_of_line_and_curve_are_start_and_end_exactly():
    """cos(π/2) is 6e-17 in floating point, and 6e-17 of a start of size 1e20 would be seen."""
    model, data, _ = regression()
    start, end = two_points(model)
    start = start * 1e20
    at = LossSurface(model, "mse", ragged(*data)).value
    line = landscape.line(model, "mse", ragged(*data), start, end, alphas=[0, 1])
    curve = landscape.curve(model, "mse", ragged(*data), start, end, alphas=[0, 1, 2, -1])
    assert [*line.loss] == [at(start), at(end)]
    assert [*curve.loss] == [at(start), at(end), at(-start), at(-end)]


def test_recalibrated_statistics_are_those_of_the_training_data_at_each_point_for_the_test_data_too():
    model, data, test = normalized_network()
    start, end = two_points(model)
    alphas = [-0.5, 0, 0.3, 1]
    result = landscape.line(
        model, CROSSENTROPY, ragged(*data), start, end, alphas=alphas, test_batches=ragged(*test)
    )
    assert result.batch_normalization == "recalibrated"
    for i, alpha in enumerate(alphas):
        weights = alpha * end + (1 - alpha) * start
        for (x, y), loss, accuracy in (
            (data, result.loss[i], result.accuracy[i]),
            (test, result.test_loss[i], result.test_accuracy[i]),
        ):
            scores = numpy_scores(model, weights, x, statistics_of=data[0])
            expected = numpy_loss_and_accuracy(scores, y)
            np.testing.assert_allclose([loss, accuracy], expected, rtol=1e-10)
        own = numpy_scores(model, weights, test[0], statistics_of=test[0])
        assert abs(result.test_loss[i] - numpy_loss_and_accuracy(own, test[1])[0]) > 1e-3


def test_a_point_is_what_keras_evaluates_after_assigning_and_recalibrating():
    """Two layers of batch normalization: the statistics of the second depend on those of the first."""
    stack = layers.Conv2D(2, 2), layers.BatchNormalization(), layers.Conv2D(3, 2), layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4, 4, 1)), *stack, layers.GlobalMaxPooling2D()])
    model.compile("sgd", CROSSENTROPY, metrics=["accuracy"], run_eagerly=True)
    batches, test = ragged(normal(8, 4, 4, 1), np.arange(8) % 3), ragged(normal(7, 4, 4, 1), np.arange(7) % 3)
    directions = normal(2, sum(sizes(model)), seed=1)
    grid = {"directions": directions, "span": ((1, 2), (0, 3)), "points": 2, "test_batches": test}

    result = landscape.plane(model, model.loss, batches, **grid)
    stored = landscape.plane(model, model.loss, batches, batch_normalization="inference", **grid)

    center = np.concatenate([w.numpy().ravel() for w in model.trainable_weights])
    for i, j in ((0, 1), (1, 0)):
        weights = center + result.alphas[i] * directions[0] + result.betas[j] * directions[1]
        for weight, part in zip(
            model.trainable_weights, np.split(weights, np.cumsum(sizes(model))[:-1]), strict=True
        ):
            weight.assign(part.reshape(weight.shape))
        recalibrate(model, batches)
        for data, loss, accuracy in (
            (batches, result.loss, result.accuracy),
            (test, result.test_loss, result.test_accuracy),
        ):
            x, y = (np.concatenate(part) for part in zip(*data, strict=True))
            expected = model.evaluate(x, y, verbose=0)
            # Keras keeps the mean of its metrics in float32: half a unit of its last place is 6e-8.
            np.testing.assert_allclose([loss[i, j], accuracy[i, j]], expected, rtol=3e-7)
    assert (abs(result.loss - stored.loss) > 1e-2).all()


def test_batch_mode_uses_the_statistics_of_each_batch():
    model, data, test = normalized_network()
    start, end = two_points(model)
    result = landscape.line(
        model, CROSSENTROPY, data, start, end, alphas=[0.5], test_batches=test, batch_normalization="batch"
    )
    for (x, y), loss in ((data, result.loss), (test, result.test_loss)):
        scores = numpy_scores(model, (start + end) / 2, x, statistics_of=x)
        np.testing.assert_allclose(loss, numpy_loss_and_accuracy(scores, y)[0], rtol=1e-10)


def test_far_out_the_loss_is_infinite_or_nan_and_other_points_do_not_notice():
    model, data, _ = regression()
    start, end = two_points(model)
    alphas = [0, 1e200, 0.5]
    plain = landscape.line(model, "mse", data, start, end, alphas=alphas)
    assert plain.loss[1] == np.inf and np.isfinite(plain.loss[[0, 2]]).all()

    model, data, _ = normalized_network()
    start, end = two_points(model)
    result = landscape.line(model, CROSSENTROPY, data, start, end, alphas=alphas, test_batches=data)
    without = landscape.line(model, CROSSENTROPY, data, start, end, alphas=[0, 0.5])
    assert np.isnan([result.loss[1], result.accuracy[1], result.test_loss[1], result.test_accuracy[1]]).all()
    np.testing.assert_array_equal(result.loss[[0, 2]], without.loss)

    broken = np.full((8, 2), np.nan), data[1]
    with pytest.raises(ValueError, match="no finite mean"):  # at every point: the data are to blame
        landscape.line(model, CROSSENTROPY, broken, start, end, alphas=[0, 1])


def test_weights_are_taken_in_the_forms_in_which_users_have_them(tmp_path):
    model, data, _ = normalized_network()
    other = keras.models.clone_model(model)
    start, end = two_points(model)
    other_parts = np.split(end, np.cumsum(sizes(model))[:-1])
    for weight, part in zip(other.trainable_weights, other_parts, strict=True):
        weight.assign(part.reshape(weight.shape))
    other.save_weights(tmp_path / "end.weights.h5")
    trainable = [w.numpy() for w in other.trainable_weights]
    forms = (end, other, other.get_weights(), trainable, other.trainable_variables)
    forms += (tmp_path / "end.weights.h5", str(tmp_path / "end.weights.h5"), list(end))
    for form in forms:
        np.testing.assert_array_equal(flat_weights(model, form), end)
    result = landscape.line(model, CROSSENTROPY, data, start, other, alphas=[1])
    scores = numpy_scores(model, end, data[0], statistics_of=data[0])
    np.testing.assert_allclose(result.loss, numpy_loss_and_accuracy(scores, data[1])[0], rtol=1e-10)


def trained_state(model):
    return [v.numpy() for v in [*model.variables, *model.optimizer.variables]]


class StopsAfter:
    """Batches of which the pass number `passes` raises an error after the first batch."""

    def __init__(self, batches, passes, error):
        self.batches, self.left, self.error = batches, passes, error

    def __iter__(self):
        for i, batch in enumerate(self.batches):
            if i == 1:
                self.left -= 1
                if not self.left:
                    raise self.error
            yield batch


def test_the_model_is_the_same_to_the_last_bit_after_everything_and_after_errors(tmp_path):
    with floatx("float32"):
        stack = layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3)
        model = keras.Sequential([keras.Input((2,)), *stack])
        model.compile("adam", CROSSENTROPY, run_eagerly=True)
        x, y = normal(8, 2).astype("float32"), np.arange(8) % 3
        model.fit(x, y, epochs=2, verbose=0)
        model.save_weights(tmp_path / "a.weights.h5")
        model.fit(x, y, epochs=1, verbose=0)
        before = trained_state(model)
        batches, path = ragged(x, y), tmp_path / "a.weights.h5"

        for mode in ("recalibrated", "batch", "inference"):
            landscape.line(model, CROSSENTROPY, batches, path, model, alphas=[0, 1], batch_normalization=mode)
        landscape.plane(model, CROSSENTROPY, batches, points=2)
        landscape.trajectory(model, [path, model, [w * 2 for w in model.get_weights()]])
        # Two points, and for each a pass for the statistics and one for the loss.
        for error, passes in (
            (KeyboardInterrupt, 1),
            (ZeroDivisionError, 2),
            (ValueError, 3),
            (KeyboardInterrupt, 4),
        ):
            stopping = StopsAfter(batches, passes, error)
            ends = path, [w * 2 for w in model.get_weights()]
            with pytest.raises(error):
                landscape.line(model, CROSSENTROPY, stopping, *ends, alphas=[0.3, 0.6])
        for value, old in zip(trained_state(model), before, strict=True):
            np.testing.assert_array_equal(value, old)


def test_the_loss_is_traced_once_for_training_and_once_for_test_data_however_many_points():
    calls = []

    def loss(y, p):
        calls.append(1)
        return tf.reduce_mean(tf.square(y - p), axis=-1)

    model, data, test = regression()
    start, end = two_points(model)
    counts = []
    for points in (2, 20):
        calls.clear()
        alphas = np.linspace(0, 1, points)
        landscape.line(model, loss, ragged(*data), start, end, alphas=alphas, test_batches=ragged(*test))
        counts.append(len(calls))
    assert counts == [2, 2]


def test_batches_may_be_an_iterator_and_penalties_are_added_on_request():
    penalized = layers.Dense(1, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.25))
    model = keras.Sequential([keras.Input((5,)), penalized])
    _, data, _ = regression()
    start, end = two_points(model)
    for regularization in (False, True):
        result = landscape.line(
            model, "mse", iter(ragged(*data)), start, end, alphas=[0, 1], regularization=regularization
        )
        expected = [squared_error(data, w) + regularization * 0.25 * w @ w for w in (start, end)]
        np.testing.assert_allclose(result.loss, expected, rtol=1e-12)


# What a filter is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer, shape, filters",
    [
        (layers.Dense(4, use_bias=False), (3,), 4),
        (layers.Conv2D(4, 2, use_bias=False), (3, 3, 2), 4),
        (layers.Conv2D(4, 2, groups=2, use_bias=False), (3, 3, 2), 4),
        (layers.Conv1DTranspose(4, 2, use_bias=False), (3, 2), 4),
        (layers.Conv2DTranspose(4, 2, use_bias=False), (3, 3, 2), 4),
        (layers.DepthwiseConv2D(2, depth_multiplier=3, use_bias=False), (3, 3, 2), 6),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 4), 6),
        (layers.EinsumDense("abcd,cde->abe", (None, 5)), (3, 2, 4), 5),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_a_filter_is_the_weights_of_one_output(layer, shape, filters):
    """Without one filter exactly one output channel is silent, and each filter has its own."""
    model = keras.Sequential([keras.Input(shape), layer])
    (weight,) = model.trainable_weights
    weight.assign(normal(*weight.shape))
    x, values, axes = normal(4, *shape), weight.numpy(), filter_axes(layer, weight)
    indices = list(np.ndindex(*(values.shape[axis] for axis in axes)))
    assert len(indices) == filters
    silent = set()
    for index in indices:
        without = np.moveaxis(values.copy(), axes, range(len(axes)))
        without[index] = 0
        weight.assign(np.moveaxis(without, range(len(axes)), axes))
        output = model(x).numpy().reshape(4, -1, filters)
        (channel,) = np.flatnonzero((output == 0).all(axis=(0, 1)))
        silent.add(channel)
    assert len(silent) == filters


def by_variable(model, vector):
    parts = np.split(vector, np.cumsum(sizes(model))[:-1])
    return {
        w.path: (p.reshape(w.shape), w.numpy()) for p, w in zip(parts, model.trainable_weights, strict=True)
    }


def test_each_filter_of_a_direction_is_as_long_as_that_of_the_weights_and_biases_have_none():
    stack = layers.Conv2D(4, 2), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3)
    model = keras.Sequential([keras.Input((4, 4, 2)), *stack])
    for i, weight in enumerate(model.trainable_weights):
        weight.assign(normal(*weight.shape, seed=i))
    direction = landscape.filter_normalized_direction(model, seed=1)
    everything = landscape.filter_normalized_direction(model, seed=1, ignore_vectors=False)
    for (d, w), (all_d, _) in zip(
        by_variable(model, direction).values(), by_variable(model, everything).values(), strict=True
    ):
        if w.ndim == 1:
            assert not d.any()
            np.testing.assert_allclose(abs(all_d), abs(w), rtol=1e-12)
        else:
            for j in range(w.shape[-1]):
                np.testing.assert_allclose(np.linalg.norm(d[..., j]), np.linalg.norm(w[..., j]), rtol=1e-12)
            np.testing.assert_array_equal(d, all_d)
    twice = landscape.filter_normalized_direction(model, seed=1, like=[2 * w for w in model.get_weights()])
    np.testing.assert_allclose(twice, 2 * direction, rtol=1e-12)


def test_biases_with_two_axes_get_no_direction_and_the_layer_inside_another_says_what_a_filter_is():
    """Attention has biases (heads, key), a GRU (2, 3 units); an embedding is normalized row by row."""
    x = keras.Input((4,), dtype="int64")
    hidden = layers.Embedding(6, 4, name="tokens")(x)
    hidden = layers.MultiHeadAttention(2, 3, name="attention")(hidden, hidden)
    hidden = layers.LayerNormalization(axis=[1, 2])(hidden)
    model = keras.Model(x, layers.Bidirectional(layers.GRU(2))(hidden))
    for i, weight in enumerate(model.trainable_weights):
        weight.assign(normal(*weight.shape, seed=i))
    parts = by_variable(model, landscape.filter_normalized_direction(model, seed=99))
    zero = [path for path, (d, _) in parts.items() if not d.any()]
    assert zero == [path for path in parts if path.rsplit("/")[-1] in ("bias", "gamma", "beta")]
    assert len(zero) == 8
    for path, axes in (
        ("tokens/embeddings", 1),
        ("attention/query/kernel", 0),  # (width, heads, key)
        ("attention/attention_output/kernel", (0, 1)),  # (heads, key, width)
    ):
        (d, w), *_ = [pair for name, pair in parts.items() if name.endswith(path)]
        np.testing.assert_allclose((d**2).sum(axes), (w**2).sum(axes), rtol=1e-12)


def test_directions_of_two_seeds_are_nearly_orthogonal_and_of_one_seed_equal():
    """A Dense(50) on 100: the cosine has a standard deviation of about 1 / √5000 = 0.014."""
    model = keras.Sequential([keras.Input((100,)), layers.Dense(50)])
    a, b, again = (landscape.filter_normalized_direction(model, seed=seed) for seed in (0, 1, 0))
    assert abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) < 0.06
    np.testing.assert_array_equal(a, again)


def test_plane_without_directions_draws_two_scaled_as_the_center_with_the_center_in_the_middle():
    model, data, _ = regression()
    center = normal(5, seed=7)
    result = landscape.plane(model, "mse", data, center=center, points=3, seed=4)
    np.testing.assert_allclose(result.loss[1, 1], squared_error(data, center), rtol=1e-12)
    np.testing.assert_allclose(result.lengths, np.linalg.norm(center), rtol=1e-12)
    directions = [landscape.filter_normalized_direction(model, seed=(4, i), like=center) for i in range(2)]
    same = landscape.plane(model, "mse", data, center=center, points=3, directions=directions)
    np.testing.assert_array_equal(result.loss, same.loss)
    assert abs(result.cosine) < 0.99


# Trajectories ------------------------------------------------------------------------------------------------


def test_a_trajectory_in_a_plane_is_recovered():
    model, data, _ = regression()
    basis = np.linalg.qr(normal(5, 2))[0].T
    end, known = normal(5, seed=3), np.array([[3.0, 1.0], [2.0, -1.0], [1.0, 0.5], [0.0, 0.0]])
    path = landscape.trajectory(model, end + known @ basis)
    np.testing.assert_allclose(path.explained_variance_ratio.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(path.directions @ path.directions.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(path.coordinates @ path.directions, known @ basis, atol=1e-12)
    np.testing.assert_allclose(path.distances, 0, atol=1e-7)  # the root of rounding, 1e-16
    np.testing.assert_array_equal(path.origin, end)

    picture = landscape.plane(
        model, "mse", data, directions=path.directions, center=path.origin, span=path.span(margin=0), points=2
    )
    low, high = path.coordinates.min(0), path.coordinates.max(0)
    corner = end + np.array([high[0], low[1]]) @ path.directions
    np.testing.assert_allclose(picture.loss[1, 0], squared_error(data, corner), rtol=1e-10)


@pytest.mark.parametrize("piece", [7, 2**22])
def test_directions_are_singular_vectors_seen_from_the_final_weights(piece, monkeypatch):
    """Not principal components, which are taken about the mean; and also when summed up piece by piece."""
    monkeypatch.setattr("tf_lbgap.landscape.checkpoints._PIECE", piece)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5)])
    weights = np.cumsum(normal(9, 35), axis=0)
    path = landscape.trajectory(model, list(weights), num_directions=3)
    moved = weights - weights[-1]
    u, s, vt = np.linalg.svd(moved, full_matrices=False)
    signs = np.sign(u[0, :3])
    np.testing.assert_allclose(path.directions, vt[:3] * signs[:, None], atol=1e-10)
    np.testing.assert_allclose(path.coordinates, u[:, :3] * s[:3] * signs, atol=1e-10)
    np.testing.assert_allclose(path.explained_variance_ratio, s[:3] ** 2 / (s**2).sum(), rtol=1e-10)
    off = moved - moved @ vt[:3].T @ vt[:3]
    np.testing.assert_allclose(path.distances[:-1], np.linalg.norm(off, axis=1)[:-1], rtol=1e-9)
    low, high = path.span(margin=0.5).T
    np.testing.assert_allclose(high - low, 2 * np.ptp(path.coordinates, axis=0))


def test_a_second_direction_a_million_times_shorter_is_still_orthogonal():
    """From the Gram matrix alone it would be tilted by 1e-16 · (1e6)² = 1e-4."""
    model, *_ = regression()
    basis = np.linalg.qr(normal(5, 2))[0].T
    known = np.array([[1.0, 0.0], [0.5, 1e-6], [0.2, -1e-6], [0.0, 0.0]])
    path = landscape.trajectory(model, known @ basis)
    np.testing.assert_allclose(path.directions @ path.directions.T, np.eye(2), atol=1e-12)


# Bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"start": np.zeros(4)}, r"start has shape \(4,\).*has 5 trainable weights"),
        ({"end": [np.zeros((4, 1))]}, r"end is a list of 1 arrays of shapes \[\(4, 1\)\]"),
        ({"end": np.full(5, np.nan)}, "end holds 5 weights that are NaN"),
        ({"end": ["a"]}, "end has shape"),
        ({"alphas": []}, "alphas is .*at least one finite number"),
        ({"alphas": [0, np.inf]}, "alphas is"),
        ({"batch_normalization": "exact"}, "batch_normalization is 'exact'"),
        ({"variables": "dense"}, "all trainable weights move"),
    ],
)
def test_bad_lines_are_refused_with_what_to_do(change, message):
    model, data, _ = regression()
    arguments = {"start": np.zeros(5), "end": np.ones(5), **change}
    for path in (landscape.line, landscape.curve):
        with pytest.raises(ValueError, match=message):
            path(model, "mse", data, **arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"directions": np.ones((3, 5))}, r"directions has shape \(3, 5\)"),
        ({"directions": np.ones((2, 4))}, r"shape \(2, 5\)"),
        ({"directions": [np.ones(5), np.zeros(5)]}, "A direction is 0 everywhere"),
        ({"center": np.zeros(5)}, "A direction is 0 everywhere"),
        ({"center": np.zeros(6)}, "center has shape"),
        ({"span": (1, -1)}, "span is"),
        ({"span": (1, 2, 3)}, "span is"),
        ({"points": 1}, "points is 1"),
        ({"points": (3, 2.5)}, "points is"),
    ],
)
def test_bad_planes_are_refused_with_what_to_do(change, message):
    model, data, _ = regression()
    with pytest.raises(ValueError, match=message):
        landscape.plane(model, "mse", data, **change)


def test_bad_trajectories_are_refused_with_what_to_do():
    model, *_ = regression()
    straight = np.outer([3, 2, 1, 0], np.ones(5))
    for weights, number, message in (
        (normal(2, 5), 2, "num_directions is 2 with 2 checkpoints"),
        (straight, 2, "move along fewer than 2 directions"),
        (np.ones((3, 5)), 1, "move along fewer than 1"),
        (normal(3, 4), 2, r"weights\[0\] has shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            landscape.trajectory(model, weights, num_directions=number)


def test_weights_that_do_not_train_must_be_the_same_in_full_lists():
    """Else the loss drawn at α = 1 would be neither model's."""
    frozen, head = layers.Dense(3, "tanh", trainable=False), layers.Dense(1)
    model = keras.Sequential([keras.Input((5,)), frozen, layers.BatchNormalization(), head])
    weights = model.get_weights()
    weights[0] = weights[0] + 1
    _, data, _ = regression()
    with pytest.raises(ValueError, match=r"differs from model .*kernel.* does not train"):
        landscape.line(model, "mse", data, weights, model)
    trainable = [w.numpy() for w in model.trainable_weights]
    landscape.line(model, "mse", data, trainable, model, alphas=[0])
