"""The examples of a batch in k consecutive parts whose sizes differ by one at most, and averages over each.

Part i holds the examples from floor(i n / k) to floor((i + 1) n / k), as micro-batches are cut in training.
No loop runs over parts, and nothing depends on whether k divides n: sums over parts, and their values spread
over the examples, are two linear maps, each the transpose of the other. TensorFlow differentiates them into
other operations, which take longer than all the rest of a normalization; here each is the gradient of the
other, to any order.
"""

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util


class Parts:
    """How a batch is cut.

    Args:
        n: Number of examples, an int or a scalar tensor; 0 on a replica that got none.
        size: Most examples of a part.
        axis: The axis of the channels in the batch, from 1 up.

    Attributes:
        count: k = ⌈n / size⌉, a scalar int64 tensor.
    """

    def __init__(self, n, size, axis):
        n = tf.cast(n, tf.int64)  # n k may be above 2³¹
        self.count, self._axis = -(-n // size), axis
        # floor(i n / k) <= j  <=>  i < (j + 1) k / n, and the part of j is the largest such i
        self._part = ((tf.range(n) + 1) * self.count - 1) // n
        edges = tf.range(self.count + 1) * n // tf.maximum(self.count, 1)
        self._sizes = edges[1:] - edges[:-1]

    def mean(self, x):
        """Means over examples and positions of each part, (k, ..., channels, ...) with axes of length 1."""
        sizes = tf.reshape(tf.cast(self._sizes, x.dtype), [-1] + [1] * (len(x.shape) - 1))
        others = self._others(x)
        return self.sum(tf.reduce_mean(x, others, keepdims=True) if others else x) / sizes

    def mean_where(self, x, mask):
        """Means over what a mask (n, positions...) has of each part; 0 where it has nothing."""
        seen, others = tf.cast(tf.expand_dims(mask, -1), "bool"), self._others(x)
        counts = self.sum(tf.reduce_sum(tf.cast(seen, x.dtype), others, keepdims=True))
        total = self.sum(tf.reduce_sum(tf.where(seen, x, 0), others, keepdims=True))
        return total / (counts + keras.config.epsilon())  # as Keras' layer divides

    def sum(self, x):
        """Sums over the examples of each part, (k, ...)."""

        @tf.custom_gradient
        def summed(x):
            return _segment_sum(x, self._part, self.count), self.spread

        return summed(x)

    def spread(self, values):
        """The value (k, ...) of its part for each example, (n, ...)."""

        @tf.custom_gradient
        def spread(values):
            return tf.gather(values, self._part), self.sum

        return spread(values)

    def _others(self, x):
        return [i for i in range(1, len(x.shape)) if i != self._axis]


def _segment_sum(x, part, count):
    # On a CPU the sum over sorted segments takes a third of the time, but XLA has none.
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return tf.math.unsorted_segment_sum(x, part, count)
    return tf.math.segment_sum(x, part)
