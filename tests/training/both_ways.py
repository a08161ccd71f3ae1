"""Train one model twice from the same start: as Keras does, and accumulated from micro-batches."""

import keras
import numpy as np

from tf_lbgap.training import TrainFunctions

# 37 examples in batches of 16 are 16, 16 and a ragged 5; seven epochs are 21 updates.
NUM_EXAMPLES, BATCH_SIZE, EPOCHS = 37, 16, 7
RNG = np.random.default_rng(0)
X = RNG.normal(size=(NUM_EXAMPLES, 4))
LABELS = RNG.integers(0, 3, NUM_EXAMPLES)
TARGETS = RNG.normal(size=(NUM_EXAMPLES, 2))


def mlp(optimizer="sgd", loss=None, *, outputs=3, dtype=None, regularizer=None, **options):
    """A compiled perceptron, the same at each call."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, "tanh", dtype=dtype, kernel_regularizer=regularizer),
            keras.layers.Dense(outputs),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if loss is None else loss
    model.compile(optimizer, loss, **options)
    return model


def fit(model, *data, epochs=EPOCHS, **options):
    """The history of a fit."""
    settings = {"batch_size": BATCH_SIZE, "shuffle": False, "verbose": 0} | options
    return model.fit(*data, epochs=epochs, **settings).history


def both(make, *data, micro_batch_size=3, **options):
    """The models and histories of the two ways."""
    plain, accumulated = make(), make()
    expected = fit(plain, *data, **options)
    functions = TrainFunctions(accumulated)
    functions.use_accumulating(micro_batch_size)
    found = fit(accumulated, *data, **options)
    functions.restore()
    return plain, accumulated, expected, found


def assert_equal(plain, accumulated, expected, found, *, atol):
    """Weights, all the optimizer's variables, and every logged number."""
    state = [model.variables + model.optimizer.variables for model in (plain, accumulated)]
    for one, other in zip(*state, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=0, atol=atol, err_msg=one.path)
    assert set(found) == set(expected)
    for name, values in expected.items():
        # Keras adds up metrics in float32 unless floatx says otherwise.
        np.testing.assert_allclose(found[name], values, rtol=max(atol, 1e-6), err_msg=name)
    assert int(accumulated.optimizer.iterations.numpy()) == int(plain.optimizer.iterations.numpy())


def assert_both_equal(make, *data, atol=1e-12, **options):
    """Train both ways and compare."""
    assert_equal(*both(make, *data, **options), atol=atol)
