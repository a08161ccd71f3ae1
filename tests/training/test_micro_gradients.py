"""Norms noted while training, against gradients of single examples from a tape in float64."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from both_ways import LABELS, X, fit, mlp
from replicas import mirrored
from slow import slow

from tf_lbgap.training import TrainFunctions

B = 37


@pytest.fixture(autouse=True)
def _float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


def gradients_of_examples(model):
    """One gradient per example and variable, each flattened: V arrays of shape (B, size)."""
    rows = []
    for i in range(B):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(X[i : i + 1], LABELS[i : i + 1], model(X[i : i + 1]))
        rows.append([g.numpy().ravel() for g in tape.gradient(loss, model.trainable_variables)])
    return [np.stack(of_variable) for of_variable in zip(*rows, strict=True)]


def probe(model, micro_batch_size, **options):
    functions = TrainFunctions(model)
    functions.use_probing(micro_batch_size, **options)
    assert functions.gradients is None
    fit(model, X, LABELS, batch_size=B, epochs=1)
    return functions.gradients


@pytest.mark.parametrize(
    "options",
    [{}, *(slow({name: True}) for name in ("jit_compile", "run_eagerly"))],
    ids=str,
)
def test_single_examples_give_the_variance_of_a_gradient(options):
    """With parts of one example, B / (B - 1) (mean |g_i|² - |g_B|²) is the unbiased variance of an example, exactly."""
    model = mlp(keras.optimizers.SGD(0.1, clipnorm=1e-3), **options)
    examples = gradients_of_examples(model)
    found = probe(model, 1)
    assert (found.batch_size, found.num_micro_batches, found.mean_inverse_size) == (B, B, 1.0)
    assert found.inner_product_variance is None
    variance = B / (B - 1) * (found.squared_norms - found.squared_norm)
    np.testing.assert_allclose(variance, [g.var(0, ddof=1).sum() for g in examples], rtol=1e-10)
    np.testing.assert_allclose(found.squared_norm, [(g.mean(0) ** 2).sum() for g in examples], rtol=1e-10)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_parts_as_equal_as_can_be(jit_compile):
    """37 = 7 + 7 + 7 + 8 + 8 by bounds floor(37 i / 5); XLA has the larger parts first."""
    model = mlp(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    examples = np.concatenate(gradients_of_examples(model), 1)
    found = probe(model, 8, inner_products=True)
    bounds = [0, 8, 16, 23, 30, 37] if jit_compile else [0, 7, 14, 22, 29, 37]
    sizes = np.diff(bounds)
    parts = np.stack([examples[i:j].mean(0) for i, j in itertools.pairwise(bounds)])
    whole = examples.mean(0)
    products = parts @ whole - whole @ whole
    assert (found.batch_size, found.num_micro_batches) == (37, 5)
    assert found.mean_inverse_size == pytest.approx(np.mean(1 / sizes), rel=1e-12)
    assert found.squared_norms.sum() == pytest.approx((parts**2).sum(1).mean(), rel=1e-10)
    assert found.inner_product_variance == pytest.approx((sizes * products**2).sum() / 4, rel=1e-10)


def test_the_inner_products_of_single_examples_have_their_variance():
    model = mlp()
    examples = np.concatenate(gradients_of_examples(model), 1)
    found = probe(model, 1, inner_products=True)
    assert found.inner_product_variance == pytest.approx(
        np.var(examples @ examples.mean(0), ddof=1), rel=1e-10
    )


def test_one_part_has_no_variance():
    found = probe(mlp(), 100, inner_products=True)
    assert found.num_micro_batches == 1 and np.isnan(found.inner_product_variance)
    np.testing.assert_allclose(found.squared_norms, found.squared_norm)


@pytest.mark.slow
def test_norms_are_those_without_the_loss_scale():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1024.0)
    one, other = probe(mlp(scaled), 5), probe(mlp(keras.optimizers.SGD(0.1, loss_scale_factor=512.0)), 5)
    plain = probe(mlp(), 5)
    for found in (one, other):
        np.testing.assert_allclose(found.squared_norms, plain.squared_norms, rtol=1e-12)
        np.testing.assert_allclose(found.squared_norm, plain.squared_norm, rtol=1e-12)


@pytest.mark.slow
def test_a_probed_update_is_the_same_update():
    models = [mlp(keras.optimizers.Adam(0.1)) for _ in range(2)]
    fit(models[0], X, LABELS, epochs=2)
    TrainFunctions(models[1]).use_probing(5, inner_products=True)
    fit(models[1], X, LABELS, epochs=2)
    for one, other in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), atol=1e-12)


def test_of_an_execution_of_several_updates_the_last_counts():
    model = mlp(steps_per_execution=4)
    functions = TrainFunctions(model)
    functions.use_probing(2)
    fit(model, X, LABELS, epochs=1)
    assert functions.gradients.batch_size == 5  # 16, 16, 5


def test_a_variable_without_a_gradient_has_norm_zero():
    class Unused(keras.layers.Layer):
        def build(self, shape):
            self.unused = self.add_weight(shape=(3,))

        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((4,)), Unused(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = probe(model, 5)
    assert found.squared_norm.shape == found.squared_norms.shape == (3,)
    assert found.squared_norm[0] == found.squared_norms[0] == 0 < found.squared_norm[1:].min()


@pytest.mark.parametrize("optimizer", [{}, slow({"global_clipnorm": 0.01}), slow({"use_ema": True})], ids=str)
def test_replicas_note_the_norms_of_single_examples(optimizer):
    """36 examples on two devices in parts of one: norms and products are those of the 36 gradients, taken one by one.

    The update is the plain one, too: of Keras' optimizers only those without clipping are handed the sum.
    """
    models = []
    for _ in range(2):
        with mirrored().scope():
            models.append(mlp(keras.optimizers.SGD(0.1, momentum=0.9, **optimizer)))
    models[1].set_weights(models[0].get_weights())
    examples = [g[:36] for g in gradients_of_examples(models[0])]
    functions = TrainFunctions(models[0])
    functions.use_probing(1, inner_products=True)
    for model in models:
        fit(model, X[:36], LABELS[:36], batch_size=36, epochs=1)
    found = functions.gradients
    assert (found.batch_size, found.num_micro_batches, found.mean_inverse_size) == (36, 36, 1.0)
    np.testing.assert_allclose(found.squared_norms, [(g**2).sum(1).mean() for g in examples], rtol=1e-10)
    np.testing.assert_allclose(found.squared_norm, [(g.mean(0) ** 2).sum() for g in examples], rtol=1e-10)
    flat = np.concatenate(examples, axis=1)
    products = flat @ flat.mean(0)
    variance = ((products - (flat.mean(0) ** 2).sum()) ** 2).sum() / 35
    np.testing.assert_allclose(found.inner_product_variance, variance, rtol=1e-10)
    for one, other in zip(*(m.weights for m in models), strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), atol=1e-12)
