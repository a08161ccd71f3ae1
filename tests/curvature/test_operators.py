"""Gauss-Newton, Fisher and input Hessians, chosen layers, modes and chunks, against dense references."""

import keras
import numpy as np
import pytest
import scipy.sparse.linalg
import tensorflow as tf
from cases import CASES, QUICK, cut, layer_normalization, mlp_sparse_crossentropy
from references import finite_difference_hessian, floatx, mean_loss
from slow import slow_but

from tf_lbgap.curvature import (
    DenseOperator,
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    InputHessianOperator,
    LossSurface,
    check_model,
)

layers, losses = keras.layers, keras.losses


@pytest.fixture
def float64():
    with floatx("float64"):
        yield


def dense(operator):
    return operator @ np.eye(operator.shape[0])


def relative_error(matrix, reference):
    return np.abs(matrix - reference).max() / np.abs(reference).max()


def jacobian(model, x):
    """Outputs by weights, shape (N, outputs, n), entry by entry."""
    variables = [v.value for v in model.trainable_variables]

    @tf.function(autograph=False)
    def row(i, j):
        with tf.GradientTape() as tape:
            entry = model(x, training=False)[i, j]
        parts = tape.gradient(entry, variables, unconnected_gradients="zero")
        return tf.concat([tf.reshape(tf.convert_to_tensor(part), [-1]) for part in parts], 0)

    z = np.asarray(model(x, training=False))
    rows = [row(tf.constant(i), tf.constant(j)) for i, j in np.ndindex(z.shape)]
    return np.reshape(rows, (*z.shape, -1)), z


def whole(operator):
    """The dense matrix from a block of products, and what single products make of another vector with it."""
    matrix = dense(operator)
    v = np.random.default_rng(3).normal(size=len(matrix))
    np.testing.assert_allclose(operator @ v, matrix @ v, atol=1e-12 * np.abs(matrix).max() * len(v))
    return matrix


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def outer_sum(J, F):
    """Σ Jᵀ F J over examples; J (N, c, n), F (N, c, c)."""
    return np.einsum("ecn,ecd,edm->nm", J, F, J)


CLASSIFIERS = [
    case
    for case in CASES
    if case.__name__
    in (
        "mlp_sparse_crossentropy",
        "mlp_sample_weight",
        "convolution_max_pooling",
        "embedding_gru",
        "classifier_with_group_normalization",
    )
]


@pytest.mark.parametrize("case", slow_but(QUICK, CLASSIFIERS), ids=lambda c: c.__name__)
def test_gauss_newton_and_true_fisher_of_a_classifier_are_the_softmax_formula(float64, case):
    """Σ w Jᵀ(diag p - ppᵀ)J / N with a Jacobian taken entry by entry, and Σ_c p_c g_c g_cᵀ for the Fisher."""
    model, loss, data = case()
    x, weight = data[0], data[2:]
    J, z = jacobian(model, x)
    p = softmax(z)
    weight = weight[0] if weight else np.ones(len(p))
    F = weight[:, None, None] * (p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :])
    truth = outer_sum(J, F) / len(p)

    assert relative_error(whole(GaussNewtonOperator(model, loss, cut(data))), truth) < 1e-10
    if case.__name__ == "embedding_gru":
        return  # compiling it takes seconds, and the Fisher goes the same way as the Gauss-Newton matrix
    g = np.eye(p.shape[1])[None] - p[:, None, :]  # minus the gradient of -log p_c by z, a row per label c
    expectation = np.einsum("e,ec,ecd,ecf->edf", weight, p, g, g)
    fisher = whole(FisherOperator(model, loss, cut(data)))
    assert relative_error(fisher, outer_sum(J, expectation) / len(p)) < 1e-10


REGRESSIONS = [case for case in CASES if case.__name__ in ("mlp_sum", "lstm", "attention", "dropout")]


