"""Many small steps up the gradient, each put back into the ball: projected gradient ascent.

References:
    Yao et al. 2018 (FGSM-10). Kurakin, Goodfellow & Bengio, "Adversarial machine learning at scale", 2017 (iterated
    sign steps from x). Madry, Makelov, Schmidt, Tsipras & Vladu, "Towards deep learning models resistant to
    adversarial attacks", 2018 (random start).
"""

import numbers

import tensorflow as tf

from tf_lbgap.attacks.calls import attacked, seed_tensor
from tf_lbgap.attacks.limits import clipped, unit_vectors

NORMS = ("linf", "l2")


def fgsm_10(model, loss, x, y, *, epsilon, data_range=None):
    """FGSM-10: ten steps of ε / 10 along the sign of the gradient where each starts, so at most ε in all.

    As Yao et al. name it; their step size could not be checked against the paper's text. Costs ten gradients.

    Args:
        model: As for `fgsm`, as all others.
        loss: As for `fgsm`.
        x: As for `fgsm`.
        y: As for `fgsm`.
        epsilon: ε, the L∞ norm that is never exceeded.
        data_range: As for `fgsm`.

    Returns:
        A tensor of the shape and type of x.
    """
    return attacked(
        _projected, model, loss, x, y, epsilon, data_range, norm="linf", num_steps=10, step_size=0.1
    )


def pgd(model, loss, x, y, *, epsilon, data_range=None, norm="linf", num_steps=20, step_size=None, seed=None):
    """Projected gradient ascent: x ← P(x + s ε u), u = sign(g) or g / ‖g‖₂, P the projection on the ball.

    The last point counts, not the best on the way. Costs `num_steps` gradients.

    Args:
        model: As for `fgsm`, as the next three.
        loss: As for `fgsm`.
        x: As for `fgsm`.
        y: As for `fgsm`.
        epsilon: ε, the radius of the ball.
        data_range: As for `fgsm`.
        norm: "linf" or "l2", of the ball and the steps.
        num_steps: Number of steps.
        step_size: s, as a part of ε. By default 2.5 / `num_steps`, at most 1: enough to get from one side of
            the ball to the other.
        seed: None starts at x; a whole number starts at a random point of the ball; in a training step pass a
            `keras.random.SeedGenerator`, with which each call starts elsewhere.

    Returns:
        A tensor of the shape and type of x.

    Raises:
        ValueError: As `fgsm`, and if `norm`, `num_steps` or `step_size` is none of these.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}, but should be 'linf' or 'l2'.")
    if isinstance(num_steps, bool) or not isinstance(num_steps, numbers.Integral) or num_steps < 1:
        raise ValueError(f"num_steps is {num_steps!r}, but should be a whole number of at least 1.")
    if step_size is None:
        step_size = min(2.5 / num_steps, 1.0)
    if isinstance(step_size, bool) or not isinstance(step_size, numbers.Real) or not 0 < step_size <= 2:
        raise ValueError(
            f"step_size is {step_size!r}, but should be a part of epsilon, above 0 and at most 2."
        )
    seed = None if seed is None else seed_tensor(seed)
    options = {"norm": norm, "num_steps": int(num_steps), "step_size": float(step_size)}
    return attacked(_projected, model, loss, x, y, epsilon, data_range, seed=seed, **options)


def _projected(losses, x, y, epsilon, limits, seed, *, norm, num_steps, step_size):
    step = tf.constant(step_size, x.dtype) * epsilon  # tf.cast would go by float32

    def ascend(i, at):
        gradient = losses.gradient(at, y)
        direction = tf.sign(gradient) if norm == "linf" else unit_vectors(gradient)[0]
        return i + 1, _back(at + step * direction, x, epsilon, limits, norm)

    start = (
        x
        if isinstance(seed, tuple)
        else _back(_random_point(x, epsilon, seed, norm), x, epsilon, limits, norm)
    )
    return tf.while_loop(
        lambda i, at: i < num_steps,
        ascend,
        (0, start),
        shape_invariants=(tf.TensorShape([]), x.shape),
    )[1]


def _back(point, x, epsilon, limits, norm):
    """The nearest point of the ball around x, then of the data range; a box with a corner at x keeps to the ball."""
    if norm == "linf":
        point = tf.clip_by_value(point, x - epsilon, x + epsilon)
    else:
        direction, length = unit_vectors(point - x)
        point = tf.where(length > epsilon, x + epsilon * direction, point)
    return clipped(point, x, limits)


def _random_point(x, epsilon, seed, norm):
    """Uniform in the ball around x."""
    if norm == "linf":
        return x + tf.random.stateless_uniform(tf.shape(x), seed, -epsilon, epsilon, x.dtype)
    direction, _ = unit_vectors(tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype))
    ones = [1] * (x.shape.rank - 1)
    volume = tf.random.stateless_uniform(tf.concat([tf.shape(x)[:1], ones], 0), seed + 1, dtype=x.dtype)
    size = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), x.dtype)
    return x + epsilon * volume ** (1 / size) * direction
