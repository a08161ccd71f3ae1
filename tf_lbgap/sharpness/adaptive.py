"""Sharpness along the gradient within a distance that is measured relative to the weights, as in ASAM.

    L(w + e) - L(w),    e = ρ T² g / ‖T g‖,    T = diag(|w| + η),

the first-order answer to how far the loss can rise with ‖T⁻¹ e‖ ≤ ρ. With η = 0 it does not change when a weight is
multiplied and another divided so that the function stays the same: T scales as w does, and g as 1/w.

References:
    Kwon, Kim, Park & Choi, "ASAM: Adaptive sharpness-aware minimization for scale-invariant learning of deep neural
    networks", 2021 (arXiv 2102.11600), and the authors' code (SamsungLabs/ASAM).
"""

import numpy as np

from tf_lbgap.sharpness.increases import centre, for_each, length
from tf_lbgap.sharpness.subject import subject


def adaptive_sharpness(model, loss=None, batches=None, *, rho=0.5, eta=0.0, scale_biases=False, **options):
    """The rise of the mean loss after the step of ASAM.

    Costs one gradient over the data, and one evaluation of the loss for each ρ.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`.
        rho: ρ, relative to the weights, or several. 0.5 is the authors' default, and what they used for CIFAR-10.
        eta: η, in the unit of the weights. 0 is the default of the authors' script; 0.01, that of their class, makes
            small weights move too, and the measure scale-dependent.
        scale_biases: False, as in the authors' code: T is |w| + η for kernels, embeddings and the scale γ of
            normalization, and 1 for biases and the shift β. True: |w| + η for these too, without which rescaling a
            layer with a bias does change the measure.
        **options: Of `Subject`.

    Returns:
        A float, in the unit of the loss; a list of floats if `rho` is a sequence. 0 where T g is 0.

    Raises:
        ValueError: If the loss or its gradient is not finite, ρ is not above 0, or η is below 0.

    Warns:
        UserWarning: If the loss is not finite after the step.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[2.0]])])
        >>> data = np.array([[1.0]]), np.array([[0.0]])
        >>> adaptive_sharpness(model, "mse", data, rho=0.5)    # 3² - 2²: half of 2 further
        5.0
    """
    surface = subject(model, loss, batches, options).surface
    if not eta >= 0:
        raise ValueError(f"eta is {eta!r}, but should be 0 or a number above it, such as 0.01.")
    weights, value, gradient = centre(surface)
    T = np.abs(weights) + eta
    if not scale_biases:
        T[_of_biases(surface.parameters)] = 1.0
    slope = length(T * gradient)
    direction = T * (T * gradient / slope) if slope > 0 else 0 * gradient
    return for_each(rho, "rho", lambda r: surface.value(weights + r * direction) - value)


def _of_biases(parameters):
    """(n,) bool: whether a weight is added to something rather than multiplied, by the names Keras gives."""
    shifts = [v.name == "beta" or "bias" in v.name for v in parameters.variables]
    return np.repeat(shifts, parameters.sizes)
