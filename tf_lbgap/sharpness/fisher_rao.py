"""The Fisher-Rao norm: how much the predictions change, to second order, when all weights are scaled.

    ‖w‖² = ⟨w, F w⟩,    F the Fisher matrix of the model's own predictions at w.

It is a property of the predicted distribution as a function of the weights, so rescaling a ReLU network leaves it
as it is: F changes by what w changes by, squared and upside down. In nats per example where the loss is a
cross-entropy.

References:
    Liang, Poggio, Rakhlin & Stokes, "Fisher-Rao metric, geometry, and complexity of neural networks", 2019 (arXiv
    1711.01530), definition 2.
"""

import numpy as np

from tf_lbgap.curvature import FisherOperator
from tf_lbgap.sharpness.subject import subject


def squared_fisher_rao_norm(model, loss=None, batches=None, *, kind="true", **options):
    """⟨w, F w⟩, the square of the Fisher-Rao norm of the weights: a single product, about two gradients.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: A likelihood, for the true Fisher matrix: as for `curvature.FisherOperator`.
        batches: As for `curvature.FisherOperator`.
        kind: "true", the expectation over labels drawn from the predictions, as in the paper; or "empirical", at the
            given labels, which takes any loss with a value per example and fades as the fit gets perfect.
        **options: Of `Subject`. With `variables` the norm is that of these weights alone.

    Returns:
        A float, in the unit of the loss.

    Raises:
        ValueError: If the loss is no likelihood that is known, or not finite.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[3.0]])])
        >>> squared_fisher_rao_norm(model, "mse", (np.array([[1.0]]), np.array([[0.0]])))    # F = 2
        18.0
    """
    s = subject(model, loss, batches, options)
    fisher = s.made(
        ("fisher", kind), lambda: FisherOperator(s.model, s.loss, s.batches, kind=kind, **s.options)
    )
    weights = s.surface.weights()
    return float(np.dot(weights, fisher.matvec(weights).astype("float64")))
