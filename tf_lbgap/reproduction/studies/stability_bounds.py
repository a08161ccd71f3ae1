"""How far apart one example can lead two trainings at most, where the loss is convex.

For a convex loss whose examples have gradients of norm up to L, and with rates up to 2 / β, gradient steps bring no two
points further apart. So the weights differ only by what the example itself did: it moves either training by up to
rate × L / B in an update whose batch of B it is in. In shuffled epochs that is once an epoch:

    ‖w - w'‖ ≤ 2 L rate epochs / B = 2 L Σ rate / N,     |ℓ(w) - ℓ(w')| ≤ L ‖w - w'‖

for any order and any example. Drawn with replacement it holds in the mean over draws, which is Theorem 3.8 of
Hardt et al. L and β are known for multinomial logistic regression: √2 max ‖(x, 1)‖, and max ‖(x, 1)‖² / 2, which
bounds the largest eigenvalue of diag(p) - ppᵀ, times ‖(x, 1)‖².

References:
    Hardt, Recht & Singer, "Train faster, generalize better: stability of stochastic gradient descent", 2016, lemma 2.5
    and theorem 3.8.
"""

import math

import numpy as np

from tf_lbgap.reproduction.studies.trained_with import batch_of, rate_of

_SOFTMAX = {"call": "keras.losses.SparseCategoricalCrossentropy", "from_logits": True}
_CHANGES = ("map", "update", "callbacks", "adaptive", "full_batch")  # of what is trained on, or of the steps


def distance_bound(run, arm, seed):
    """Return the bound on ‖w - w'‖, and L, two floats; NaN where none is known.

    One is known where inputs as they are, or flattened, go into one linear Dense layer, the loss is the cross-entropy of a
    softmax and nothing else, and plain SGD at one rate, up to 2 / β, and in batches of one size is all that moves the weights.

    Args:
        run: A `FinishedRun`.
        arm, seed: Which finished; the twin has the same settings.
    """
    config, rate, size = run.experiment.arms[arm], rate_of(run, arm, seed), batch_of(run, arm, seed)
    optimizer = config["optimizer"]
    is_plain = optimizer["call"] == "keras.optimizers.SGD" and set(optimizer) <= {"call", "learning_rate"}
    is_plain = is_plain and not any(config[key] for key in _CHANGES) and config["loss"] == _SOFTMAX
    if not is_plain or math.isnan(rate) or math.isnan(size) or not _is_regression(run.model(arm, seed)):
        return math.nan, math.nan
    split = run.split(arm, seed)
    squares = 1 + max(
        (np.float64(x) ** 2).reshape(len(x), -1).sum(1).max() for x in (split.x_train, split.x_test)
    )
    if rate > 4 / squares:
        return math.nan, math.nan
    lipschitz = math.sqrt(2 * squares)
    # The example may come at the start of an epoch that was begun, and in the last batch of each.
    epochs = math.ceil(run.row(arm, seed)["epochs"] - 1e-9)
    smallest = len(split.y_train) % size or size
    return 2 * lipschitz * rate * epochs / smallest, lipschitz


def _is_regression(model):
    """Whether a network is Flatten, if at all, and one linear Dense layer, without penalties or constraints."""
    import keras

    # Of a functional model `layers` lacks what is no layer, such as a multiplication of the inputs.
    parts = model.layers if isinstance(model, keras.Sequential) else getattr(model, "operations", [])
    parts = [part for part in parts if type(part) not in (keras.layers.InputLayer, keras.layers.Flatten)]
    if [type(part) for part in parts] != [keras.layers.Dense]:
        return False
    (dense,) = parts
    shaping = (
        "kernel_regularizer",
        "bias_regularizer",
        "activity_regularizer",
        "kernel_constraint",
        "bias_constraint",
    )
    is_free = all(getattr(dense, name) is None for name in shaping)
    return is_free and dense.activation is keras.activations.linear
