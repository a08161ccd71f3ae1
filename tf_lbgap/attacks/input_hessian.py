"""One step along d = H⁻¹ g, the gradient weighed by the inverse curvature of the loss in the input.

    g = ∂ℓ/∂x,    H = ∂²ℓ/∂x², each example its own.

H is singular: for a network of piecewise linear activations and softmax cross-entropy H = Jᵀ(diag(p) - ppᵀ)J, J the
Jacobian of the logits, of a rank of at most C - 1, C classes. So H⁻¹ is read as the pseudo-inverse, or damped,
and found by conjugate gradients (`conjugate_gradients`); g lies in the range of H there. With other activations H has
negative eigenvalues as well, and the answer is what was found before one was met, which is still uphill.

References:
    Yao, Gholami, Lei, Keutzer & Mahoney, "Hessian-based analysis of large batch training and robustness to
    adversaries", 2018 (FHSM, L2HESS; solved approximately, by what rule the paper's text was not at hand to say).
"""

import concurrent.futures
import dataclasses
import numbers

import tensorflow as tf

from tf_lbgap.attacks.calls import attacked, example_tensors, run
from tf_lbgap.attacks.conjugate_gradients import solve
from tf_lbgap.attacks.limits import clipped, unit_vectors
from tf_lbgap.attacks.loss_by_input import model_dtype
from tf_lbgap.curvature.second_order import check_second_derivatives


@dataclasses.dataclass(frozen=True)
class NewtonDirections:
    """What conjugate gradients found.

    Attributes:
        directions: d of each example, in the shape of x and the model's float type. Where no step could be taken
            (the curvature along g is not positive) it is g.
        num_steps: How many steps each example took, (examples,), int32: products that it needed.
        residuals: ‖(H + λI) d - g‖ / ‖g‖, (examples,), as the recursion has it.
    """

    directions: tf.Tensor
    num_steps: tf.Tensor
    residuals: tf.Tensor


def input_newton_direction(model, loss, x, y, *, damping=0.0, tolerance=0.0, max_steps=20):
    """d = (H + λI)⁻¹ g of each example, and the steps it took.

    With the defaults and a network of ReLUs this is the pseudo-inverse times g, as far as the float type reaches:
    directions whose curvature is below 16 units of rounding (2e-6 in float32, 4e-15 in float64) of the largest are left
    out.

    Costs one gradient, and a product of the Hessian for each step of the example that takes the most; it keeps
    `max_steps` vectors of the size of x.

    Args:
        model: As for `fgsm`, as the next three.
        loss: As for `fgsm`.
        x: As for `fgsm`.
        y: As for `fgsm`.
        damping: λ as a part of |gᵀHg| / ‖g‖², the curvature of the example along its gradient, so that confident
            examples, whose curvature is 1e-12, are damped no more than others.
        tolerance: Where to stop: ‖(H + λI) d - g‖ ≤ tolerance ‖g‖. At 0, when only rounding is left.
        max_steps: The most steps. C - 1 are enough for ReLUs and softmax cross-entropy with C classes; with more
            classes than that, or other activations, the direction is that of a truncated Newton method.

    Returns:
        `NewtonDirections`.

    Raises:
        ValueError: As `fgsm`, and if an option is out of range.
    """
    options = _checked(damping, tolerance, max_steps)
    x, y = example_tensors(model, x, y)
    found = run(_newton, model, loss, tf.cast(x, model_dtype(model)), y, **options)
    return NewtonDirections(*found)


def fhsm(model, loss, x, y, *, epsilon, data_range=None, damping=0.0, tolerance=0.0, max_steps=20):
    """FHSM, the fast Hessian sign method: x + ε sign(d), d = H⁻¹ g, in the L∞ ball.

    gᵀd > 0, but gᵀ sign(d) may be negative: of some examples the loss falls. Where the curvatures of an example span
    many orders, H⁻¹ turns d far away from g, and the loss rises much less than by `fgsm`; `damping` turns it back.

    In a training step with `jit_compile=True` the model must not hold max pooling, whose second derivative XLA gets
    wrong. Costs what `input_newton_direction` does.

    Args:
        model: As for `fgsm`, as the next five.
        loss: As for `fgsm`.
        x: As for `fgsm`.
        y: As for `fgsm`.
        epsilon: ε, the L∞ norm.
        data_range: As for `fgsm`.
        damping: As for `input_newton_direction`, as the next two.
        tolerance: As there.
        max_steps: As there.

    Returns:
        A tensor of the shape and type of x.
    """
    options = _checked(damping, tolerance, max_steps)
    return attacked(_fhsm, model, loss, x, y, epsilon, data_range, **options)


def l2hess(model, loss, x, y, *, epsilon, data_range=None, damping=0.0, tolerance=0.0, max_steps=20):
    """L2HESS: x + ε d / ‖d‖₂, d = H⁻¹ g, in the L2 ball.

    Args:
        model: As for `fhsm`, as all others.
        loss: As for `fhsm`.
        x: As for `fhsm`.
        y: As for `fhsm`.
        epsilon: ε, the L2 norm of the step of each example.
        data_range: As for `fhsm`.
        damping: As for `fhsm`.
        tolerance: As for `fhsm`.
        max_steps: As for `fhsm`.

    Returns:
        A tensor of the shape and type of x.
    """
    options = _checked(damping, tolerance, max_steps)
    return attacked(_l2hess, model, loss, x, y, epsilon, data_range, **options)


def _directions(losses, x, y, options):
    gradient, product = losses.gradient_and_product(x, y)
    rows = tf.stack([tf.shape(x)[0], tf.reduce_prod(tf.shape(x)[1:])])
    flat = tf.reshape(gradient, rows)
    return solve(lambda v: tf.reshape(product(tf.reshape(v, tf.shape(x))), rows), flat, **options)


def _newton(losses, x, y, **options):
    directions, factor, steps, residuals = _directions(losses, x, y, options)
    return tf.reshape(directions * factor[:, None], tf.shape(x)), steps, residuals


def _fhsm(losses, x, y, epsilon, limits, seed, **options):
    directions = tf.reshape(_directions(losses, x, y, options)[0], tf.shape(x))
    return clipped(x + epsilon * tf.sign(directions), x, limits)


def _l2hess(losses, x, y, epsilon, limits, seed, **options):
    directions = tf.reshape(unit_vectors(_directions(losses, x, y, options)[0])[0], tf.shape(x))
    return clipped(x + epsilon * directions, x, limits)


def _checked(damping, tolerance, max_steps):
    if not _is_number(damping) or not 0 <= damping < float("inf"):
        raise ValueError(f"damping is {damping!r}, but should be a number of at least 0.")
    if not _is_number(tolerance) or not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is {tolerance!r}, but should be at least 0 and below 1.")
    if isinstance(max_steps, bool) or not isinstance(max_steps, numbers.Integral) or max_steps < 1:
        raise ValueError(f"max_steps is {max_steps!r}, but should be a whole number of at least 1.")
    # In a thread of its own it runs eagerly, also where a training step is being traced; tf.init_scope stops all tapes.
    with concurrent.futures.ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(check_second_derivatives).result()
    return {"damping": float(damping), "tolerance": float(tolerance), "max_steps": int(max_steps)}


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
