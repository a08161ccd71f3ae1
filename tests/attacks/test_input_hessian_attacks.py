"""FHSM and L2HESS against dense pseudo-inverses and solves, and conjugate gradients where they could go wrong."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import floatx
from victims import C, D, crossentropy, dense, examples, linear, logits_and_jacobian, relu_network, softmax

from tf_lbgap import attacks


@pytest.fixture(autouse=True)
def float64():
    with floatx("float64"):
        yield


def solved(gradients, hessians, damping):
    """(H + λI)⁻¹ g, λ relative to the curvature along g."""
    curvature = np.abs(np.einsum("nd,nde,ne->n", gradients, hessians, gradients)) / (gradients**2).sum(1)
    shifted = hessians + damping * curvature[:, None, None] * np.eye(hessians.shape[1])
    return np.linalg.solve(shifted, gradients[..., None])[..., 0]


def relative(found, wanted):
    return np.linalg.norm(np.asarray(found) - wanted, axis=1) / np.linalg.norm(wanted, axis=1)


# A network of ReLUs.


@pytest.mark.parametrize(("d", "classes"), [(5, 3), (20, 10), (6, 2)])
def test_undamped_it_is_the_pseudo_inverse_in_one_step_less_than_there_are_classes(d, classes):
    model, (x, y) = relu_network(d, classes, widths=(24, 20), scale=0.3), examples(13, d, classes)
    gradients, hessians = dense(model, x, y)
    wanted = np.einsum("nde,ne->nd", np.linalg.pinv(hessians, rcond=1e-12, hermitian=True), gradients)

    found = attacks.input_newton_direction(model, crossentropy, x, y)

    assert relative(found.directions, wanted).max() < 1e-7
    assert found.num_steps.numpy().max() <= classes - 1 and found.residuals.numpy().max() < 1e-7
    moved = attacks.fhsm(model, crossentropy, x, y, epsilon=0.1)
    np.testing.assert_allclose(moved, x + 0.1 * np.sign(wanted), rtol=0, atol=1e-12)
    moved = attacks.l2hess(model, crossentropy, x, y, epsilon=0.3)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(moved, x + 0.3 * wanted, rtol=0, atol=1e-7)


def test_the_pseudo_inverse_lowers_the_logit_of_the_label_and_all_others_alike():
    """d is the shortest vector with J d = c 1 - e_y / p_y: by the Jacobian alone, whose condition is no trouble."""
    model, (x, y) = relu_network(20, 10, widths=(40, 40), scale=0.2), examples(13, 20, 10)
    found = attacks.input_newton_direction(model, crossentropy, x, y).directions.numpy()
    centre = np.eye(10) - 1 / 10
    for row, label, d in zip(x, y, found, strict=True):
        z, J = logits_and_jacobian(model, row)
        wanted = np.linalg.pinv(centre @ J) @ (-centre[label] / softmax(z[None])[0, label])
        assert np.linalg.norm(d - wanted) < 1e-7 * np.linalg.norm(wanted)


@pytest.mark.parametrize("damping", [1e-6, 1e-2, 10.0])
def test_damped_it_is_a_dense_solve_each_example_by_its_own_scale(damping):
    """λ goes with each one's curvature along its gradient."""
    model, (x, y) = relu_network(), examples(13)
    found = attacks.input_newton_direction(model, crossentropy, x, y, damping=damping)
    assert relative(found.directions, solved(*dense(model, x, y), damping)).max() < 1e-7
    assert found.num_steps.numpy().max() <= C - 1


def test_much_damping_leaves_the_gradient():
    model, (x, y) = relu_network(), examples()
    found = attacks.l2hess(model, crossentropy, x, y, epsilon=0.3, damping=1e9)
    np.testing.assert_allclose(found, attacks.l2grad(model, crossentropy, x, y, epsilon=0.3), atol=1e-8)


def test_directions_do_not_depend_on_the_scale_of_the_loss_even_where_squares_vanish():
    """ℓ x 1e-30 in float32: g and H are 1e-30, their squares 0; d = H⁻¹g is what it was."""
    with floatx("float32"):
        model, (x, y) = relu_network(), examples(dtype="float32")
        plain = attacks.input_newton_direction(model, crossentropy, x, y, damping=0.1)
        tiny = attacks.input_newton_direction(
            model, lambda y, p: 1e-30 * crossentropy(y, p), x, y, damping=0.1
        )
    assert relative(tiny.directions, plain.directions.numpy()).max() < 1e-3
    np.testing.assert_array_equal(tiny.num_steps, plain.num_steps)


def test_an_example_that_is_done_waits_for_the_others_unchanged():
    """One that is certain has no gradient; one between two classes ends after a step; each is what it is alone."""
    model = linear()
    W, b = model.get_weights()
    x, y = examples(6)
    W[:, 2] = W[:, 1]  # two logits that agree everywhere: H has rank 1, and g is in its range for label 0
    model.set_weights([W * [1, 1, 1], b - [0, 0, b[2] - b[1]]])
    y[:3] = 0
    found = attacks.input_newton_direction(model, crossentropy, x, y)
    assert found.num_steps.numpy()[:3].tolist() == [1, 1, 1]
    for i in range(6):
        alone = attacks.input_newton_direction(model, crossentropy, x[i : i + 1], y[i : i + 1])
        np.testing.assert_allclose(found.directions[i], alone.directions[0], rtol=1e-9, atol=1e-12)


# Other functions.


def bowl(diagonal):
    """ℓ(x) = Σ a_i x_i² / 2, by a model that is the identity up to a factor of 1."""
    model = keras.Sequential(
        [keras.Input((len(diagonal),)), keras.layers.Dense(len(diagonal), use_bias=False)]
    )
    model.set_weights([np.eye(len(diagonal))])
    return model, lambda y, p: tf.reduce_sum(tf.constant(diagonal) * p**2, 1) / 2


