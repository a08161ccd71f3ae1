"""Squared error for labels that are whole numbers, against Keras' own on one-hot labels."""

import keras
import numpy as np
import pytest

from tf_lbgap.losses import OneHotSquaredError


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("shape", [(7,), (7, 1), (2, 3)], ids=str)
def test_it_is_half_the_sum_over_classes(shape):
    """Keras has the mean over 4 classes: 4 / 2 times that."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, shape)
    outputs = rng.normal(size=(*(shape[:1] if shape[-1] == 1 else shape), 4))
    one_hot = np.eye(4)[labels.reshape(outputs.shape[:-1])]
    value = float(OneHotSquaredError()(labels, outputs))
    assert value == pytest.approx(2 * float(keras.losses.MeanSquaredError()(one_hot, outputs)), rel=1e-12)


def test_weights_of_examples_count_and_it_is_saved_with_a_model(tmp_path):
    labels, outputs = np.array([0, 1]), np.array([[0.0, 2.0], [0.0, 1.0]], "float32")
    assert float(OneHotSquaredError()(labels, outputs, sample_weight=[2.0, 5.0])) == pytest.approx(
        2 * 2.5 / 2
    )
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", OneHotSquaredError())
    model.save(tmp_path / "model.keras")
    assert isinstance(keras.models.load_model(tmp_path / "model.keras").loss, OneHotSquaredError)


def test_one_hot_labels_are_refused():
    with pytest.raises(ValueError, match="MeanSquaredError"):
        OneHotSquaredError()(np.eye(3), np.zeros((3, 3)))