@pytest.mark.parametrize("case", slow_but(QUICK, REGRESSIONS), ids=lambda c: c.__name__)
def test_gauss_newton_of_the_squared_error_is_the_gram_matrix_of_the_jacobian(float64, case):
    model, loss, (x, y) = case()
    J, z = jacobian(model, x)
    d = z.shape[1]
    # Keras averages over the outputs of an example first, whatever the reduction.
    truth = outer_sum(J, np.eye(d) * np.ones((len(z), 1, 1)) * 2 / d) / len(z)
    for operator in (GaussNewtonOperator, FisherOperator)[: 1 if case.__name__ == "lstm" else 2]:
        assert relative_error(whole(operator(model, loss, cut((x, y)))), truth) < 1e-10


def test_gauss_newton_is_the_hessian_where_the_network_is_linear(float64):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    _, loss, data = mlp_sparse_crossentropy()
    np.testing.assert_allclose(
        whole(GaussNewtonOperator(model, loss, cut(data))),
        dense(HessianOperator(model, loss, cut(data))),
        atol=1e-14,
    )


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        (lambda: losses.SparseCategoricalCrossentropy(), "softmax"),
        (lambda: losses.CategoricalCrossentropy(), "softmax"),
        (lambda: losses.BinaryCrossentropy(from_logits=True), None),
        (lambda: losses.BinaryCrossentropy(), "sigmoid"),
        (lambda: "binary_crossentropy", "sigmoid"),
    ],
    ids=["sparse", "categorical", "binary of logits", "binary", "by name"],
)
def test_true_fisher_does_not_depend_on_whether_outputs_are_logits_or_probabilities(
    float64, loss, activation
):
    loss = loss()
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, "tanh"), layers.Dense(3), layers.Activation(activation)]
    )
    x = np.random.default_rng(0).normal(size=(8, 4))
    y = np.arange(8) % 3
    logits = keras.Model(model.inputs[0], model.layers[-2].output)
    J, z = jacobian(logits, x)
    binary = "inary" in str(loss if isinstance(loss, str) else type(loss).__name__)
    p = 1 / (1 + np.exp(-z)) if binary else softmax(z)
    if binary:  # Keras takes the mean over the three outputs
        F = (p * (1 - p))[:, :, None] * np.eye(3) / 3
    else:
        F = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :]
    if not isinstance(loss, losses.SparseCategoricalCrossentropy):
        y = np.eye(3)[y]
    fisher = whole(FisherOperator(model, loss, cut((x, y))))
    assert relative_error(fisher, outer_sum(J, F) / 8) < 1e-7 + 1e-10  # Keras clips probabilities at 1e-7


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_empirical_fisher_is_the_sum_of_outer_products_of_gradients(float64, weighted):
    model, loss, (x, y) = mlp_sparse_crossentropy()
    weight = np.linspace(0, 2, len(x)) if weighted else np.ones(len(x))
    rows = []
    for i in range(len(x)):
        with tf.GradientTape() as tape:
            value = loss(y[i : i + 1], model(x[i : i + 1]))
        gradient = tape.gradient(value, [v.value for v in model.trainable_variables])
        rows.append(np.concatenate([np.ravel(g) for g in gradient]))
    truth = np.einsum("e,en,em->nm", weight, rows, rows) / len(x)
    data = (x, y, weight) if weighted else (x, y)
    operator = FisherOperator(model, loss, cut(data), kind="empirical")
    assert relative_error(whole(operator), truth) < 1e-12


def test_fisher_refuses_what_has_no_likelihood():
    model, _, data = mlp_sparse_crossentropy()
    with pytest.raises(ValueError, match="kind='empirical'"):
        FisherOperator(model, losses.Huber(), data)
    with pytest.raises(ValueError, match="should be 'true' or 'empirical'"):
        FisherOperator(model, "mse", data, kind="sampled")
    with pytest.raises(ValueError, match="couples the examples"):
        FisherOperator(model, "mse", data, batch_normalization="batch")


# The Hessian by the input.


