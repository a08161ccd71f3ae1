"""The loss as a function of the weights, elsewhere than where the model stands.

Sharpness measures and landscapes ask for the loss at many points. They get it from a function that takes the
weights as an argument, so the model's own are never touched.
"""

import numpy as np
import tensorflow as tf

from tf_lbgap import strategy
from tf_lbgap.curvature.objective import Objective, num_examples
from tf_lbgap.curvature.sums import CHUNK_SIZE, SumsOverBatches


class LossSurface:
    """Loss, gradient and accuracy at any weights w, a flat vector as `Parameters` lays it out.

    Args:
        model: A built Keras model.
        loss: As for `HessianOperator`.
        batches: As for `HessianOperator`.
        regularization: Whether to add `model.losses` once.
        variables: The weights that move; None: all trainable ones.
        batch_normalization: "inference", "batch", or "recalibrated": exact statistics over `batches` at each
            point that is asked for (L more passes over the data, L the number of such layers).
        loss_weights: With several losses, as in `compile`.
        chunk_size: Longer batches are worked off in pieces of this many examples.

    Attributes:
        parameters: `Parameters`.
        size: n, the length of w.
        num_passes: How many passes over the data were made so far.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> surface = LossSurface(model, "mse", (np.array([[1.0], [3.0]]), np.zeros((2, 1))))
        >>> surface.value(np.array([2.0])), surface.value_and_gradient(np.array([2.0]))[1]
        (20.0, array([20.]))
    """

    def __init__(
        self,
        model,
        loss,
        batches,
        *,
        regularization=False,
        variables=None,
        batch_normalization="inference",
        loss_weights=None,
        chunk_size=CHUNK_SIZE,
    ):
        self._objective = Objective(
            model,
            loss,
            regularization,
            variables=variables,
            batch_normalization=batch_normalization,
            loss_weights=loss_weights,
        )
        self.parameters = self._objective.parameters
        self.size = self.parameters.size
        self.num_passes = 0
        statistics = [
            tf.TensorSpec(v.shape, v.dtype) for v in getattr(self._objective.statistics, "variables", ())
        ]
        self._chunk_size = None if batch_normalization == "batch" else chunk_size
        self._arguments = [statistics, tf.TensorSpec([self.size], self.parameters.dtype)]
        self._functions = {"loss": self._sums(self._loss, batches)}

    @property
    def batches(self):
        """The data, as tensors. Assign other data of the same structure: nothing is compiled anew."""
        return self._functions["loss"].batches

    @batches.setter
    def batches(self, batches):
        for function in self._functions.values():
            function.batches = batches

    def weights(self):
        """The present weights of the model, shape (n,), float64."""
        return self.parameters.values().astype("float64")

    def value(self, weights):
        """The mean loss at `weights` (n,), a float: it may be NaN or infinite."""
        return float(self._at("loss", weights)[0])

    def value_and_gradient(self, weights):
        """The mean loss at `weights` (n,), a float, and its gradient (n,), float64."""
        value, gradient = self._at("gradient", weights)
        return float(value), gradient

    def value_and_accuracy(self, weights):
        """The mean loss at `weights` (n,), and the share of examples classified right (NaN for no classes)."""
        value, right = self._at("accuracy", weights)
        return float(value), float(right)

    def _at(self, what, weights):
        weights = np.asarray(weights)
        if weights.shape != (self.size,):
            raise ValueError(
                f"weights has shape {weights.shape}, but the model has {self.size} of them: pass a vector of shape "
                f"({self.size},), such as surface.weights()."
            )
        if what not in self._functions:
            function = {"gradient": self._gradient, "accuracy": self._accuracy}[what]
            self._functions[what] = self._sums(function, self._functions["loss"].batches)
        sums = self._functions[what]
        self.num_passes += 1
        (total, *others), count = sums(self._statistics(weights), tf.constant(weights, self.parameters.dtype))
        if count == 0:
            raise ValueError(
                f"Loss {self._objective.loss_name!r} was averaged over nothing: all entries are masked or of weight 0. "
                "Pass at least one example that counts."
            )
        if what == "accuracy":
            return total / count, others[0] / others[1]
        return total / count, *(other / count for other in others)

    def _statistics(self, weights):
        exact = self._objective.statistics
        if exact is None or not exact.variables:
            return []
        before = [v.numpy() for v in self.parameters.variables]
        try:
            self.parameters.assign(weights)
            return [tf.constant(value) for value in exact(self.batches)]
        finally:
            for variable, value in zip(self.parameters.variables, before, strict=True):
                variable.assign(value)

    def _sums(self, function, batches):
        return SumsOverBatches(
            function,
            self._arguments,
            batches,
            self.parameters.dtype,
            chunk_size=self._chunk_size,
            devices=strategy.devices(self._objective.model),
        )

    def _loss(self, batch, statistics, flat):
        total, count = self._objective.total_and_count(
            self.parameters.unflatten(flat), *batch, statistics=statistics
        )
        return [total], count

    def _gradient(self, batch, statistics, flat):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(flat)
            (total,), count = self._loss(batch, statistics, flat)
        return [total, tape.gradient(total, flat)], count

    def _accuracy(self, batch, statistics, flat):
        x, y, *sample_weight = batch
        objective = self._objective
        y_pred, penalties = objective.prediction(self.parameters.unflatten(flat), x, statistics)
        total, count = objective.of_prediction(
            y, y_pred, sample_weight[0] if sample_weight else None, num_examples(x)
        )
        if objective.regularization and penalties:
            total += tf.cast(count, total.dtype) * objective.penalty(penalties, total.dtype)
        return [total, *right_and_count(y, y_pred)], count


def right_and_count(y, y_pred):
    """How many examples (or positions) are classified right, and how many there are: two float64 scalars.

    Classes are integers, or one-hot rows, against scores of the last axis. Anything else gives NaN.
    """
    if tf.nest.is_nested(y_pred) or tf.nest.is_nested(y) or y_pred.shape.rank is None:
        return tf.constant(np.nan, tf.float64), tf.constant(1.0, tf.float64)
    classified = tf.constant(True)
    if y_pred.shape[-1] not in (None, 1) and y_pred.shape.rank >= 2:
        if y.shape.rank == y_pred.shape.rank and y.shape[-1] == y_pred.shape[-1]:
            one, y = tf.cast(y, tf.float64), tf.argmax(y, -1)
            classified = tf.reduce_all((tf.reduce_sum(one, -1) == 1) & (tf.reduce_max(one, -1) == 1))
        elif y.shape.rank == y_pred.shape.rank and y.shape[-1] == 1:
            y = tf.squeeze(y, -1)
        if y.dtype.is_integer and y.shape.rank == y_pred.shape.rank - 1:
            right = tf.equal(tf.argmax(y_pred, -1), tf.cast(y, tf.int64))
            total = tf.reduce_sum(tf.cast(right, tf.float64))
            return tf.where(classified, total, np.nan), tf.cast(tf.size(right), tf.float64)
    return tf.constant(np.nan, tf.float64), tf.constant(1.0, tf.float64)
