"""The edge of stability is where Keras' own optimizers begin to diverge on a quadratic."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_lbgap.callbacks import PreconditionedOperator, edge_of_stability
from tf_lbgap.callbacks.stability import preconditioner
from tf_lbgap.curvature import DenseOperator, top_eigenpairs

CURVATURES = np.array([3.0, 0.5])  # L(w) = Σ λ w² / 2


def growth(optimizer):
    """Minimise the quadratic from close by; return by what the distance grew from update 300 to 1500."""
    w = keras.Variable(np.full(2, 1e-12), dtype="float64")
    optimizer.build([w])

    @tf.function
    def updates(number):
        for _ in tf.range(number):
            optimizer.apply([CURVATURES * w.value], [w])

    updates(tf.constant(300))
    before = np.linalg.norm(w.numpy())
    updates(tf.constant(1200))
    return np.linalg.norm(w.numpy()) / before


def rate_at_the_edge(make):
    """The rate for which the edge is the larger curvature: edges fall as 1 / rate."""
    return edge_of_stability(make(1.0)) / CURVATURES.max()


@pytest.fixture(autouse=True)
def _double_precision():
    keras.config.set_floatx("float64")  # conftest puts it back


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_converges_below_the_edge_and_diverges_above(momentum, nesterov):
    def make(rate):
        return keras.optimizers.SGD(rate, momentum=momentum, nesterov=nesterov)

    rate = rate_at_the_edge(make)

    assert growth(make(0.99 * rate)) < 0.5
    assert growth(make(1.01 * rate)) > 2


@pytest.mark.parametrize("beta_1", [0.0, 0.9])
@pytest.mark.parametrize("kind", [keras.optimizers.Adam, keras.optimizers.AdamW])
def test_adam_converges_below_the_edge_of_the_preconditioned_hessian_and_diverges_above(kind, beta_1):
    """An ε far above √v holds the diagonal still, at ε: then λ / ε is the eigenvalue that counts."""
    epsilon = 1e3

    def make(rate):
        decay = {"weight_decay": 0.0} if kind is keras.optimizers.AdamW else {}
        return kind(rate, beta_1=beta_1, beta_2=1e-9, epsilon=epsilon, **decay)

    rate = epsilon * rate_at_the_edge(make)

    assert growth(make(0.99 * rate)) < 0.5
    assert growth(make(1.01 * rate)) > 2


def test_formulas_of_cohen_et_al():
    sgd, adam = keras.optimizers.SGD, keras.optimizers.Adam
    assert edge_of_stability(sgd(0.1)) == pytest.approx(20)
    assert edge_of_stability(sgd(0.1, momentum=0.9)) == pytest.approx(38)
    assert edge_of_stability(sgd(0.1, momentum=0.9, nesterov=True)) == pytest.approx(38 / 2.8)
    assert edge_of_stability(adam(0.001)) == pytest.approx(38 / 0.001)


def test_which_rate_counts():
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.01])
    optimizer = keras.optimizers.SGD(decay)
    assert edge_of_stability(optimizer) == pytest.approx(20)
    optimizer.iterations.assign(2)
    assert edge_of_stability(optimizer) == pytest.approx(200)
    assert edge_of_stability(optimizer, learning_rate=0.5) == 4.0
    assert edge_of_stability(keras.optimizers.SGD(0.0)) == math.inf
    assert edge_of_stability(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))) == pytest.approx(
        20
    )


def test_an_edge_that_is_not_known_is_nan():
    class Own(keras.optimizers.Adam):
        def update_step(self, gradient, variable, learning_rate):
            """Another rule."""

    for optimizer in (keras.optimizers.RMSprop(), keras.optimizers.Nadam(), Own()):
        assert math.isnan(edge_of_stability(optimizer))


@pytest.mark.parametrize("options", [{}, {"amsgrad": True}], ids=str)
def test_the_preconditioner_is_what_adam_divides_by(options):
    """Without β₁ an update is η g / P, with g known: so P can be read off the weights."""
    optimizer = keras.optimizers.Adam(0.01, beta_1=0.0, beta_2=0.9, epsilon=0.01, **options)
    w, frozen = keras.Variable([1.0, -2.0, 3.0], dtype="float64"), keras.Variable(0.0, dtype="float64")
    optimizer.build([frozen, w])
    assert preconditioner(optimizer, [w]) is None
    for scale in (1.0, 0.1, 0.2):
        before, g = w.numpy(), scale * np.array([0.5, -0.02, 0.1])
        optimizer.apply([np.zeros(()), g], [frozen, w])
        np.testing.assert_allclose(preconditioner(optimizer, [w]), 0.01 * g / (before - w.numpy()), rtol=1e-6)


def test_the_preconditioner_of_the_first_update_takes_momentum_as_corrected():
    """Cohen et al. put 1 - β₁ᵗ into P, since Adam's first steps are longer: after one update 0.1 (|g| + ε / √(1 - β₂))."""
    optimizer = keras.optimizers.Adam(0.01, beta_1=0.9, beta_2=0.99, epsilon=0.001)
    w = keras.Variable([1.0], dtype="float64")
    optimizer.build([w])
    optimizer.apply([np.array([0.5])], [w])
    np.testing.assert_allclose(preconditioner(optimizer, [w]), [0.1 * (0.5 + 0.001 / 0.1)], rtol=1e-6)


def test_eigenvalues_of_the_preconditioned_operator():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(8, 8))
    a, p = a @ a.T, rng.uniform(0.1, 10, 8)

    operator = PreconditionedOperator(DenseOperator(a), p)

    expected = np.sort(np.linalg.eigvals(np.diag(1 / p) @ a).real)[::-1]
    np.testing.assert_allclose(top_eigenpairs(operator, 3, tolerance=1e-10).values, expected[:3], rtol=1e-9)
    assert operator.num_products == 8
    with pytest.raises(ValueError, match="should hold 8 positive numbers"):
        PreconditionedOperator(DenseOperator(a), p[:5])
