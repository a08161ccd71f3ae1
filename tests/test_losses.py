"""Smoothed cross-entropy against Keras' loss of one-hot labels and against the formula by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from references import finite_difference_hessian, floatx, mean_loss

import tf_lbgap as lb
from tf_lbgap.curvature import HessianOperator
from tf_lbgap.losses import SmoothedCrossentropy

K = 5
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, K, 7)
LOGITS = 3 * RNG.normal(size=(7, K))
WEIGHTS = RNG.random(7)


@pytest.fixture(autouse=True)
def _float64():
    with floatx("float64"):
        yield


def probabilities(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight", None])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_it_is_keras_loss_of_one_hot_labels(from_logits, weights, reduction):
    predictions = LOGITS if from_logits else probabilities(LOGITS)
    options = {"label_smoothing": 0.1, "from_logits": from_logits, "reduction": reduction}
    expected = keras.losses.CategoricalCrossentropy(**options)(np.eye(K)[LABELS], predictions, weights)

    for labels in (LABELS, LABELS[:, None], LABELS.astype("uint8")):
        found = SmoothedCrossentropy(**options)(labels, predictions, weights)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0, 0.1, 0.9])
def test_it_is_the_formula(smoothing):
    """-Σ_k q_k log p_k with q = (1 - ε) onehot + ε/K, example by example."""
    log_p = np.log(probabilities(LOGITS))
    expected = [
        -(1 - smoothing) * row[label] - smoothing * row.mean()
        for label, row in zip(LABELS, log_p, strict=True)
    ]
    found = SmoothedCrossentropy(smoothing, reduction=None)(LABELS, LOGITS)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_its_least_value_is_the_entropy_of_the_smoothed_label():
    """0.50 for ε = 0.1 and ten classes, as the docstring says: no target of 0.01 is ever reached."""
    q = 0.9 * np.eye(10)[3] + 0.01
    found = float(SmoothedCrossentropy(0.1)(np.array([3]), np.log(q)[None]))
    np.testing.assert_allclose(found, -(q * np.log(q)).sum(), rtol=1e-12)
    assert round(found, 2) == 0.50


def test_sequences_have_a_loss_at_each_position():
    labels, logits = RNG.integers(0, K, (3, 4)), RNG.normal(size=(3, 4, K))
    flat = SmoothedCrossentropy(reduction=None)(labels.ravel(), logits.reshape(-1, K))
    found = SmoothedCrossentropy(reduction=None)(labels, logits)
    np.testing.assert_allclose(found, np.reshape(flat, (3, 4)), rtol=1e-12)


def test_its_hessian_is_that_of_finite_differences():
    """With 7 examples and batches of 3 the last holds one."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(K)])
    loss, x = SmoothedCrossentropy(0.2), RNG.normal(size=(7, 2))
    batches = [(x[i : i + 3], LABELS[i : i + 3]) for i in range(0, 7, 3)]

    operator = HessianOperator(model, loss, batches)

    found = np.stack([operator.matvec(e) for e in np.eye(operator.shape[0])], axis=1)
    expected = finite_difference_hessian(model, lambda: mean_loss(model, loss, x, LABELS))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def fitted(loss, labels, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(K)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], **options)
    x = np.random.default_rng(2).normal(size=(7, 2))
    model.fit(x, labels, batch_size=3, epochs=3, shuffle=False, verbose=0)
    return model


def test_fit_and_accuracy_are_as_with_keras_loss_of_one_hot_labels():
    ours = fitted(SmoothedCrossentropy(), LABELS)
    theirs = fitted(keras.losses.CategoricalCrossentropy(True, 0.1), np.eye(K)[LABELS])
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_fit_is_as_with_xla():
    plain, compiled = (fitted(SmoothedCrossentropy(), LABELS, jit_compile=jit) for jit in (False, True))
    for one, other in zip(plain.get_weights(), compiled.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_a_saved_model_has_it_again(tmp_path):
    model = fitted(SmoothedCrossentropy(0.3, reduction="sum"), LABELS)
    model.save(tmp_path / "model.keras")
    loss = keras.saving.load_model(tmp_path / "model.keras").loss
    assert isinstance(loss, SmoothedCrossentropy)
    assert (loss.label_smoothing, loss.from_logits, loss.reduction) == (0.3, True, "sum")


@pytest.mark.parametrize("label", [-1, K, K + 7])
def test_a_label_that_is_no_class_gives_nan_and_no_number(label):
    values = np.asarray(SmoothedCrossentropy(reduction=None)(np.array([0, label]), LOGITS[:2]))
    assert np.isfinite(values[0])
    assert np.isnan(values[1])


def test_mixed_precision_computes_in_float32():
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("mixed_float16")
    value = SmoothedCrossentropy()(LABELS, tf.cast(LOGITS, tf.float16))
    assert value.dtype == tf.float32


def test_it_is_what_a_config_names():
    from tf_lbgap.experiment import calls

    loss = calls.make({"call": "losses.SmoothedCrossentropy", "label_smoothing": 0.2})
    assert (loss.label_smoothing, loss.from_logits) == (0.2, True)
    assert lb.losses.SmoothedCrossentropy is SmoothedCrossentropy


@pytest.mark.parametrize("value", [-0.1, 1, 1.5, True, "0.1", None, float("nan")])
def test_a_smoothing_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="should be a number from 0 to below 1"):
        SmoothedCrossentropy(value)


def test_one_hot_labels_are_refused():
    with pytest.raises(ValueError, match="takes whole numbers as labels"):
        SmoothedCrossentropy()(np.eye(K)[LABELS], LOGITS)
    with pytest.raises(ValueError, match="from_logits='yes' should be True or False"):
        SmoothedCrossentropy(from_logits="yes")
