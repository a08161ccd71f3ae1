"""One step up the gradient: the largest rise of the linearised loss within a ball.

    ℓ(x + δ) ≈ ℓ(x) + gᵀδ,    g = ∂ℓ/∂x.

Within |δ_i| ≤ ε (L∞) the maximum is at δ = ε sign(g), within ‖δ‖₂ ≤ ε at ε g / ‖g‖₂.

References:
    Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples", 2015 (the fast gradient sign
    method). Yao et al., "Hessian-based analysis of large batch training and robustness to adversaries", 2018 (both).
"""

import tensorflow as tf

from tf_lbgap.attacks.calls import attacked
from tf_lbgap.attacks.limits import clipped, unit_vectors


def fgsm(model, loss, x, y, *, epsilon, data_range=None):
    """The fast gradient sign method: x + ε sign(g), in the L∞ ball.

    Where an entry of g is exactly 0 (a pixel that nothing reads, a loss that float32 rounds to flat) sign is 0 and the
    entry stays. Costs one gradient.

    Args:
        model: A built Keras model with one floating-point input and one output. It runs in inference mode, and
            nothing in it changes.
        loss: A `keras.losses.Loss`, the name of one, or a function with a value per example.
        x: Inputs, (examples, ...), an array or a tensor of a float type.
        y: Labels as the loss takes them.
        epsilon: ε, a number or a scalar tensor, in the unit of x. At 0 x comes back.
        data_range: `(low, high)`, numbers or arrays that broadcast to an example: what leaves it is clipped. None:
            nothing is. (HessianFlow clips to the least and the largest entry of the batch; then an example's attack
            depends on what else is in the batch. For that pass `(x.min(), x.max())`.)

    Returns:
        A tensor of the shape and type of x, a constant for every gradient. |x' - x| is at most ε up to the rounding
        of the sum.

    Raises:
        ValueError: If an argument is none of these, x is not within `data_range`, or (eagerly) the attack gives NaN.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[1.0], [-2.0]])])                    # ℓ = (x0 - 2 x1)²
        >>> fgsm(model, "mse", np.array([[1.0, 0.0]]), np.array([[0.0]]), epsilon=0.25).numpy()
        array([[ 1.25, -0.25]])
    """
    return attacked(_fgsm, model, loss, x, y, epsilon, data_range)


def l2grad(model, loss, x, y, *, epsilon, data_range=None):
    """L2GRAD: x + ε g / ‖g‖₂, each example by its own norm, in the L2 ball.

    An example whose gradient is 0 stays. Clipping to `data_range` shortens the step. Costs one gradient.

    Args:
        model: As for `fgsm`, as all others.
        loss: As for `fgsm`.
        x: As for `fgsm`.
        y: As for `fgsm`.
        epsilon: ε, the L2 norm of the step of each example.
        data_range: As for `fgsm`.

    Returns:
        A tensor of the shape and type of x.
    """
    return attacked(_l2grad, model, loss, x, y, epsilon, data_range)


def _fgsm(losses, x, y, epsilon, limits, seed):
    return clipped(x + epsilon * tf.sign(losses.gradient(x, y)), x, limits)


def _l2grad(losses, x, y, epsilon, limits, seed):
    return clipped(x + epsilon * unit_vectors(losses.gradient(x, y))[0], x, limits)
