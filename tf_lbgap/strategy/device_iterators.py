"""A cure for TensorFlow: iterators of replicas that end when they are told to. The strategies of `from_name` install it.

Whoever frees an iterator of tf.data waits for its thread that tunes buffers, which now and then misses the call and sleeps on
for a minute. Under a strategy each epoch makes such an iterator per replica and frees that of the last, whose buffer is
of a fixed size: there is nothing to tune. Seen with TensorFlow 2.21, as fits that stood still for 13 to 143 s.
"""

import functools

import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops


def install():
    """Let replicas read without the thread, in this process."""
    original = getattr(multi_device_iterator_ops, "_create_device_dataset", None)
    if original is None or hasattr(original, "cured"):  # another TensorFlow, or once is enough
        return

    @functools.wraps(original)
    def _create_device_dataset(*args, **kwargs):
        options = tf.data.Options()
        options.autotune.enabled = False
        return original(*args, **kwargs).with_options(options)

    _create_device_dataset.cured = original
    multi_device_iterator_ops._create_device_dataset = _create_device_dataset
