"""The function of the weights whose curvature is measured.

    L(w) = Σ_b total_b(w) / Σ_b count_b,

a quotient of sums over all batches b, where total_b / count_b is what Keras calls the loss of batch b. Sums
and not a mean of batch means: the mean of means weighs the examples of a short last batch more, and then the
matrix depends on how the data were cut. What is summed and counted follows Keras' `reduction`:

| loss | total_b | count_b |
|---|---|---|
| "sum_over_batch_size", "mean" | Σ weight x entry | number of entries (not masked) |
| "mean_with_sample_weight" | Σ weight x entry | Σ weight |
| "sum" | Σ weight x entry | number of examples |
| None, or a function returning a vector | Σ weight x entry | number of entries |
| a function returning a scalar | scalar x examples | number of examples |
"""

import copy

import keras
import tensorflow as tf


class Objective:
    """The mean loss of a model in inference mode, as a function of its weights.

    Args:
        model: A built Keras model.
        loss: A `keras.losses.Loss`, the name of one, or a function `loss(y_true, y_pred)` which returns a
            scalar, the mean over the batch, or one value per example.
        regularization: Whether to add `model.losses` (penalties on weights, `add_loss`) once.

    Attributes:
        variables: The model's trainable variables, in order.
        loss_name: What to call the loss in messages.

    Raises:
        ValueError: If the model has no weights yet, or Keras does not know the loss.
    """

    def __init__(self, model, loss, regularization=False):
        if not getattr(model, "built", False) or not model.trainable_variables:
            raise ValueError(
                f"Model {getattr(model, 'name', model)!r} has no trainable weights to differentiate by. Build it first: "
                "start it with keras.Input(shape), call it on a batch once, or set trainable=True."
            )
        self.model = model
        self.regularization = regularization
        self.variables = list(model.trainable_variables)
        self.loss = keras.losses.get(loss) if isinstance(loss, str) else loss
        if not callable(self.loss):
            raise ValueError(
                f"loss is {loss!r}, but should be a keras.losses.Loss, the name of one, or a function "
                "loss(y_true, y_pred). For a compiled model pass loss=model.loss."
            )
        self.loss_name = getattr(self.loss, "name", None) or getattr(self.loss, "__name__", repr(loss))

    def total_and_count(self, weights, x, y, sample_weight=None):
        """Sum and count over one batch, of which L is the quotient of sums.

        Uses no state and changes none: neither seeds, nor recurrent state, nor statistics.

        Args:
            weights: Tensors for `variables`, in order.
            x: Nested tensors, the first dimension the batch.
            y: Nested tensors.
            sample_weight: As Keras takes it.

        Returns:
            Two scalar tensors: total, with the dtype of the loss, and count, float64.
        """
        others = [v.value for v in self.model.non_trainable_variables]
        y_pred, _, penalties = self.model.stateless_call(
            weights, others, x, training=False, return_losses=True
        )
        total, count = self.of_prediction(y, y_pred, sample_weight, tf.shape(tf.nest.flatten(x)[0])[0])
        if self.regularization and penalties:
            total += tf.cast(count, total.dtype) * tf.add_n([tf.cast(p, total.dtype) for p in penalties])
        return total, count

    def of_prediction(self, y, y_pred, sample_weight, examples):
        """The same two sums, without penalties, for predictions that were made elsewhere."""
        of_loss = _of_keras_loss if isinstance(self.loss, keras.losses.Loss) else _of_function
        total, count = of_loss(self.loss, y, y_pred, sample_weight, examples)
        return total, tf.cast(count, tf.float64)


def _of_keras_loss(loss, y, y_pred, sample_weight, examples):
    entries = copy.copy(loss)
    entries.reduction = "none"  # weights and masks as Keras applies them, without the division
    ones = copy.copy(entries)
    ones.call = lambda y_true, y_pred: _ones_like(loss.call(y_true, y_pred))
    unweighted = ones(y, y_pred)
    if unweighted.shape.rank == 0:
        _refuse_weights(loss, sample_weight)
        return _of_scalar(entries(y, y_pred), examples)
    total = tf.reduce_sum(entries(y, y_pred, sample_weight))
    if loss.reduction == "sum":
        return total, examples
    if loss.reduction == "mean_with_sample_weight":
        return total, tf.reduce_sum(ones(y, y_pred, sample_weight))
    return total, tf.reduce_sum(unweighted)


def _of_function(loss, y, y_pred, sample_weight, examples):
    if tf.is_tensor(y) and tf.is_tensor(y_pred):
        y, y_pred = _same_rank(y, y_pred)
    values = tf.convert_to_tensor(loss(y, y_pred))
    if values.shape.rank == 0:
        _refuse_weights(loss, sample_weight)
        return _of_scalar(values, examples)
    count = tf.size(values)
    if sample_weight is not None:
        weight = tf.cast(sample_weight, values.dtype)
        values, weight = _same_rank(values, weight)
        while weight.shape.rank < values.shape.rank:
            weight = weight[..., None]
        values *= weight
    return tf.reduce_sum(values), count


def _of_scalar(value, examples):
    return value * tf.cast(examples, value.dtype), examples


def _ones_like(values):
    ones = tf.ones_like(values)
    mask = getattr(values, "_keras_mask", None)  # set by ignore_class of a sparse cross-entropy
    if mask is not None:
        ones._keras_mask = mask
    return ones


def _same_rank(a, b):
    """(n,) and (n, 1) to one rank, as `fit` does before it calls a loss; else they broadcast to (n, n)."""
    if a.shape.rank == b.shape.rank + 1 and a.shape[-1] == 1:
        a = tf.squeeze(a, -1)
    elif b.shape.rank == a.shape.rank + 1 and b.shape[-1] == 1:
        b = tf.squeeze(b, -1)
    return a, b


def _refuse_weights(loss, sample_weight):
    if sample_weight is not None:
        raise ValueError(
            f"Loss {loss!r} returns one number per batch, so sample weights cannot be applied to its examples. "
            "Return one value per example, or leave sample_weight out of the batches."
        )