def test_input_hessian_of_a_relu_network_is_the_softmax_formula_of_rank_classes_minus_one(float64):
    """H = Jᵀ(diag p - ppᵀ)J with J = ∂z/∂x: positive semidefinite, rank at most C - 1 (Yao et al., Theorem 1)."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(3)])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 6)), rng.integers(0, 3, 5)
    variable = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        z = model(variable)
    J = tape.batch_jacobian(z, variable).numpy()
    p = softmax(z.numpy())
    truth = np.einsum("ecn,ecd,edm->enm", J, p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :], J)

    operator = InputHessianOperator(
        model, losses.SparseCategoricalCrossentropy(from_logits=True), cut((x, y), (3, 2)), chunk_size=2
    )

    blocks = dense(operator).reshape(5, 6, 5, 6)
    for i in range(5):
        np.testing.assert_allclose(blocks[i, :, i], truth[i], atol=1e-13)
        blocks[i, :, i] = 0
    assert not blocks.any()
    V = rng.normal(size=(5, 6))
    np.testing.assert_allclose(operator.products(V), np.einsum("enm,em->en", truth, V), atol=1e-13)
    values, errors = operator.top_eigenvalues()
    assert (np.abs(values - np.linalg.eigvalsh(truth)[:, -1]) <= errors + 1e-14).all()
    assert (errors <= 1e-3 * values + 1e-12).all() and (np.linalg.matrix_rank(truth, tol=1e-12) <= 2).all()
    g = np.einsum("ecn,ec->en", J, p - np.eye(3)[y])
    np.testing.assert_allclose(operator.gradients(), g, atol=1e-13)
    np.testing.assert_allclose(operator.losses(), -np.log(p[np.arange(5), y]), rtol=1e-12)


def test_input_hessian_refuses_tokens():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(5, 2), layers.Flatten()])
    with pytest.raises(ValueError, match="Embedding"):
        InputHessianOperator(model, "mse", (np.ones((3, 4), int), np.ones((3, 8))))


# Chosen weights, penalties, several outputs.


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
def test_chosen_layers_give_the_block_of_the_whole_matrix(float64, operator):
    model, loss, data = mlp_sparse_crossentropy()
    full = dense(operator(model, loss, cut(data)))
    first, last = model.layers[0], model.layers[-1]
    size = first.count_params()
    for chosen, part in [
        (first.name, slice(0, size)),
        (last, slice(size, None)),
        ([first.kernel], slice(0, 20)),
        ([last, first], slice(None)),
    ]:
        block = operator(model, loss, cut(data), variables=chosen)
        np.testing.assert_allclose(dense(block), full[part, part], atol=1e-14)


def test_what_cannot_be_chosen_is_refused():
    model, loss, data = mlp_sparse_crossentropy()
    for chosen, message in [
        ("dance", "names a layer 'dance'"),
        ([], "variables is empty"),
        ([3], "3, a int"),
        (layers.Dense(2), "nothing to train"),
        (keras.Variable(1.0), "nothing to train"),
    ]:
        with pytest.raises(ValueError, match=message):
            HessianOperator(model, loss, data, variables=chosen)


def test_penalties_enter_once_however_the_data_are_cut(float64):
    """λ|W|² has the Hessian 2λ on the kernel; without `regularization` it is left out."""
    penalty = keras.regularizers.L2(0.25)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh", kernel_regularizer=penalty)])
    x, y = np.random.default_rng(0).normal(size=(2, 8, 4))
    for operator in (HessianOperator, GaussNewtonOperator):
        without = dense(operator(model, "mse", cut((x, y[:, :3]))))
        for sizes in [(3, 3, 2), (8,)]:
            with_it = whole(operator(model, "mse", cut((x, y[:, :3]), sizes), regularization=True))
            np.testing.assert_allclose(with_it - without, np.diag([0.5] * 12 + [0] * 3), atol=1e-14)


@pytest.mark.parametrize("as_dict", [False, True], ids=["list", "dict"])
def test_several_outputs_add_up_with_their_weights(float64, as_dict):
    x = keras.Input((4,))
    hidden = layers.Dense(3, "tanh")(x)
    a, b = layers.Dense(2, name="a")(hidden), layers.Dense(3, name="b")(hidden)
    model = keras.Model(x, {"a": a, "b": b} if as_dict else [a, b])
    rng = np.random.default_rng(0)
    data, ya, yb = rng.normal(size=(8, 4)), rng.normal(size=(8, 2)), np.arange(8) % 3
    crossentropy = losses.SparseCategoricalCrossentropy(from_logits=True)
    y = {"a": ya, "b": yb} if as_dict else [ya, yb]

    def function():
        p = model(data)
        p = (p["a"], p["b"]) if as_dict else p
        return 2.0 * tf.reduce_mean((ya - p[0]) ** 2) + 0.5 * tf.reduce_mean(crossentropy(yb, p[1]))

    truth = finite_difference_hessian(model, function)
    loss = {"a": "mse", "b": crossentropy} if as_dict else ["mse", crossentropy]
    weights = {"a": 2.0, "b": 0.5} if as_dict else [2.0, 0.5]
    hessian = HessianOperator(model, loss, cut((data, y)), loss_weights=weights)
    assert relative_error(dense(hessian), truth) < 4e-10
    G = whole(GaussNewtonOperator(model, loss, cut((data, y)), loss_weights=weights))
    assert np.linalg.eigvalsh(G)[0] > -1e-12 and np.linalg.norm(G - G.T) < 1e-12


# Modes of batch normalization, precision, chunks.


def normalized(shape=(4,)):
    stack = layers.Dense(5), layers.BatchNormalization(momentum=0.5), layers.Dense(2, "tanh")
    model = keras.Sequential([keras.Input(shape), *stack])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4)) + 1, rng.normal(size=(8, 2))
    model.layers[1].moving_mean.assign(rng.normal(size=5))
    return model, (x, y)


def test_each_mode_of_batch_normalization_is_the_hessian_of_its_own_function(float64):
    model, data = normalized()
    loss = losses.MeanSquaredError()
    before = model.get_weights()
    moving = dense(HessianOperator(model, loss, cut(data)))
    exact = HessianOperator(model, loss, cut(data), batch_normalization="recalibrated")
    recalibrated, again = dense(exact), dense(exact)
    batch = dense(HessianOperator(model, loss, data, batch_normalization="batch"))
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)

    assert (
        relative_error(moving, finite_difference_hessian(model, lambda: mean_loss(model, loss, *data)))
        < 4e-10
    )
    with_batch = finite_difference_hessian(model, lambda: loss(data[1], model(data[0], training=True)))
    assert relative_error(batch, with_batch) < 4e-10
    model.set_weights(before)
    hidden = model.layers[0](data[0]).numpy()
    model.layers[1].moving_mean.assign(hidden.mean(0))
    model.layers[1].moving_variance.assign(hidden.var(0))
    truth = finite_difference_hessian(model, lambda: mean_loss(model, loss, *data))
    assert relative_error(recalibrated, truth) < 4e-10
    np.testing.assert_array_equal(recalibrated, again)


def test_recalibrated_statistics_follow_the_weights():
    model, data = normalized()
    operator = HessianOperator(model, "mse", data, batch_normalization="recalibrated")
    before = operator @ np.ones(operator.shape[0])
    model.layers[0].kernel.assign(model.layers[0].kernel * 2)
    after = operator @ np.ones(operator.shape[0])
    fresh = HessianOperator(model, "mse", data, batch_normalization="recalibrated")
    np.testing.assert_allclose(after, fresh @ np.ones(operator.shape[0]), rtol=1e-6)
    assert relative_error(before, after) > 0.1
    with pytest.raises(ValueError, match="'moving'"):
        HessianOperator(model, "mse", data, batch_normalization="moving")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_measured_in_float32_and_says_so(policy):
    model, loss, data = layer_normalization()
    expected = dense(HessianOperator(model, loss, data))
    config = model.get_config()
    keras.config.set_dtype_policy(policy)
    mixed = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, "tanh"), layers.LayerNormalization(), layers.Dense(2)]
    )
    mixed.set_weights(model.get_weights())
    with pytest.warns(UserWarning, match=f"float32 .the model trains in {policy}"):
        operator = HessianOperator(mixed, loss, data)
    assert operator.dtype == np.float32 and policy in operator.precision and config
    np.testing.assert_allclose(dense(operator), expected, atol=2e-6 * np.abs(expected).max())
    assert {layer.dtype_policy.name for layer in mixed.layers} == {policy}


def test_a_long_batch_is_worked_off_in_chunks_and_gives_the_same_matrix(float64):
    model, loss, data = mlp_sparse_crossentropy()
    at_once = HessianOperator(model, loss, data)
    sizes = []
    pieces = HessianOperator(model, loss, data, chunk_size=3)
    for batch in pieces.batches:
        sizes.append(len(batch[0]))
    assert sizes == [3, 3, 2]
    assert relative_error(dense(pieces), dense(at_once)) < 1e-13
    with pytest.raises(ValueError, match="chunk_size is 0"):
        HessianOperator(model, loss, data, chunk_size=0)


def test_scipy_finds_the_same_eigenvalues():
    model, loss, data = mlp_sparse_crossentropy()
    operator = HessianOperator(model, loss, data)
    found = scipy.sparse.linalg.eigsh(operator.to_scipy(), k=2, return_eigenvectors=False)
    expected = np.linalg.eigvalsh(dense(operator).astype("float64"))
    np.testing.assert_allclose(np.sort(np.abs(found)), np.sort(np.abs(expected))[-2:], rtol=1e-4)
    diagonal = DenseOperator(np.diag([1.0, 2.0, 3.0])).to_scipy()
    np.testing.assert_allclose(diagonal @ np.ones((3, 2)), [[1, 1], [2, 2], [3, 3]])


# What is no function of the weights.


class Noise(keras.layers.Layer):
    """Random at inference, from Keras' seeds or from TensorFlow's."""

    def __init__(self, seeded):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0) if seeded else None

    def call(self, x):
        if self.seeds is None:
            return x + tf.random.normal(tf.shape(x))
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)


class Counting(losses.Loss):
    """A loss that weighs later batches less."""

    def __init__(self, variable):
        super().__init__()
        self.variable = variable

    def call(self, y_true, y_pred):
        return tf.reduce_mean((y_true - y_pred) ** 2, -1)


def test_what_is_no_function_of_the_weights_is_refused():
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")

    def model(*stack):
        return keras.Sequential([keras.Input((3,)), *stack, layers.Dense(1)])

    for seeded in (True, False):
        with pytest.raises(ValueError, match="random numbers at inference"):
            HessianOperator(model(Noise(seeded)), "mse", (x, y)).matvec(np.ones(4))
    with pytest.raises(ValueError, match="has a state"):
        HessianOperator(model(), Counting(keras.Variable(0.0)), (x, y))
    with pytest.raises(ValueError, match="remembers earlier batches"):
        HessianOperator(model(), keras.metrics.MeanSquaredError(), (x, y))
    counter = tf.Variable(0.0)

    def moving(a, b):
        return (a - b) ** 2 * (1 + counter.assign_add(1.0))

    with pytest.raises(ValueError, match="changes a variable"):
        HessianOperator(model(), moving, (x, y)).matvec(np.ones(4))
    rng = np.random.default_rng(0)

    def unsteady(a, b):
        return (a - b) ** 2 * (1 + tf.cast(tf.numpy_function(lambda: rng.random(), [], tf.float64), b.dtype))

    with pytest.raises(ValueError, match="and then"):
        HessianOperator(model(), unsteady, (x, y)).matvec(np.ones(4))
    for number in (np.inf, np.nan):
        with pytest.raises(ValueError, match="at the present weights"):
            HessianOperator(model(), "mse", (x * number, y)).matvec(np.ones(4))


def test_a_loss_of_the_users_own_need_not_be_known_to_keras():
    class Quartic(losses.Loss):
        def call(self, y_true, y_pred):
            return tf.reduce_mean((y_true - y_pred) ** 4, -1)

    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[2.0]])])
    x = np.array([[1.0], [3.0]])
    # (w x)⁴ has the second derivative 12 w² x⁴
    assert HessianOperator(model, Quartic(), (x, x * 0)).matvec([1.0]) == pytest.approx(12 * 4 * (1 + 81) / 2)


# XLA, and the check on a user's own model.


def test_xla_gives_the_same_product_and_is_refused_with_max_pooling():
    model, loss, data = mlp_sparse_crossentropy()
    v = np.random.default_rng(0).normal(size=model.count_params())
    compiled = HessianOperator(model, loss, data, jit_compile=True)
    np.testing.assert_allclose(compiled @ v, HessianOperator(model, loss, data) @ v, atol=1e-5)
    stack = layers.Conv2D(2, 3, padding="same"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(1)
    first = keras.Sequential([keras.Input((4, 4, 1)), *stack])
    x, y = np.ones((2, 4, 4, 1)), np.ones((2, 1))
    with pytest.raises(ValueError, match="max pooling wrongly"):
        HessianOperator(first, "mse", (x, y), jit_compile=True).matvec(np.ones(first.count_params()))


def test_the_check_passes_what_is_right_and_finds_what_is_wrong():
    model, loss, data = layer_normalization()
    before = [w.copy() for w in model.get_weights()]
    assert check_model(model, loss, data) < 1e-7
    HessianOperator(model, loss, data, check=True)
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert keras.config.floatx() == "float32"

    @tf.custom_gradient
    def cubed(x):
        constant = tf.stop_gradient(x)
        return x**3, lambda upstream: upstream * 3 * constant**2  # right once, wrong twice

    wrong = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Lambda(cubed), layers.Dense(2)])
    with pytest.raises(RuntimeError, match="are wrong by"):
        HessianOperator(wrong, loss, data, check=True)


def test_a_model_that_cannot_be_copied_is_checked_in_float32():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = layers.Dense(5, "tanh"), layers.Dense(2)

        def call(self, x):
            return self.two(self.one(x))

    _, loss, data = layer_normalization()
    model = Own()
    model(data[0])
    assert check_model(model, loss, data) < 5e-3


# The loss at any weights.


@pytest.mark.parametrize("case", slow_but(QUICK, CASES[:5] + CASES[8:11]), ids=lambda c: c.__name__)
def test_surface_is_the_mean_loss_and_its_gradient_at_any_weights(float64, case):
    model, loss, data = case()
    surface = LossSurface(model, loss, cut(data))
    before = model.get_weights()
    elsewhere = surface.weights() + np.random.default_rng(0).normal(size=surface.size) * 0.1
    value, gradient = surface.value_and_gradient(elsewhere)
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    surface.parameters.assign(elsewhere)
    with tf.GradientTape() as tape:
        truth = mean_loss(model, loss, *data)
    expected = tape.gradient(truth, [v.value for v in model.trainable_variables])
    expected = np.concatenate([np.ravel(tf.convert_to_tensor(g)) for g in expected])
    assert value == pytest.approx(float(truth), rel=1e-12) == surface.value(elsewhere)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-13)


def test_accuracy_of_classes_and_of_one_hot_rows_and_none_of_a_regression():
    model, loss, (x, y) = mlp_sparse_crossentropy()
    surface = LossSurface(model, loss, cut((x, y)))
    expected = (model(x).numpy().argmax(-1) == y).mean()
    assert surface.value_and_accuracy(surface.weights())[1] == pytest.approx(expected)
    rows = np.eye(3, dtype="float32")[y]
    one_hot = LossSurface(model, losses.CategoricalCrossentropy(from_logits=True), cut((x, rows)))
    assert one_hot.value_and_accuracy(surface.weights())[1] == pytest.approx(expected)
    regression = LossSurface(model, "mse", cut((x, rows + 0.1)))
    assert np.isnan(regression.value_and_accuracy(surface.weights())[1])
    with pytest.raises(ValueError, match="weights has shape"):
        surface.value(np.ones(3))
