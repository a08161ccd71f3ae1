"""The Hessian operator against closed forms, finite differences and the entry-by-entry Jacobian."""

import contextlib
import importlib
import itertools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import (
    CASES,
    QUICK,
    attention,
    batch_normalization,
    cut,
    group_normalization,
    layer_normalization,
    mlp_sparse_crossentropy,
)
from references import finite_difference_hessian, floatx, jacobian_hessian, mean_loss
from slow import slow_but

from tf_lbgap.curvature import (
    GaussNewtonOperator,
    HessianOperator,
    exact_second_derivatives,
    hessian,
    second_order,
)

layers = keras.layers


@pytest.fixture
def float64():
    with floatx("float64"):
        yield


def dense(operator):
    return operator @ np.eye(operator.shape[0])


@pytest.fixture
def traces(monkeypatch):
    """A list with an entry for each time a product is traced."""
    calls, original = [], HessianOperator._linearised
    monkeypatch.setattr(HessianOperator, "_linearised", lambda *args: calls.append(1) or original(*args))
    return calls


def relative_error(matrix, reference):
    return np.abs(matrix - reference).max() / np.abs(reference).max()


@pytest.mark.parametrize("batch_size", [1, 3, 8], ids=lambda b: f"batch_size={b}")
def test_hessian_of_linear_regression_is_the_gram_matrix(float64, batch_size):
    """L(w) = 1/N Σ (xᵀw - y)² has H = 2/N XᵀX, however the N examples are cut into batches.

    With N = 8 and batches of 3 the last batch holds 2: averaging batch means fails here.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5)), rng.normal(size=(8, 1))
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1, use_bias=False)])
    batches = [(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, 8, batch_size)]

    hessian = HessianOperator(model, keras.losses.MeanSquaredError(), batches)

    matrix = np.stack([hessian.matvec(e) for e in np.eye(5)], axis=1)
    np.testing.assert_allclose(matrix, 2 / 8 * x.T @ x, rtol=1e-12)


@pytest.mark.parametrize("case", slow_but(QUICK, CASES), ids=lambda c: c.__name__)
def test_hessian_is_that_of_the_mean_loss_however_the_data_are_cut(float64, case):
    """Finite differences are good to about 1e-10 here (see references); cuts agree to rounding."""
    model, loss, data = case()
    truth = finite_difference_hessian(model, lambda: mean_loss(model, loss, *data))

    operator = HessianOperator(model, loss, cut(data))
    ragged = dense(operator)

    assert relative_error(ragged, truth) < 4e-10
    v = np.random.default_rng(0).normal(size=len(truth))
    for sizes in [(1,) * 8, (7, 1), (8,)]:
        operator.batches = cut(data, sizes)
        assert relative_error(operator @ v, ragged @ v) < 1e-13


@pytest.mark.parametrize("case", CASES[:2] + CASES[7:9], ids=lambda c: c.__name__)
def test_hessian_equals_the_jacobian_of_the_gradient(float64, case):
    model, loss, data = case()
    truth = jacobian_hessian(model, lambda: mean_loss(model, loss, *data))
    assert relative_error(dense(HessianOperator(model, loss, cut(data))), truth) < 1e-13


@pytest.mark.parametrize("case", slow_but(QUICK, CASES), ids=lambda c: c.__name__)
def test_float32_agrees_with_float64_to_its_rounding(case):
    """1e-5 = 80 units of float32's last place: a dozen operations deep, with sums over up to 50 terms."""
    weights, products = None, []
    for name in ("float64", "float32"):
        with floatx(name):
            model, loss, data = case()
            model.set_weights(weights or model.get_weights())
            weights = model.get_weights()
            operator = HessianOperator(model, loss, cut(data))
            assert operator.dtype == name
            V = np.random.default_rng(0).normal(size=(operator.shape[0], 10))
            products.append(operator @ V)
    assert relative_error(products[1], products[0]) < 1e-5


def test_without_exact_moments_the_hessian_through_layer_normalization_is_wrong(float64):
    """Why `exact_second_derivatives` is there. When this fails, TensorFlow was repaired and it may go."""
    model, loss, data = layer_normalization()
    truth = finite_difference_hessian(model, lambda: mean_loss(model, loss, *data))
    plain = jacobian_hessian(model, lambda: mean_loss(model, loss, *data))
    with exact_second_derivatives():
        exact = jacobian_hessian(model, lambda: mean_loss(model, loss, *data))
    assert relative_error(plain, truth) > 1e-2
    assert relative_error(exact, truth) < 4e-10


