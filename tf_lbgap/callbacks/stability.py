"""The edge of stability: how sharp a minimum an optimizer can stay in.

On a quadratic with curvature λ, gradient descent with rate η contracts if λ < 2/η, and diverges beyond. Full-batch
training of networks sharpens until the largest eigenvalue of the Hessian hovers there. So an eigenvalue says
little by itself: at equal rates it is held against this number, and at different rates this number explains
the difference.

| optimizer | edge | of which matrix |
|---|---|---|
| SGD | 2 / η | Hessian H |
| SGD with momentum m (heavy ball) | (2 + 2m) / η | H |
| SGD with Nesterov's momentum | (2 + 2m) / (η (1 + 2m)) | H |
| Adam, AdamW | (2 + 2β₁) / ((1 - β₁) η) | P^-1/2 H P^-1/2 |

with P = (1 - β₁ᵗ) (√(v / (1 - β₂ᵗ)) + ε), the diagonal that Adam divides by. Weight decay, clipping and the
noise of batches are not in it: with small batches training settles below.

References:
    Cohen, Kaur, Li, Kolter & Talwalkar, "Gradient descent on neural networks typically occurs at the edge of
    stability", 2021 (arXiv 2103.00065), section 2 and appendix B (momentum).
    Cohen et al., "Adaptive gradient methods at the edge of stability", 2022 (arXiv 2207.14484), section 2.
"""

import math

import keras
import numpy as np

from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.curvature import Operator


def edge_of_stability(optimizer, learning_rate=None):
    """Return the curvature above which the optimizer is unstable on a quadratic.

    Args:
        optimizer: A Keras optimizer, also inside a `LossScaleOptimizer`.
        learning_rate: Defaults to the optimizer's present one (a Keras schedule is evaluated).

    Returns:
        A float in loss / weight², to be compared with the largest eigenvalue of the Hessian; for Adam of the
        preconditioned one (`PreconditionedOperator`), in loss / weight² times the unit of the diagonal. Infinite
        for a rate of 0. NaN for an optimizer that is not in the table.

    Example:
        >>> edge_of_stability(keras.optimizers.SGD(0.5)), edge_of_stability(keras.optimizers.SGD(0.5, momentum=0.5))
        (4.0, 6.0)
    """
    inner = rates.innermost(optimizer)
    rate = rates.read_rate(inner) if learning_rate is None else learning_rate
    if is_adam(inner):
        factor = (2 + 2 * inner.beta_1) / (1 - inner.beta_1)
    elif _steps_as(inner, keras.optimizers.SGD):
        m = rates.momentum_of(inner)
        factor = (2 + 2 * m) / (1 + 2 * m if inner.nesterov else 1)
    else:
        return math.nan
    return factor / rate if rate else math.inf


def is_adam(optimizer):
    """Return whether the optimizer steps as Adam does, so that its edge is one of the preconditioned Hessian."""
    return _steps_as(rates.innermost(optimizer), keras.optimizers.Adam)


def _steps_as(optimizer, kind):
    # AdamW inherits the step, a user's own subclass may have another.
    return isinstance(optimizer, kind) and type(optimizer).update_step is kind.update_step


def preconditioner(optimizer, variables):
    """Return the diagonal P that Adam divides by, of the last update.

    Keras adds ε before it corrects the bias: P = (1 - β₁ᵗ) (√v + ε) / √(1 - β₂ᵗ). With `amsgrad` v is the
    largest v so far.

    Args:
        optimizer: Adam or AdamW.
        variables: Trainable variables of its model.

    Returns:
        float64 of shape (n,), the variables flattened one after the other; None before the first update.
    """
    inner = rates.innermost(optimizer)
    t = int(inner.iterations.numpy())
    if not inner.built or t == 0:
        return None
    slots = inner._velocity_hats if inner.amsgrad else inner._velocities
    v = np.concatenate([slots[inner._get_variable_index(w)].numpy().ravel() for w in variables])
    root = np.sqrt(v.astype("float64")) + inner.epsilon
    return (1 - inner.beta_1**t) * root / math.sqrt(1 - inner.beta_2**t)


class PreconditionedOperator(Operator):
    """P^-1/2 A P^-1/2, which has the eigenvalues of P⁻¹A and is symmetric. Costs what A does.

    Args:
        operator: A, of shape (n, n).
        diagonal: P, shape (n,), positive.
    """

    def __init__(self, operator, diagonal):
        super().__init__(operator.shape, operator.dtype)
        diagonal = np.asarray(diagonal, "float64")
        if diagonal.shape != operator.shape[:1] or not (diagonal > 0).all():
            raise ValueError(
                f"diagonal has shape {diagonal.shape}, but should hold {operator.shape[0]} positive numbers, one per row of "
                "the operator."
            )
        self._operator = operator
        self._scale = (diagonal**-0.5).astype(self.dtype)

    def _multiply(self, rows):
        return self._operator.matmat((rows * self._scale).T).T * self._scale
