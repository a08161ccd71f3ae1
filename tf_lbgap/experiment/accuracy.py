"""The share of right classes, labels left out that a loss ignores: the same number in measures and in what `fit` logs.

An example with several labels, such as a sentence, counts with the share of its own labels that are right. Keras' "accuracy"
knows nothing of padding: where a network says it right, as it soon does, short sentences look well translated.
"""

import keras
import tensorflow as tf


def accuracy_of_examples(y, prediction, ignored=None):
    """Return the share of right classes of each example (1 or 0, if it has one label; 0 without any), shape [examples].

    Args:
        y: Labels, whole numbers, shape [examples, ...].
        prediction: Logits or probabilities, shape [examples, ..., classes].
        ignored: Label that counts neither as right nor as wrong; None: all count.
    """
    rows = [tf.shape(y)[0], -1]
    labels = tf.reshape(tf.cast(y, tf.int64), rows)
    right = tf.cast(tf.equal(tf.reshape(tf.argmax(prediction, -1), rows), labels), tf.float32)
    if ignored is None:
        return tf.reduce_mean(right, -1)
    counted = tf.cast(tf.not_equal(labels, ignored), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(right * counted, -1), tf.reduce_sum(counted, -1))


@keras.saving.register_keras_serializable("tf_lbgap")
class TokenAccuracy(keras.metrics.MeanMetricWrapper):
    """Keras metric: the mean of `accuracy_of_examples` over examples, however these are cut into batches.

    Args:
        ignore_class: The label that does not count, that of the loss.
        name, dtype: As for any Keras metric.
    """

    def __init__(self, ignore_class=0, name="accuracy", dtype=None):
        super().__init__(accuracy_of_examples, name, dtype, ignored=ignore_class)
        self.ignore_class = ignore_class

    def get_config(self):
        """Return the arguments, plain values."""
        return {"ignore_class": self.ignore_class, "name": self.name, "dtype": self.dtype}
