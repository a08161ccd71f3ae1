"""For which networks and settings a bound is known: for softmax regression by plain SGD, and for nothing that is near it."""

import math
import types

import keras
import numpy as np
import pytest

from tf_lbgap.data.datasets import Split
from tf_lbgap.experiment.config import DEFAULTS
from tf_lbgap.reproduction.studies.stability_bounds import distance_bound

SGD = {"call": "keras.optimizers.SGD", "learning_rate": 0.1}
X = np.array([[1.0, 2.0], [0.0, 1.0], [2.0, 0.5]])
LARGEST = 1 + 5  # ‖(x, 1)‖² of the first
SPLIT = Split(X, np.array([0, 1, 2]), X[:1], np.array([1]), name="three")


def bound(model, epochs=2.0, **settings):
    """Of a run whose one arm has batches of 2 and these settings, without training it."""
    config = {**DEFAULTS, "optimizer": SGD, "batch_size": 2, **settings}
    run = types.SimpleNamespace(
        experiment=types.SimpleNamespace(arms={"a": config}),
        row=lambda arm, seed: {"batch_size": 2, "epochs": epochs},
        split=lambda arm, seed: SPLIT,
        model=lambda arm, seed: model,
    )
    return distance_bound(run, "a", 0)


def functional(*layers, shape=(2,), before=lambda x: x):
    inputs = keras.Input(shape)
    outputs = before(inputs)
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def regression():
    return functional(keras.layers.Dense(3))


@pytest.mark.parametrize(
    "make",
    [
        regression,
        lambda: functional(keras.layers.Flatten(), keras.layers.Dense(3)),
        lambda: keras.Sequential([keras.Input((2,)), keras.layers.Flatten(), keras.layers.Dense(3)]),
        lambda: functional(keras.layers.Dense(3, use_bias=False)),
    ],
    ids=["functional", "flattened", "sequential", "without bias"],
)
def test_for_softmax_regression_it_is_known(make):
    """Two epochs, in each of which the example may be the one of the last batch; L = √(2 · 6)."""
    for epochs, begun in ((2.0, 2), (1.4, 2), (0.2, 1)):
        found, lipschitz = bound(make(), epochs=epochs)
        assert lipschitz == pytest.approx(math.sqrt(2 * LARGEST))
        assert found == pytest.approx(2 * lipschitz * 0.1 * begun / 1)


class Twice(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(2 * x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: functional(keras.layers.Rescaling(255.0), keras.layers.Dense(3)),
        lambda: keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(255.0), keras.layers.Dense(3)]),
        lambda: functional(keras.layers.Dense(3), before=lambda x: x * 255.0),
        lambda: functional(keras.layers.Dense(3, activation="tanh")),
        lambda: functional(keras.layers.Dense(4), keras.layers.Dense(3)),
        lambda: functional(keras.layers.Dense(3, kernel_regularizer="l2")),
        lambda: functional(keras.layers.Dropout(0.5), keras.layers.Dense(3)),
        lambda: functional(keras.Sequential([keras.layers.Rescaling(255.0), keras.layers.Dense(3)])),
        Twice,
    ],
    ids=[
        "rescaling",
        "in a sequence",
        "times 255",
        "tanh",
        "two",
        "penalty",
        "dropout",
        "nested",
        "own call",
    ],
)
def test_for_no_other_network_is_it_known(make):
    model = make()
    model(X)
    assert np.isnan(bound(model)).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": {"call": "schedules.constant", "value": 2}},
        {"learning_rate": {"call": "schedules.constant", "value": 0.1}},
        {"learning_rate": 4 / LARGEST + 0.01},
        {"map": {"call": "data.augmentation.random_flip"}},
        {"update": [{"call": "training.SharpnessAware"}]},
        {"callbacks": [{"call": "callbacks.WeightAveraging"}]},
        {"adaptive": {"criterion": {}}},
        {"optimizer": {**SGD, "momentum": 0.5}},
        {"optimizer": {**SGD, "call": "keras.optimizers.Adam"}},
        {"optimizer": {"call": "keras.optimizers.SGD"}},
        {"loss": {**DEFAULTS["loss"], "reduction": "sum"}},
        {"loss": {"call": "losses.OneHotSquaredError"}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_for_no_other_training_is_it_known(settings):
    assert np.isnan(bound(regression(), **settings)).all()


def test_a_rate_of_its_own_below_the_limit_is_in_it():
    rate = 4 / LARGEST - 0.01
    assert bound(regression(), learning_rate=rate)[0] == pytest.approx(2 * math.sqrt(12) * rate * 2)
