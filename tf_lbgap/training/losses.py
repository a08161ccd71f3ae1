"""What a part counts in the gradient of the whole batch, for each of Keras' reductions.

The loss of a batch of n examples is total / count, a quotient of sums, plus penalties that do not depend on the
examples. With parts of n_i examples, the weighted mean of their gradients is that of the batch if

| loss | weight of part i | loss of the part is multiplied by |
|---|---|---|
| mean over entries ("sum_over_batch_size", "mean", a scalar) | n_i / n | 1 |
| "sum" | n_i / n | n / n_i |
| means over what is not masked, or "mean_with_sample_weight" | count_i / sum of counts | 1 |

Weights add up to 1, so penalties count once in all three. The last row is known only when the parts have been
run, and there is one weight for all losses of a model; so it is open to models with one loss.
"""

import contextlib

import tensorflow as tf

from tf_lbgap.curvature.objective import copied_loss, loss_name
from tf_lbgap.training.held import held


@contextlib.contextmanager
def counted(model, size, whole):
    """Let the compiled losses be those of a part in the block; yield a list that gets the count, if it matters.

    Args:
        model: A compiled Keras model.
        size: Examples of the part, a float64 scalar tensor.
        whole: Examples of the batch, likewise.
    """
    compiled, counts = model._compile_loss, []
    if compiled is None:
        yield counts
        return

    def of_part(losses):
        return [
            entry._replace(loss=_OfPart(entry.loss, size, whole, counts, len(losses))) for entry in losses
        ]

    def build(y_true, y_pred):  # at the first batch, when Keras learns what the outputs are
        type(compiled).build(compiled, y_true, y_pred)
        own.append(compiled._flat_losses)
        compiled._flat_losses = of_part(own[-1])

    own = []
    if compiled.built:
        own.append(compiled._flat_losses)
        compiled._flat_losses = of_part(own[-1])
    try:
        with held(compiled, build=build):
            yield counts
    finally:
        if own:
            compiled._flat_losses = own[-1]


class _OfPart:
    def __init__(self, loss, size, whole, counts, num_losses):
        self.loss, self.size, self.whole = loss, size, whole
        self.counts, self.num_losses = counts, num_losses

    def __call__(self, y_true, y_pred, sample_weight=None):
        loss, entries = copied_loss(self.loss), []

        def call(y_true, y_pred):
            entries.append(self.loss.call(y_true, y_pred))
            return entries[-1]

        loss.call = call
        value = loss(y_true, y_pred, sample_weight)
        if len(entries) != 1:  # a loss with a __call__ of its own: taken for a mean over the examples
            return value
        if loss.reduction in (None, "none") and value.shape.rank != 0:
            raise ValueError(
                f"Loss {loss_name(loss)!r} has reduction={loss.reduction!r}, so it gives fit one number per example. Compile "
                'the model with reduction="sum", which has the same gradient, or "sum_over_batch_size".'
            )
        if entries[0].shape.rank == 0:  # the user's own number for a batch: a mean
            return value
        if loss.reduction == "sum":
            return value * tf.cast(tf.math.divide_no_nan(self.whole, self.size), value.dtype)
        count = _count(loss, entries[0], y_pred, sample_weight)
        if count is not None:
            if self.num_losses > 1:
                raise ValueError(
                    f"Loss {loss_name(loss)!r} of one of {self.num_losses} outputs divides by what its mask or its sample "
                    "weights leave, so each loss would need other weights for the parts of a batch. Compile it with "
                    'reduction="sum", or train without micro_batch_size.'
                )
            self.counts.append(count)
        return value


def _count(loss, entries, y_pred, sample_weight):
    """What Keras divides by, up to a factor that is equal for all parts, or None if it is the number of entries."""
    masks = [getattr(t, "_keras_mask", None) for t in (y_pred, entries)]
    masks = [_broadcast(mask, entries) for mask in masks if mask is not None]
    factors = list(masks)
    if loss.reduction == "mean_with_sample_weight" and sample_weight is not None:
        factors.append(_broadcast(sample_weight, entries))
    if not factors:
        return None
    product = factors[0]
    for factor in factors[1:]:
        product *= factor
    return tf.reduce_sum(product)


def _broadcast(weight, entries):
    weight = tf.cast(weight, tf.float64)
    while weight.shape.rank > entries.shape.rank and weight.shape[-1] == 1:
        weight = tf.squeeze(weight, -1)
    while weight.shape.rank < entries.shape.rank:
        weight = weight[..., None]
    return weight * tf.ones_like(entries, tf.float64)