@pytest.mark.parametrize(
    "case",
    slow_but(QUICK, [layer_normalization, group_normalization, batch_normalization, attention]),
    ids=lambda c: c.__name__,
)
def test_products_through_normalization_are_right_and_wrong_without_exact_moments(float64, monkeypatch, case):
    """Wrong by 4, 7, 25 and 52 %. Batch normalization as in training, where its moments depend on the weights."""
    model, loss, (x, y) = case()
    before = model.get_weights()
    in_training = case is batch_normalization
    options = {"batch_normalization": "batch"} if in_training else {}
    batches = [(x, y)] if in_training else cut((x, y))
    truth = finite_difference_hessian(model, lambda: loss(y, model(x, training=in_training)))
    model.set_weights(before)  # moving statistics too

    right = dense(HessianOperator(model, loss, batches, **options))
    monkeypatch.setattr(hessian, "exact_second_derivatives", contextlib.nullcontext)
    wrong = dense(HessianOperator(model, loss, batches, **options))

    assert relative_error(right, truth) < 4e-10
    assert relative_error(wrong, truth) > 1e-2


def test_products_come_in_the_shape_and_dtype_of_their_vectors_and_are_counted():
    model, loss, data = mlp_sparse_crossentropy()
    operator = HessianOperator(model, loss, data)
    n = model.count_params()
    V = np.random.default_rng(0).normal(size=(n, 3))
    assert operator.shape == (n, n)
    product = operator @ V
    assert product.shape == (n, 3) and product.dtype == operator.dtype == np.float32
    for column, v in zip(product.T, V.T, strict=True):
        np.testing.assert_array_equal(operator @ v, operator.matvec(v))
        np.testing.assert_allclose(operator @ v, column, rtol=1e-5, atol=1e-6)
    assert operator.num_products == 3 + 3 * 3


def test_all_forms_of_batches_give_the_same_matrix():
    class InOrder:
        def in_order(self):
            return tf.data.Dataset.from_tensor_slices(data).batch(3)

    model, loss, data = mlp_sparse_crossentropy()
    v = np.random.default_rng(0).normal(size=model.count_params())
    expected = HessianOperator(model, loss, data).matvec(v)
    forms = [
        cut(data),
        [list(batch) for batch in cut(data)],
        [tf.nest.map_structure(tf.constant, batch) for batch in cut(data)],
        (batch for batch in cut(data)),
        dict(enumerate(cut(data))).values(),
        tf.data.Dataset.from_tensor_slices(data).batch(3),
        InOrder(),
    ]
    for form in forms:
        operator = HessianOperator(model, loss, form)
        np.testing.assert_allclose(operator @ v, expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(operator @ v, operator @ v)  # can be read again


def test_losses_may_be_named_or_plain_functions_of_integer_labels():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")])
    x, y = np.ones((5, 4)), np.arange(5) % 3
    v = np.arange(15.0)

    def plain(y_true, y_pred):
        picked = tf.gather(y_pred, y_true, batch_dims=1)  # fails unless labels stay integers
        return -tf.reduce_mean(tf.math.log(picked))

    expected = HessianOperator(model, keras.losses.SparseCategoricalCrossentropy(), (x, y)) @ v
    for loss in ("sparse_categorical_crossentropy", plain):
        np.testing.assert_allclose(HessianOperator(model, loss, (x, y)) @ v, expected, rtol=1e-4, atol=1e-5)


def test_named_loss_aligns_ranks_as_fit_does(float64):
    x, y = np.random.default_rng(0).normal(size=(6, 2)), np.arange(6.0)
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False)])
    np.testing.assert_allclose(dense(HessianOperator(model, "mse", (x, y))), 2 / 6 * x.T @ x, rtol=1e-12)


def test_regularization_is_left_out_unless_asked_for_and_then_counted_once(float64):
    """1/4 |w|² adds 1/2 to the diagonal, whatever the number of batches."""
    x, y = np.random.default_rng(0).normal(size=(5, 3)), np.zeros((5, 1))
    penalty = keras.regularizers.L2(0.25)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, use_bias=False, kernel_regularizer=penalty)])
    batches = [(x[:2], y[:2]), (x[2:], y[2:])]
    gram = 2 / 5 * x.T @ x
    np.testing.assert_allclose(dense(HessianOperator(model, "mse", batches)), gram, rtol=1e-12)
    with_penalty = HessianOperator(model, "mse", batches, regularization=True)
    np.testing.assert_allclose(dense(with_penalty), gram + 0.5 * np.eye(3), rtol=1e-12)