def test_on_a_bowl_of_full_rank_the_newton_direction_is_x_itself():
    """H = diag(a), g = a x, so H⁻¹g = x; in as many steps as there are different curvatures; also over 8 orders."""
    x, y = examples()
    wide = attacks.input_newton_direction(*bowl(np.array([1e-4, 1e-4, 3.0, 1e4, 1e4])), x, y)
    assert relative(wide.directions, x).max() < 1e-6
    found = attacks.input_newton_direction(*bowl(np.array([1.0, 1.0, 2.0, 4.0, 4.0])), x, y)
    assert relative(found.directions, x).max() < 1e-12
    assert found.num_steps.numpy().tolist() == [3] * len(x)


def test_tolerance_and_max_steps_truncate_and_the_residual_says_how_far_it_is():
    diagonal = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    model, loss = bowl(diagonal)
    x, y = examples()
    find = functools.partial(attacks.input_newton_direction, model, loss, x, y)
    for options, most in (({"tolerance": 0.05}, 4), ({"max_steps": 2}, 2), ({"max_steps": 1}, 1)):
        found = find(**options)
        residual = relative(diagonal * found.directions.numpy(), diagonal * x)
        np.testing.assert_allclose(found.residuals, residual, rtol=1e-9)
        assert 1 <= found.num_steps.numpy().max() <= most
        if "tolerance" in options:
            assert residual.max() <= 0.05
    g = diagonal * x
    factor = (g**2).sum(1) / (diagonal * g**2).sum(1)
    np.testing.assert_allclose(found.directions, factor[:, None] * g, rtol=1e-12)  # one step: along g


def test_without_positive_curvature_the_gradient_is_taken():
    """ℓ = -Σ a x²/2 curves downwards everywhere, a linear loss not at all: no step, d = g."""
    x, y = examples()
    diagonal = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    model, _ = bowl(diagonal)
    for loss, g in (
        (lambda y, p: -tf.reduce_sum(diagonal * p**2, 1) / 2, -diagonal * x),
        (lambda y, p: tf.reduce_sum(diagonal * p, 1), np.tile(diagonal, (len(x), 1))),
    ):
        found = attacks.input_newton_direction(model, loss, x, y)
        np.testing.assert_allclose(found.directions, g, rtol=1e-12)
        assert not found.num_steps.numpy().any()
        moved = attacks.fhsm(model, loss, x, y, epsilon=0.1)
        np.testing.assert_allclose(moved, x + 0.1 * np.sign(g), rtol=0, atol=1e-14)


def test_of_an_indefinite_hessian_the_part_before_negative_curvature_counts():
    """g = (1, 1), H = diag(3, -1): one step along g has curvature 1, so d = g; then H curves down, and it ends."""
    model, _ = bowl(np.ones(2))

    def loss(y, p):
        return tf.reduce_sum(p, 1) + tf.reduce_sum(tf.constant([3.0, -1.0], p.dtype) * p**2, 1) / 2

    found = attacks.input_newton_direction(model, loss, np.zeros((1, 2)), np.zeros(1))
    np.testing.assert_allclose(found.directions, [[1.0, 1.0]], rtol=1e-12)
    assert found.num_steps.numpy().tolist() == [1]


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_with_other_activations_directions_go_up_and_nothing_breaks(activation):
    model, (x, y) = relu_network(activation=activation, scale=1.0), examples(40)
    found = attacks.input_newton_direction(model, crossentropy, x, y)
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        losses = crossentropy(y, model(inputs))
    gradients = tape.gradient(losses, inputs).numpy()
    assert np.isfinite(found.directions).all()
    assert ((found.directions.numpy() * gradients).sum(1) > 0).all()


def test_second_derivatives_go_right_through_layer_normalization():
    """Against a Hessian by central differences of the gradient: tf.nn.moments would be off by 20 %."""
    stack = keras.layers.Dense(6, "tanh"), keras.layers.LayerNormalization(epsilon=0.1), keras.layers.Dense(C)
    model, (x, y) = keras.Sequential([keras.Input((D,)), *stack]), examples(20)

    def gradient(x):
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            losses = crossentropy(y, model(inputs))
        return tape.gradient(losses, inputs).numpy()

    step = 1e-5
    columns = [(gradient(x + step * e) - gradient(x - step * e)) / (2 * step) for e in np.eye(D)]
    hessians, g = np.stack(columns, 2), gradient(x)
    found = attacks.input_newton_direction(model, crossentropy, x, y, damping=2.0)
    curvature = np.abs(np.einsum("nd,nde,ne->n", g, hessians, g)) / (g**2).sum(1)
    definite = np.linalg.eigvalsh(hessians)[:, 0] + 2 * curvature > 0
    assert definite.sum() >= 5
    wanted = solved(g, hessians, 2.0)
    assert relative(found.directions.numpy()[definite], wanted[definite]).max() < 1e-7


def test_in_float32_damping_makes_it_what_it_is_in_float64():
    """Damped by 1e-2, the systems have a condition of some 1e2 at most, times 1e-7 of rounding."""
    model, (x, y) = relu_network(20, 10, widths=(24, 20), scale=0.3), examples(13, 20, 10)
    wanted = attacks.input_newton_direction(model, crossentropy, x, y, damping=1e-2).directions.numpy()
    weights = model.get_weights()
    with floatx("float32"):
        single = relu_network(20, 10, widths=(24, 20))
        single.set_weights(weights)
        found = attacks.input_newton_direction(single, crossentropy, x.astype("float32"), y, damping=1e-2)
    assert found.directions.dtype == tf.float32 and relative(found.directions, wanted).max() < 1e-3
