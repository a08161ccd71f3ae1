"""Slow ways to the truth, which share neither code nor assumptions with the package.

The mean loss here is one call of the Keras loss on all examples at once, and its Hessian comes from
differences of first derivatives, so it knows nothing of batches, of second-order tapes, or of replaced
moments.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf


@contextlib.contextmanager
def floatx(name):
    """Layers, losses and data in this float type; float32 afterwards."""
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)  # else new layers keep the type of the first
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def mean_loss(model, loss, x, y, sample_weight=None):
    """The loss of the whole data set in one piece, as Keras defines it; a sum becomes a mean."""
    y_pred = model(x, training=False)
    value = loss(y, y_pred) if sample_weight is None else loss(y, y_pred, sample_weight)
    if getattr(loss, "reduction", None) == "sum":
        value = value / len(tf.nest.flatten(x)[0])
    return tf.reduce_mean(value)


def finite_difference_hessian(model, function, step=1e-4):
    """Dense (n, n) Hessian of function() by central differences of its gradient, of fourth order, in float64.

    Error relative to the largest entry: about step⁴ (1e-16) from the differences and 1e-16 / step (1e-12)
    from rounding, times constants of the function; 1e-10 is met by smooth networks of a few layers.
    """
    variables = [v.value for v in model.trainable_variables]

    @tf.function(autograph=False)
    def gradient(flat):
        parts = tf.split(flat, [int(np.prod(v.shape)) for v in variables])
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(tf.reshape(part, variable.shape))
        with tf.GradientTape() as tape:
            value = function()
        gradients = tape.gradient(value, variables, unconnected_gradients="zero")
        return tf.concat([tf.reshape(tf.convert_to_tensor(g), [-1]) for g in gradients], 0)

    start = np.concatenate([v.numpy().ravel() for v in variables])
    columns = []
    for e in np.eye(len(start)) * step:
        near = gradient(start + e) - gradient(start - e)
        far = gradient(start + 2 * e) - gradient(start - 2 * e)
        columns.append(((8 * near - far) / (12 * step)).numpy())
    gradient(start)  # puts the weights back
    return np.stack(columns, axis=1)


def jacobian_hessian(model, function):
    """Dense (n, n) Hessian by differentiating the gradient entry by entry, eagerly."""
    variables = [v.value for v in model.trainable_variables]
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            value = function()
        gradients = inner.gradient(value, variables, unconnected_gradients="zero")
        flat = tf.concat([tf.reshape(tf.convert_to_tensor(g), [-1]) for g in gradients], 0)
    rows = outer.jacobian(flat, variables, unconnected_gradients="zero")
    return np.concatenate([r.numpy().reshape(len(flat), -1) for r in rows], axis=1)


def symmetric(spectrum, seed=0, dtype="float64"):
    """A dense symmetric matrix with the given eigenvalues and random eigenvectors."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(len(spectrum), len(spectrum))))[0]
    matrix = (q * np.asarray(spectrum)) @ q.T
    return ((matrix + matrix.T) / 2).astype(dtype)
