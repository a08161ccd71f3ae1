"""Conjugate gradients for many small systems at once, each with its own steps and its own end.

    A_i d_i = g_i,    A_i = H_i + λ_i I,    λ_i = damping |g_iᵀ H_i g_i| / ‖g_i‖².

For a network of piecewise linear activations and softmax cross-entropy H_i has a rank of at most C - 1, C classes, and
g_i lies in its range: so C - 1 steps are enough, and without damping d_i is the pseudo-inverse times g_i. But its
eigenvalues span many orders, down to 1e-12 and less for confident examples. Hence:

*Unit vectors.* Residuals and search directions are kept at length 1, with their sizes apart, and curvatures relative to
the first one: nothing underflows.

*Reorthogonalisation.* Each residual is made orthogonal to all earlier ones, twice. In exact arithmetic it is; with
rounding, plain conjugate gradients find the large eigenvalues again and again, and do not end.

*Three ends of an example.* The residual is below the tolerance, or below what rounding left of g; or it is nothing but
the rounding of its terms; or the curvature along the search direction is not positive, or too small to tell from
rounding. Then the sum so far is the
answer, which is uphill, gᵀd > 0; at the very first step, g itself.

References:
    Hestenes & Stiefel, "Methods of conjugate gradients for solving linear systems", 1952. Steihaug, "The
    conjugate gradient method and trust regions in large scale optimization", 1983 (negative curvature).
"""

import tensorflow as tf

from tf_lbgap.attacks.limits import unit_vectors
from tf_lbgap.curvature.krylov import rounding


def solve(product, g, *, damping, tolerance, max_steps):
    """Solve all systems.

    Args:
        product: Function from a tensor (examples, d) to the products of each H_i with its row.
        g: Right-hand sides, (examples, d).
        damping: λ relative to the curvature along g.
        tolerance: Of the residual, relative to ‖g‖; at least that of rounding.
        max_steps: The most steps, each a product.

    Returns:
        Directions: d scaled to the curvature along g, so that they are about g / ‖g‖ in size, (examples, d); the
        factor that makes d of them, (examples,); steps, (examples,), int32; relative residuals, (examples,).
    """
    unit, size = unit_vectors(g)
    size = size[:, 0]
    small = tf.constant(rounding(g.dtype.as_numpy_dtype), g.dtype)
    zeros = tf.zeros_like(size)

    def step(k, s):
        curved = product(s["p"])
        along = _dot(s["p"], curved)
        shift = tf.where(k == 0, damping * tf.abs(along), s["shift"])
        curved += shift[:, None] * s["p"]
        squared, length = _dot(s["p"], s["p"]), tf.norm(curved, axis=1)
        curvature = along + shift * squared
        top = tf.maximum(s["top"], tf.math.divide_no_nan(length, tf.sqrt(squared)))
        goes = s["active"] & (curvature > small * top * squared)
        curvature = tf.where(goes, curvature, tf.ones_like(curvature))
        first = tf.where(k == 0, curvature, s["first"])
        d = s["d"] + tf.where(goes, s["rho"] * first / curvature, zeros)[:, None] * s["p"]

        basis = tf.tensor_scatter_nd_update(s["basis"], [[k]], s["q"][None])
        rest = s["q"] - curved / curvature[:, None]
        for _ in range(2):
            rest -= tf.einsum("kn,knd->nd", tf.einsum("knd,nd->kn", basis, rest), basis)
        q, ratio = unit_vectors(rest)
        ratio = tf.where(ratio[:, 0] > small * length / curvature, ratio[:, 0], zeros)
        rho = tf.where(goes, s["rho"] * ratio, s["rho"])
        return k + 1, {
            "d": d,
            "q": q,
            "p": q + ratio[:, None] * s["p"],
            "rho": rho,
            "active": goes & (rho > tf.maximum(small, tolerance)),
            "steps": s["steps"] + tf.cast(goes, tf.int32),
            "shift": shift,
            "first": first,
            "top": top,
            "basis": basis,
        }

    active = size > 0
    start = {
        "d": tf.zeros_like(unit),
        "q": unit,
        "p": unit,
        "rho": tf.ones_like(size),
        "active": active,
        "steps": tf.zeros_like(size, tf.int32),
        "shift": zeros,
        "first": tf.ones_like(size),
        "top": zeros,
        "basis": tf.zeros(tf.concat([[max_steps], tf.shape(unit)], 0), g.dtype),
    }
    shapes = {key: value.shape for key, value in start.items()}
    shapes["basis"] = tf.TensorShape([max_steps, *unit.shape])
    _, end = tf.while_loop(
        lambda k, s: (k < max_steps) & tf.reduce_any(s["active"]),
        step,
        (0, start),
        shape_invariants=(tf.TensorShape([]), shapes),
    )
    none = end["steps"] == 0  # no step could be taken: g itself
    directions = tf.where(none[:, None], unit, end["d"])
    factor = tf.where(none, size, size / end["first"])
    residual = tf.where(active, end["rho"], zeros)
    return directions, factor, end["steps"], residual


def _dot(a, b):
    return tf.reduce_sum(a * b, 1)
