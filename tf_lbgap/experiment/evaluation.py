"""Clean loss and accuracy of a model: inference mode, no metrics touched, a trace for all data."""

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.objective import Objective

CHUNK = 2000  # examples per forward pass


class Evaluation:
    """Loss and accuracy of a model on arrays, without `model.evaluate`'s set-up of each call.

    Args:
        model: A built Keras model.
        loss: A Keras loss.
    """

    def __init__(self, model, loss):
        self._objective = Objective(model, loss)
        self._model = model
        self._sums = tf.function(self._sums_of_chunk, autograph=False, reduce_retracing=True)
        self._singles = tf.function(self._singles_of_chunk, autograph=False, reduce_retracing=True)

    def __call__(self, x, y):
        """Return the mean loss and the share of right classes (NaN if y are no classes), two floats."""
        count = len(keras.tree.flatten(y)[0])
        loss = right = weight = 0.0
        for start in range(0, count, CHUNK):
            part = keras.tree.map_structure(lambda a, s=start: tf.constant(a[s : s + CHUNK]), (x, y))
            sums = self._sums(*part)
            loss, weight, right = loss + float(sums[0]), weight + float(sums[1]), right + float(sums[2])
        return loss / weight, right / count

    def examples(self, x, y):
        """Return loss and correctness of each example, float32 and bool, shapes (examples,); labels are integers."""
        count = len(keras.tree.flatten(y)[0])
        parts = []
        for start in range(0, count, CHUNK):
            part = keras.tree.map_structure(lambda a, s=start: tf.constant(a[s : s + CHUNK]), (x, y))
            parts.append([tensor.numpy() for tensor in self._singles(*part)])
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _singles_of_chunk(self, x, y):
        prediction = self._model(x, training=False)
        right = tf.equal(
            tf.argmax(prediction, -1), tf.cast(tf.reshape(y, tf.shape(prediction)[:-1]), tf.int64)
        )
        return self._objective.of_examples(y, prediction), right

    def _sums_of_chunk(self, x, y):
        prediction = self._model(x, training=False)
        examples = tf.shape(tf.nest.flatten(x)[0])[0]
        loss, weight = self._objective.of_prediction(y, prediction, None, examples)
        if (
            keras.tree.is_nested(prediction)
            or not y.dtype.is_integer
            or len(prediction.shape) != y.shape.rank + 1
        ):
            return loss, weight, tf.constant(np.nan)
        right = tf.equal(tf.argmax(prediction, -1), tf.cast(y, tf.int64))
        per_example = tf.reduce_mean(tf.cast(tf.reshape(right, [examples, -1]), tf.float32), -1)
        return loss, weight, tf.reduce_sum(per_example)
