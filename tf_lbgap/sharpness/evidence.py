"""The Bayesian evidence of a minimum: its cost, and what its sharpness costs on top, in nats.

With a normal prior of precision Λ on the weights, the cost C(w) = Σ ℓ_i(w) + ½ wᵀΛw, a sum over all N examples, is
minus the logarithm of prior times likelihood. Laplace's approximation at a minimum w₀ integrates it to

    -ln evidence ≈ C(w₀) + ½ Σ ln(λ_i / λ),    λ_i the eigenvalues of ∂²C/∂w², Λ = λ I:

the second part, Smith and Le's *Occam factor*, charges a sharp minimum, and steeper the more directions are sharp. Here it is

    ½ ln det(I + N Λ^-½ H Λ^-½),    H the curvature of the mean loss.

Under another parametrisation of the weights, w' = D w, the Hessian becomes D⁻¹ H D⁻¹ and a prior that goes with it
D⁻¹ Λ D⁻¹: the evidence stays, whereas with λ I as before it is that of another prior, and moves. So `l2` may be one
number, or one for each weight.

H is Gauss and Newton's matrix by default: it has no negative eigenvalue, so the determinant exists wherever training
stopped, and is the Hessian where the loss is small. For the Hessian itself negative eigenvalues count as 0.

References:
    MacKay, "A practical Bayesian framework for backpropagation networks", 1992 (equation 15, Occam factor).
    Smith & Le, "A Bayesian perspective on generalization and stochastic gradient descent", 2018 (arXiv 1710.06451), section 2.
"""

import dataclasses
import math
import numbers

import numpy as np
import tensorflow as tf

from tf_lbgap.curvature import Operator, log_determinant
from tf_lbgap.sharpness.subject import subject

CURVATURES = ("gauss_newton", "hessian")


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Minus the logarithm of the evidence, in nats; smaller is better.

    Attributes:
        value: `cost` + `penalty`.
        cost: C(w₀), summed over the examples, prior included.
        penalty: The Occam factor, ½ ln det(I + N Λ^-½ H Λ^-½).
        standard_error: Of the penalty, from the spread over random vectors; 0 where it is exact.
        low, high: What the penalty would be with all products for the same vectors is between these; see
            `curvature.LogDeterminant`.
        negative: How many negative eigenvalues of H were taken for 0.
    """

    value: float
    cost: float
    penalty: float
    standard_error: float
    low: float
    high: float
    negative: float


def negative_log_evidence(
    model,
    loss=None,
    batches=None,
    *,
    l2,
    num_examples=None,
    curvature="gauss_newton",
    num_probes=8,
    num_steps=30,
    seed=0,
    **options,
):
    """Estimate Smith and Le's -ln evidence at the present weights, with its Occam factor.

    Costs num_probes x num_steps products over the data, each two to three gradients; for a network of that many weights or
    fewer as many products as it has weights, and the result is exact.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`: one with reduction "sum_over_batch_size", of one value an example.
        batches: As for `curvature.HessianOperator`.
        l2: λ, the precision of the prior, above 0; or (n,), one for each weight, laid out as `curvature.LossSurface` does. A
            penalty c Σ w² on the mean loss of N examples is λ = 2 N c. Penalties that the model itself has do not count.
        num_examples: N, of the training set, if the data are a sample of it, 1 or more; None: those there are.
        curvature: "gauss_newton" or "hessian".
        num_probes, num_steps, seed: As of `curvature.log_determinant`.
        **options: Of `Subject`.

    Returns:
        `Evidence`.

    Raises:
        ValueError: If `l2` is not above 0 or of another shape, `num_examples` is no whole number from 1 up, or the loss is not finite.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[1.0]])])
        >>> data = np.array([[1.0], [1.0]]), np.array([[1.0], [1.0]])    # H = 2: λ_1 = 2 · 2 + 4
        >>> round(negative_log_evidence(model, "mse", data, l2=4.0).penalty, 4)    # ½ ln(8 / 4)
        0.3466
    """
    s = subject(model, loss, batches, options)
    surface = s.surface
    weights = surface.weights()
    precision = _checked(l2, len(weights))
    if curvature not in CURVATURES:
        raise ValueError(f"curvature is {curvature!r}, but should be one of {', '.join(CURVATURES)}.")
    count = _count(num_examples, surface.batches)
    cost = count * surface.value(weights) + 0.5 * float(precision @ weights**2)
    if not math.isfinite(cost):
        raise ValueError(
            f"The cost is {cost} at the present weights, so there is no evidence. Has training diverged?"
        )
    found = log_determinant(
        _Scaled(getattr(s, curvature), np.sqrt(count / precision)),
        num_probes=num_probes,
        num_steps=num_steps,
        seed=seed,
    )
    parts = (half / 2 for half in (found.value, found.standard_error, found.low, found.high))
    return Evidence(cost + found.value / 2, cost, *parts, negative=found.negative)


class _Scaled(Operator):
    """diag(factors) H diag(factors)."""

    def __init__(self, operator, factors):
        self._inner, self._factors = operator, factors
        super().__init__(operator.shape, operator.dtype)

    def _multiply(self, rows):
        rows = rows * self._factors
        inner = self._inner
        products = inner.matvec(rows[0])[None] if len(rows) == 1 else inner.matmat(rows.T).T
        return (products * self._factors).astype(self.dtype)


def _count(num_examples, batches):
    if num_examples is None:
        return sum(int(tf.nest.flatten(batch)[0].shape[0]) for batch in batches)
    if isinstance(num_examples, bool) or not isinstance(num_examples, numbers.Integral) or num_examples < 1:
        raise ValueError(
            f"num_examples is {num_examples!r}, but should be how many examples the training set has, a whole number from 1 up. "
            "Pass len(x_train), or leave it out if the data are all there are."
        )
    return int(num_examples)


def _checked(l2, size):
    precision = np.asarray(l2, "float64")
    if precision.shape not in ((), (size,)) or not (np.isfinite(precision).all() and (precision > 0).all()):
        raise ValueError(
            f"l2 is {l2!r}, but should be a number above 0, such as 1.0, or {size} of them, one for each weight."
        )
    return np.broadcast_to(precision, (size,))
