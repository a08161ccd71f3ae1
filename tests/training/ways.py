"""Linear regression trained with changes of the update, beside the same by hand in NumPy."""

import keras
import numpy as np
import pytest

import tf_lbgap as lb
from tf_lbgap.training import Adversarial, Conservative, NoisyGradient, QuasiNewton, SharpnessAware, Stability

# 37 examples in batches of 16 are 16, 16 and a ragged 5.
NUM_EXAMPLES, BATCH_SIZE = 37, 16
RNG = np.random.default_rng(0)
X = RNG.normal(size=(NUM_EXAMPLES, 4))
Y = X @ [1.0, -2.0, 0.5, 0.0] + 0.3 * RNG.normal(size=NUM_EXAMPLES)
LABELS = (Y > 0).astype(int) + (Y > 1)
A = np.c_[X, np.ones(NUM_EXAMPLES)]  # the last weight is the bias
RATE = 0.125  # float32 has it exactly, in which Keras keeps a rate


def linear(optimizer=None, loss="mse", **options):
    """A compiled linear model of 4 inputs, in the type that is set."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, bias_initializer="ones")])
    model.compile(optimizer or keras.optimizers.SGD(RATE), loss, **options)
    return model


def network(optimizer=None, *, dropout=0.5, outputs=3, dtype=None, **options):
    """A compiled classifier with batch normalization and dropout."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(6, dtype=dtype),
        keras.layers.BatchNormalization(dtype=dtype),
        keras.layers.ReLU(dtype=dtype),
        keras.layers.Dropout(dropout, seed=3, dtype=dtype),
        keras.layers.Dense(outputs, dtype="float32" if dtype else None),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(RATE), loss, **options)
    return model


def fit(model, changes, *data, epochs=2, micro_batch_size=None, **options):
    """The history of a fit with changes, in the order of the data."""
    callbacks = [lb.callbacks.ChangeUpdates(changes)] if changes is not None else []
    if micro_batch_size is None:
        settings = {"batch_size": BATCH_SIZE, "shuffle": False, "verbose": 0} | options
        return model.fit(*data, epochs=epochs, callbacks=callbacks, **settings).history
    batches = lb.data.Batches(*data, batch_size=BATCH_SIZE, seed=0)
    schedule = lb.schedules.constant(BATCH_SIZE)
    callbacks += [lb.callbacks.BatchSizeScheduler(batches, schedule, micro_batch_size=micro_batch_size)]
    return model.fit(batches, epochs=epochs, callbacks=callbacks, verbose=0, shuffle=False).history


def flat(model):
    """The trainable weights in one vector."""
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


def batches_of(epochs=2):
    """Yield the rows of each batch."""
    for _ in range(epochs):
        for start in range(0, NUM_EXAMPLES, BATCH_SIZE):
            yield slice(start, start + BATCH_SIZE)


def gradient(w, rows, inputs=A, weight=1.0):
    """That of the mean squared error of some examples, by hand."""
    a, y = inputs[rows], Y[rows]
    return 2 / len(a) * a.T @ (weight * (a @ w - y))


CHANGES = {
    "sam": lambda: SharpnessAware(0.05),
    "asam": lambda: SharpnessAware(0.5, adaptive=True, eta=0.01),
    "m_sam": lambda: SharpnessAware(0.05, m=5),
    "conservative": lambda: Conservative(0.1),
    "adversarial_replace": lambda: Adversarial("fgsm", 0.1, ratio=0.3),
    "adversarial_add": lambda: Adversarial("fgsm", 0.1, ratio=0.5, mix="add"),
    "random_noise": lambda: Adversarial("random_sign", 0.1),
    "stability": lambda: Stability(0.1, sigma=0.2),
    "noisy_gradient": lambda: NoisyGradient(4),
    "quasi_newton": lambda: QuasiNewton(damping=0.5, first=0.1),
    "quasi_newton_of_averages": lambda: QuasiNewton(every=2, first=0.1),
}
_BY_PART = ("m_sam", "adversarial_replace", "random_noise", "stability", "noisy_gradient")
BY_PART = [CHANGES[name] for name in _BY_PART]  # what depends on how a batch is cut
_FAST = ("sam", "stability")


def _each(changes):
    params = [pytest.param(m, id=n, marks=[] if n in _FAST else pytest.mark.slow) for n, m in changes.items()]
    return pytest.mark.parametrize("make", params)


each_change = _each(CHANGES)
each_whole_change = _each({name: make for name, make in CHANGES.items() if name not in _BY_PART})