def test_one_trace_serves_new_weights_and_batches_of_three_sizes(traces):
    model, loss, data = mlp_sparse_crossentropy()
    operator = HessianOperator(model, loss, cut(data, (5, 2, 1)))
    v = np.random.default_rng(0).normal(size=model.count_params())
    products = [operator @ v]
    for _ in range(5):
        model.set_weights([w + 0.1 for w in model.get_weights()])
        products.append(operator @ v)
    operator.batches = cut(data, (4, 4))
    assert len(traces) == 1
    operator.matmat(np.eye(len(v))[:, :3])
    operator.batches = cut(data, (5, 2, 1))
    operator.matmat(np.eye(len(v))[:, :2])
    assert len(traces) == 2  # one for single vectors, one for blocks
    assert all(np.abs(a - b).max() > 1e-3 for a, b in itertools.pairwise(products))


@pytest.mark.parametrize("operator_class", [HessianOperator, GaussNewtonOperator], ids=lambda c: c.__name__)
def test_single_and_block_products_see_other_batches(float64, operator_class):
    """Linear regression, whose Hessian is 2/N XᵀX; each way to multiply is traced on the first data."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, use_bias=False)])
    first, second = (
        (rng.normal(size=(5, 3)), rng.normal(size=(5, 1))),
        (rng.normal(size=(4, 3)), np.ones((4, 1))),
    )
    operator = operator_class(model, "mse", first)
    operator.matvec(np.ones(3))
    operator.matmat(np.eye(3))

    operator.batches = cut(second, (3, 1))

    expected = 2 / 4 * second[0].T @ second[0]
    np.testing.assert_allclose(operator.matvec(np.ones(3)), expected @ np.ones(3), rtol=1e-12)
    np.testing.assert_allclose(operator.matmat(np.eye(3)), expected, rtol=1e-12)


def test_sentences_of_several_lengths_share_one_trace(traces):
    stack = layers.Embedding(5, 2), layers.GlobalAveragePooling1D(), layers.Dense(1)
    model = keras.Sequential([keras.Input((None,), dtype="int64"), *stack])
    batches = [(np.ones((2, length), int), np.ones((2, 1))) for length in (3, 5, 4)]
    operator = HessianOperator(model, "mse", batches)
    assert np.isfinite(operator @ np.ones(operator.shape[0])).all()
    assert len(traces) == 1


def test_measuring_leaves_training_bit_identical():
    """Weights, statistics, slots, metrics and seeds after 3 + 2 epochs, with and without products between."""

    def train(measure):
        keras.utils.set_random_seed(0)
        stack = layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5), layers.GaussianNoise(0.1)
        recurrent = layers.Reshape((2, 2)), layers.SimpleRNN(2, stateful=True, unroll=True), layers.Dense(2)
        model = keras.Sequential([keras.Input(batch_shape=(4, 3)), *stack, *recurrent])
        model.compile("adam", "mse", metrics=["mae"])
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
        model.fit(x, y, batch_size=4, epochs=3, verbose=0)
        before = everything(model)
        if measure:
            operator = HessianOperator(model, "mse", [(x[:4], y[:4]), (x[4:], y[4:])], regularization=True)
            operator.matvec(np.ones(operator.shape[0]))
            same(everything(model), before)
        model.fit(x, y, batch_size=4, epochs=2, verbose=0)
        draws = [np.random.random(), random.random(), keras.random.uniform((1,)).numpy()]  # noqa: NPY002
        return [*everything(model), *draws]

    def everything(model):
        metrics = [v.numpy() for m in model.metrics for v in m.variables]
        return [v.numpy() for v in [*model.variables, *model.optimizer.variables]] + metrics

    def same(a, b):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)

    same(train(measure=True), train(measure=False))


def test_replaced_functions_are_back_after_an_error_and_after_nesting():
    originals = [second_order._find(module, name)[2] for module, name, _ in second_order._REPLACEMENTS]
    with pytest.raises(ZeroDivisionError), exact_second_derivatives(), exact_second_derivatives():
        raise ZeroDivisionError
    model, loss, data = layer_normalization()
    HessianOperator(model, loss, data).matvec(np.ones(model.count_params()))
    assert originals == [second_order._find(m, name)[2] for m, name, _ in second_order._REPLACEMENTS]


def test_exact_moments_have_the_values_of_tensorflow():
    x = tf.random.normal((3, 4, 5), dtype=tf.float64)
    for axes, keepdims in [([0], False), ([0, 2], True), (-1, False)]:
        plain = tf.nn.moments(x, axes, keepdims=keepdims)
        with exact_second_derivatives():
            exact = tf.nn.moments(x, axes, keepdims=keepdims)
        for a, b in zip(plain, exact, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_canary_finds_wrong_second_derivatives(monkeypatch):
    second_order.check_second_derivatives.cache_clear()
    second_order.check_second_derivatives()
    second_order.check_second_derivatives.cache_clear()
    monkeypatch.setattr(second_order, "_REPLACEMENTS", ())
    with pytest.raises(RuntimeError, match="Second derivatives are wrong"):
        second_order.check_second_derivatives()


def test_a_version_without_the_symbols_is_refused(monkeypatch):
    missing = (("tensorflow.python.ops.nn_impl", "no_such_function", None),)
    monkeypatch.setattr(second_order, "_REPLACEMENTS", missing)
    with (
        pytest.raises(RuntimeError, match=r"nn_impl.no_such_function is missing"),
        exact_second_derivatives(),
    ):
        pass


@pytest.fixture
def unchecked():
    """As at the start of a process: the canary has not been asked yet."""
    second_order.check_second_derivatives.cache_clear()
    yield
    second_order.check_second_derivatives.cache_clear()


def test_no_operator_is_made_where_the_replaced_symbol_is_gone(unchecked, monkeypatch):
    monkeypatch.delattr(importlib.import_module("tensorflow.python.ops.nn_impl"), "moments")
    for _ in range(2):  # a failed check is not remembered as passed
        with pytest.raises(RuntimeError, match=r"nn_impl.moments is missing"):
            HessianOperator(one_layer(), "mse", (x, y))
    monkeypatch.undo()
    HessianOperator(one_layer(), "mse", (x, y))


def test_no_operator_is_made_where_layers_have_gone_round_the_replaced_symbol(unchecked, monkeypatch):
    """The symbol is there, so replacing it succeeds, but Keras no longer calls it."""

    def moments(x, axes, keepdims=False, synchronized=False):
        mean = tf.reduce_mean(x, axes, keepdims=True)
        return mean, tf.reduce_mean((x - tf.stop_gradient(mean)) ** 2, axes, keepdims=True)

    monkeypatch.setattr("keras.src.backend.tensorflow.nn.moments", moments)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"Second derivatives are wrong by [0-9.]+e"):
            HessianOperator(one_layer(), "mse", (x, y))
    monkeypatch.undo()
    HessianOperator(one_layer(), "mse", (x, y))


def one_layer():
    return keras.Sequential([keras.Input((2,)), layers.Dense(1)])


x, y = np.ones((3, 2)), np.ones((3, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda: (keras.Sequential([layers.Dense(1)]), "mse", (x, y)), "Build it first"),
        (lambda: (one_layer(), 3, (x, y)), "loss is 3"),
        (lambda: (one_layer(), "mse", []), "batches is empty"),
        (lambda: (one_layer(), "mse", iter([])), "batches is empty"),
        (lambda: (one_layer(), "mse", 7), "batches is a int"),
        (lambda: (one_layer(), "mse", [x, y]), "A batch is a ndarray"),
        (lambda: (one_layer(), "mse", (x, y, x, y)), "A batch is a tuple of 4"),
        (lambda: (one_layer(), "mse", (x, None)), "None where x or y"),
        (lambda: (one_layer(), "mse", (x, y[:2])), "same first dimension"),
        (lambda: (one_layer(), "mse", [(x, y), (x, y, y[:, 0])]), "Batches differ"),
        (
            lambda: (one_layer(), "mse", tf.data.Dataset.from_tensors((x, y)).repeat()),
            "never ends",
        ),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        HessianOperator(*arguments())


def test_bad_vectors_and_bad_products_are_refused_with_what_to_do():
    operator = HessianOperator(one_layer(), "mse", (x, y))
    with pytest.raises(ValueError, match=r"v has shape \(4,\), but the operator has shape \(3, 3\)"):
        operator.matvec(np.ones(4))
    with pytest.raises(ValueError, match="with 3 rows"):
        operator.matmat(np.ones((4, 2)))
    with pytest.raises(ValueError, match="vector to multiply"):
        operator.matvec([np.nan, 0, 0])
    with pytest.raises(ValueError, match=r"'mean_squared_error' is (inf|nan)"):  # by the signs of the weights
        HessianOperator(one_layer(), "mse", (x * np.inf, y)).matvec(np.ones(3))
    weightless = (x, y, np.zeros(3))
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    with pytest.raises(ValueError, match="averaged over nothing"):
        HessianOperator(one_layer(), loss, weightless).matvec(np.ones(3))
    with pytest.raises(ValueError, match="one number per batch"):
        HessianOperator(one_layer(), lambda a, b: tf.reduce_mean(b), weightless).matvec(np.ones(3))
