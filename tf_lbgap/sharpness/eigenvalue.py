"""Sharpness at a point: the largest eigenvalue of the Hessian of the mean loss, and the sum of all of them.

Both are in loss / weight² and see the second order only: where the gradient is not small, the loss may rise
faster in the first. Neither is invariant: a ReLU network can be rescaled to any value of them without a change
of its function (`rescale_relu`).

References:
    Dinh et al., "Sharp minima can generalize for deep nets", 2017 (rescaling).
    Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", 2021 (the
    largest eigenvalue beside 2 / learning rate).
"""

import math

from tf_lbgap.curvature import top_eigenpairs, trace
from tf_lbgap.sharpness.subject import subject


def top_eigenvalue(model, loss=None, batches=None, *, tolerance=1e-3, max_products=None, seed=0, **options):
    """The largest eigenvalue of the Hessian, by Lanczos' method.

    It is the most positive one, not the largest in magnitude. Some 10 to 20 products, each two to three
    gradients over the data.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`.
        tolerance: Of the eigenvalue, relative.
        max_products: Where to give up; by default after 100.
        seed: Of the random start.
        **options: Of `Subject`.

    Returns:
        A float, in loss / weight². NaN if it did not converge: a value that did not is not handed out
        (`curvature.top_eigenpairs` has it, with its residual).

    Raises:
        ValueError: If the loss or a product is not finite.

    Warns:
        UserWarning: If it did not converge.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> top_eigenvalue(model, "mse", (np.array([[1.0], [3.0]]), np.zeros((2, 1))))    # 2/N Σ x²
        10.0
    """
    hessian = subject(model, loss, batches, options).hessian
    pairs = top_eigenpairs(hessian, tolerance=tolerance, max_products=max_products, seed=seed)
    return float(pairs.values[0]) if pairs.converged[0] else math.nan


def hessian_trace(model, loss=None, batches=None, *, num_products=60, seed=0, **options):
    """The trace of the Hessian, by Hutch++: the sum of its eigenvalues, estimated.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`.
        batches: As for `curvature.HessianOperator`.
        num_products: How many products with the Hessian to spend, at least 6. As many as there are weights, or
            more, give the exact trace.
        seed: Of the random signs.
        **options: Of `Subject`.

    Returns:
        A float, in loss / weight². `curvature.trace(HessianOperator(model, loss, batches))` has its standard
        error too.

    Raises:
        ValueError: If the loss or a product is not finite, or `num_products` is too small.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> hessian_trace(model, "mse", (np.array([[1.0], [3.0]]), np.zeros((2, 1))))
        10.0
    """
    hessian = subject(model, loss, batches, options).hessian
    return trace(hessian, num_products=num_products, seed=seed).value
