"""Clean loss and accuracy of a model: inference mode, no metrics touched, a trace for all data."""

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.objective import Objective
from tf_lbgap.experiment.accuracy import accuracy_of_examples

CHUNK = 2000  # examples per forward pass
MOST = (
    2**27
)  # numbers that a model gives in one: half a gigabyte of logits, such as those of all tokens of texts


class Evaluation:
    """Loss and accuracy of a model on arrays, without `model.evaluate`'s set-up of each call.

    Labels that the loss ignores (its `ignore_class`, such as padding) count neither as right nor as wrong.

    Args:
        model: A built Keras model.
        loss: A Keras loss.
    """

    def __init__(self, model, loss):
        self._objective = Objective(model, loss)
        self._model, self._ignored = model, getattr(loss, "ignore_class", None)
        self._size = _chunk_size(model)
        self._sums = tf.function(self._sums_of_chunk, autograph=False, reduce_retracing=True)
        self._singles = tf.function(self._singles_of_chunk, autograph=False, reduce_retracing=True)

    def __call__(self, x, y):
        """Return the mean loss and the share of right classes (NaN if y are no classes), two floats."""
        loss = right = weight = 0.0
        for part in chunks(x, y, self._size):
            sums = self._sums(*part)
            loss, weight, right = loss + float(sums[0]), weight + float(sums[1]), right + float(sums[2])
        return loss / weight, right / len(keras.tree.flatten(y)[0])

    def examples(self, x, y):
        """Return loss and accuracy of each example, float32, shapes (examples,); labels are integers."""
        parts = [[tensor.numpy() for tensor in self._singles(*part)] for part in chunks(x, y, self._size)]
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    @contextlib.contextmanager
    def unless_diverged(self, sample):
        """End the block early, and in silence, if a model whose loss is not finite has no statistics."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                yield
        except ValueError:
            if math.isfinite(self(*sample)[0]):
                raise

    def _singles_of_chunk(self, x, y):
        prediction = self._model(x, training=False)
        return self._objective.of_examples(y, prediction), accuracy_of_examples(y, prediction, self._ignored)

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
        return loss, weight, tf.reduce_sum(accuracy_of_examples(y, prediction, self._ignored))


def chunks(x, y, size=CHUNK):
    """Yield (x, y) of so many examples as tensors; the last ones are fewer."""
    for start in range(0, len(keras.tree.flatten(y)[0]), size):
        yield keras.tree.map_structure(lambda a, s=start: tf.constant(a[s : s + size]), (x, y))


def _chunk_size(model):
    """`CHUNK`, or fewer where outputs are large."""
    shapes = [output.shape[1:] for output in keras.tree.flatten(getattr(model, "outputs", None) or [])]
    numbers = sum(math.prod(length or 1 for length in shape) for shape in shapes)
    return max(1, min(CHUNK, MOST // max(numbers, 1)))
