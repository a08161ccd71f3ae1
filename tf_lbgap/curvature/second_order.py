"""Second derivatives that TensorFlow gets wrong, or cannot take, and how to trace them right.

`tf.nn.moments` computes variance = mean((x - stop_gradient(mean))²). That leaves the first derivative
alone, since the derivative of the variance by the mean is zero, but not the second: Hessians through
LayerNormalization, GroupNormalization and BatchNormalization in training mode come out wrong (by 20 %
on a small network), and no two ways to differentiate in TensorFlow disagree about it. Inside
`exact_second_derivatives` the stop_gradient is gone.

Recurrent layers on a GPU use a fused kernel whose gradient has no gradient; inside, Keras takes its
own loop instead.

Both replace a private symbol for as long as a function is *traced* (or runs eagerly), in all threads: others
meanwhile get the same values and the same first derivatives. `check_second_derivatives` compares with finite
differences, which share nothing with automatic differentiation, and so finds out if an update of
TensorFlow or Keras has gone round the replacement.
"""

import contextlib
import functools
import importlib
import threading

import keras
import numpy as np
import tensorflow as tf

_lock = threading.Lock()
_depth = 0
_originals = []


@contextlib.contextmanager
def exact_second_derivatives():
    """Trace (or run) inside this context what will be differentiated twice.

    It may be nested and entered from several threads; the last one to leave restores what was there.

    Raises:
        RuntimeError: If this version of TensorFlow or Keras lacks what has to be replaced.

    Example:
        >>> x = tf.constant([1.0, 3.0])
        >>> with exact_second_derivatives(), tf.GradientTape() as outer:
        ...     outer.watch(x)
        ...     with tf.GradientTape() as inner:
        ...         inner.watch(x)
        ...         variance = tf.nn.moments(x, [0])[1]   # (x0 - x1)² / 4
        ...     gradient = inner.gradient(variance, x)
        >>> outer.jacobian(gradient, x).numpy()           # without the context: [[1, 0], [0, 1]]
        array([[ 0.5, -0.5],
               [-0.5,  0.5]], dtype=float32)
    """
    _enter()
    try:
        yield
    finally:
        _leave()


@functools.cache
def check_second_derivatives():
    """Compare a Hessian-vector product through two layer normalizations with finite differences.

    The test function has 12 weights and no state, draws no random number, and takes some
    milliseconds; a passed check is remembered for the process. In float64 the central difference of the
    gradient with step h = 1e-5 is off by about h² + 1e-16 / h = 1e-10 of the product, and
    the product without `exact_second_derivatives` by more than 1e-2, so the limit of 1e-6 is clear of both.

    Raises:
        RuntimeError: If they disagree: then no Hessian from this installation can be trusted.
    """
    x = tf.constant(np.sin(np.arange(15.0)).reshape(5, 3))

    def loss(weights):
        hidden = x
        for kernel in (tf.reshape(weights[:6], (3, 2)), tf.reshape(weights[6:], (2, 3))):
            hidden = tf.tanh(keras.ops.layer_normalization(tf.matmul(hidden, kernel), epsilon=0.1))
        return tf.reduce_mean(tf.square(hidden - 0.5))

    def gradient(weights):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            value = loss(weights)
        return tape.gradient(value, weights)

    weights, v = tf.constant(np.cos(np.arange(12.0))), tf.constant(np.cos(1 + 2 * np.arange(12.0)))
    with exact_second_derivatives(), tf.GradientTape() as outer:
        outer.watch(weights)
        first = gradient(weights)
    product = outer.gradient(first, weights, output_gradients=v).numpy()
    step = 1e-5
    difference = (gradient(weights + step * v) - gradient(weights - step * v)).numpy() / (2 * step)
    error = np.linalg.norm(product - difference) / np.linalg.norm(difference)
    if not error < 1e-6:
        raise RuntimeError(
            f"Second derivatives are wrong by {error:.1e} with TensorFlow {tf.__version__} and Keras "
            f"{keras.__version__}: a Hessian-vector product through LayerNormalization should agree with finite "
            "differences to 1e-6. Install the versions that tf_lbgap names in its requirements."
        )


def _exact_moments(x, axes, shift=None, name=None, keep_dims=None, keepdims=None):
    """`tf.nn.moments` without the stop_gradient; float16 goes through float32, as there."""
    keep = bool(keepdims if keepdims is not None else keep_dims)
    x = tf.convert_to_tensor(x)
    y = tf.cast(x, tf.float32) if x.dtype == tf.float16 else x
    mean = tf.reduce_mean(y, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(y, mean), axes, keepdims=True)
    if not keep:
        mean, variance = tf.squeeze(mean, axes), tf.squeeze(variance, axes)
    return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


def _no_fused_kernel(*args, **kwargs):
    return False


_REPLACEMENTS = (
    # What tf.nn.moments calls, and through it keras.ops.moments: one place, whoever holds a reference.
    ("tensorflow.python.ops.nn_impl", "moments", _exact_moments),
    ("keras.src.backend.tensorflow.rnn", "cudnn_ok", _no_fused_kernel),
)


def _enter():
    global _depth
    with _lock:
        if _depth == 0:
            found = [(*_find(module, name), new) for module, name, new in _REPLACEMENTS]
            for module, name, old, new in found:
                _originals.append((module, name, old))
                setattr(module, name, new)
        _depth += 1


def _leave():
    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0:
            while _originals:
                setattr(*_originals.pop())


def _find(module_name, name):
    try:
        module = importlib.import_module(module_name)
        return module, name, getattr(module, name)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"{module_name}.{name} is missing from TensorFlow {tf.__version__} and Keras {keras.__version__}. "
            "Without replacing it, second derivatives are silently wrong, so none are computed. "
            "Install the versions that tf_lbgap names in its requirements."
        ) from error
