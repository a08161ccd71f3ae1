"""How far an attack may go: the size of its ball, the range of the data, and vectors that just reach the sphere."""

import math

import numpy as np
import tensorflow as tf

_ROUNDING = 1e-5  # by which data may leave their range, relative to its width: float32 after a normalisation


def checked_epsilon(epsilon):
    """Return the size of a perturbation as a scalar tensor.

    Raises:
        ValueError: If it is not one number, or is negative or not finite (of a symbolic tensor nobody can tell).
    """
    what = f"epsilon is {epsilon!r}, but should be one number of at least 0, in the unit of the data, such as 0.1."
    if tf.is_tensor(epsilon) or isinstance(epsilon, tf.Variable):
        if epsilon.shape.rank != 0 or not (epsilon.dtype.is_floating or epsilon.dtype.is_integer):
            raise ValueError(what)
        if not tf.executing_eagerly():
            return tf.convert_to_tensor(epsilon)
        epsilon = epsilon.numpy()
    try:
        value = float(epsilon) if np.ndim(epsilon) == 0 and not isinstance(epsilon, (str, bool)) else math.nan
    except TypeError:
        value = math.nan
    if not (0 <= value < math.inf):
        raise ValueError(what)
    return tf.constant(value, tf.float64)


def checked_range(data_range, x, dtype):
    """Return `(low, high)` as tensors, or () without a range.

    Raises:
        ValueError: If it is not a pair with low below high, does not fit x, or, eagerly, x is not in it.
    """
    if data_range is None:
        return ()
    what = (
        f"data_range is {data_range!r}, but should be (low, high), such as (0.0, 1.0), or None for no limit."
    )
    try:
        low, high = (np.asarray(limit, "float64") for limit in data_range)
        shape = np.broadcast_shapes(low.shape, high.shape, tuple(n or 1 for n in x.shape[1:]))
    except (TypeError, ValueError):
        raise ValueError(what) from None
    if len(shape) >= x.shape.rank or not (low < high).all():
        raise ValueError(what)
    if tf.executing_eagerly():
        _check_inside(low, high, x)
    return tf.constant(low, dtype), tf.constant(high, dtype)


def clipped(moved, x, limits):
    """`moved`, clipped to the limits; never further away from x, even if x itself is out of them by a rounding."""
    if not limits:
        return moved
    low, high = limits
    return tf.clip_by_value(moved, tf.minimum(low, x), tf.maximum(high, x))


def unit_vectors(v):
    """Vectors of length 1 per example, 0 for the vector 0; and their lengths, shape [examples, 1, ...].

    Divided by the largest entry first: squares of entries of 1e-25 are 0 in float32.
    """
    axes = list(range(1, v.shape.rank))
    largest = tf.reduce_max(tf.abs(v), axes, keepdims=True)
    scaled = tf.math.divide_no_nan(v, largest)
    length = tf.sqrt(tf.reduce_sum(tf.square(scaled), axes, keepdims=True))
    return tf.math.divide_no_nan(scaled, length), largest * length


def _check_inside(low, high, x):
    slack = _ROUNDING * (high - low)
    outside = tf.logical_or(x < tf.cast(low - slack, x.dtype), x > tf.cast(high + slack, x.dtype))
    if bool(tf.reduce_any(outside)):
        raise ValueError(
            f"x goes from {float(tf.reduce_min(x)):g} to {float(tf.reduce_max(x)):g}, which is not within data_range "
            f"{low.tolist(), high.tolist()}. Pass the range of the data as the model sees them, or None."
        )
