"""Short fits of one small model with kernels, biases and a normalization, and the optimizers for it."""

import keras
import numpy as np

from tf_lbgap.optimizers import Lamb, Lars, RmspropWarmup

# 37 examples in batches of 16 are 16, 16 and a ragged 5.
RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(37, 4)), RNG.integers(0, 3, 37)

MAKE = {
    "Lars": lambda **options: Lars(1.0, weight_decay=0.01, trust_coefficient=0.02, **options),
    "Lamb": lambda **options: Lamb(0.02, weight_decay=0.01, phi_bounds=(0.0, 3.0), **options),
    "RmspropWarmup": lambda **options: RmspropWarmup(0.1, center=3, period=4, **options),
}


def classifier(optimizer, **options):
    """A compiled perceptron, the same at each call."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(6, "tanh"), keras.layers.LayerNormalization(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return model


def fit(model, epochs=2, x=X, y=LABELS, **options):
    """The losses of a fit in batches of 16, in order."""
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, epochs=epochs, **settings).history["loss"]


def assert_same(one, other, atol):
    """Weights and the optimizer's variables."""
    pairs = zip(
        one.variables + one.optimizer.variables, other.variables + other.optimizer.variables, strict=True
    )
    for first, second in pairs:
        np.testing.assert_allclose(second.numpy(), first.numpy(), rtol=atol, atol=atol, err_msg=first.path)
