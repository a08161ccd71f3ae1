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

import keras
import tensorflow as tf

from tf_lbgap.batch_normalization import inference
from tf_lbgap.curvature.modes import ExactStatistics, checked_mode, lowered_precision, measured
from tf_lbgap.curvature.parameters import Parameters


class Objective:
    """The mean loss of a model as a function of its weights, Dropout off.

    Args:
        model: A built Keras model.
        loss: A `keras.losses.Loss`, the name of one, or a function `loss(y_true, y_pred)` which returns a
            scalar, the mean over the batch, or one value per example. For a model with several outputs also a
            list or a dict of these, one per output (None: left out).
        regularization: Whether to add `model.losses` (penalties on weights, `add_loss`) once.
        variables: None for all trainable weights, or what `Parameters` takes.
        batch_normalization: One of `modes.MODES`.
        loss_weights: With several losses, a list or dict of numbers, as in `compile`.

    Attributes:
        parameters: `Parameters`, the weights that L is a function of.
        statistics: `ExactStatistics`, for the mode "recalibrated", else None.
        loss_name: What to call the loss in messages.
        precision: "float32 (the model trains in mixed_float16)" or such, else the dtype of the weights.

    Raises:
        ValueError: If the model has no weights yet, the loss has a state, or Keras does not know it.
    """

    def __init__(
        self,
        model,
        loss,
        regularization=False,
        *,
        variables=None,
        batch_normalization="inference",
        loss_weights=None,
    ):
        self.parameters = Parameters(model, variables)
        self.model = model
        self.regularization = regularization
        self.mode = checked_mode(batch_normalization)
        self.statistics = ExactStatistics(model) if self.mode == "recalibrated" else None
        self.loss = checked_loss(loss)
        self.loss_weights = loss_weights
        self.loss_name = loss_name(self.loss)
        lowered = lowered_precision(model)
        self.precision = f"float32 (the model trains in {lowered})" if lowered else str(self.parameters.dtype)

    def prediction(self, weights, x, statistics=()):
        """Outputs and penalties of the model at other weights than its own.

        Uses no state and changes none: neither seeds, nor recurrent state, nor statistics.

        Args:
            weights: Tensors for `parameters.variables`, in order.
            x: Nested tensors, the first dimension the batch.
            statistics: Tensors for `statistics.variables`, in that mode.

        Returns:
            Nested tensors, and a list of scalar tensors.
        """
        trainable = [v.value for v in self.model.trainable_variables]
        for position, weight in zip(self.parameters.positions, weights, strict=True):
            trainable[position] = weight
        others = [v.value for v in self.model.non_trainable_variables]
        if statistics:
            exact = {id(v): t for v, t in zip(self.statistics.variables, statistics, strict=True)}
            others = [
                exact.get(id(v), t) for v, t in zip(self.model.non_trainable_variables, others, strict=True)
            ]
        with measured(self.model, self.mode):
            y_pred, after, penalties = self.model.stateless_call(
                trainable, others, x, return_losses=True, **inference(self.model)
            )
        self._refuse_drawn_seeds(others, after)
        lowered = ("float16", "bfloat16")
        return tf.nest.map_structure(
            lambda t: tf.cast(t, tf.float32) if t.dtype.name in lowered else t, y_pred
        ), penalties

    def total_and_count(self, weights, x, y, sample_weight=None, statistics=()):
        """Sum and count over one batch, of which L is the quotient of sums.

        Args:
            weights: Tensors for `parameters.variables`, in order.
            x: Nested tensors, the first dimension the batch.
            y: Nested tensors.
            sample_weight: As Keras takes it.
            statistics: As in `prediction`.

        Returns:
            Two scalar tensors: total, with the dtype of the loss, and count, float64.
        """
        y_pred, penalties = self.prediction(weights, x, statistics)
        total, count = self.of_prediction(y, y_pred, sample_weight, num_examples(x))
        if self.regularization and penalties:
            total += tf.cast(count, total.dtype) * self.penalty(penalties, total.dtype)
        return total, count

    def of_prediction(self, y, y_pred, sample_weight, examples):
        """The same two sums, without penalties, for predictions that were made elsewhere."""
        if not isinstance(self.loss, (list, tuple, dict)):
            total, count = _total_and_count(self.loss, y, y_pred, sample_weight, examples)
            return total, tf.cast(count, tf.float64)
        total = 0.0
        for loss, weight, *part in self._outputs(y, y_pred, sample_weight):
            part_total, part_count = _total_and_count(loss, *part, examples)
            # The mean over the entries of this output, times the examples: outputs may differ in entries.
            mean = tf.math.divide_no_nan(part_total, tf.cast(part_count, part_total.dtype))
            total += tf.cast(weight, mean.dtype) * mean * tf.cast(examples, mean.dtype)
        return total, tf.cast(examples, tf.float64)

    def entries(self, y, y_pred, sample_weight=None):
        """Loss of each entry (example, or position of a sequence), its weight (0 where masked), and the count.

        Returns:
            Two tensors of one shape, whose sum of products is `total`; and a scalar.
        """
        if isinstance(self.loss, (list, tuple, dict)):
            raise ValueError(
                "Entries of several losses belong to no single example's log-likelihood. Pass one loss, and a model with one output."
            )
        return _entries(self.loss, y, y_pred, sample_weight)

    def of_examples(self, y, y_pred):
        """The loss of each example, the mean over its entries, shape [examples]."""
        if isinstance(self.loss, (list, tuple, dict)):
            raise ValueError("Pass one loss, and a model with one output: here an example has a single loss.")
        values, weights, _ = _entries(self.loss, y, y_pred, None)
        rows = tf.reshape(values * weights, [tf.shape(values)[0], -1])
        counted = tf.reshape(weights, tf.shape(rows))
        return tf.math.divide_no_nan(tf.reduce_sum(rows, 1), tf.reduce_sum(counted, 1))

    def penalty(self, penalties, dtype):
        """The sum of `model.losses`, a scalar tensor."""
        return tf.add_n([tf.cast(p, dtype) for p in penalties])

    def _outputs(self, y, y_pred, sample_weight):
        names = getattr(self.model, "output_names", None)
        losses, count = by_output(self.loss, y_pred, names, "loss"), len(tf.nest.flatten(y_pred))
        weights = by_output(self.loss_weights, y_pred, names, "loss_weights")
        labels, predictions = by_output(y, y_pred, names, "y"), by_output(y_pred, y_pred, names, "y_pred")
        if isinstance(sample_weight, (list, tuple, dict)):
            sample_weight = by_output(sample_weight, y_pred, names, "sample_weight")
        else:
            sample_weight = [sample_weight] * count
        weights = [1.0 if w is None else w for w in weights]
        for part in zip(losses, weights, labels, predictions, sample_weight, strict=True):
            if part[0] is not None:
                yield part

    def _refuse_drawn_seeds(self, before, after):
        seeds = {id(v) for v in _seed_states(self.model)}
        for variable, old, new in zip(self.model.non_trainable_variables, before, after, strict=True):
            if id(variable) in seeds and old is not new:
                raise ValueError(
                    f"Model {self.model.name!r} draws random numbers at inference (seed {variable.path!r} moves), so its "
                    "loss is another function at each call and has no Hessian. Let the layer do nothing when "
                    "training=False."
                )


def num_examples(x):
    """The number of examples of a batch, a scalar tensor."""
    return tf.shape(tf.nest.flatten(x)[0])[0]


def checked_loss(loss):
    """Losses by their names; raise for what is no loss, or has a state."""
    if isinstance(loss, dict):
        return {name: checked_loss(part) for name, part in loss.items()}
    if isinstance(loss, (list, tuple)):
        return [part if part is None else checked_loss(part) for part in loss]
    if isinstance(loss, str):
        return keras.losses.get(loss)
    if isinstance(loss, keras.metrics.Metric):
        raise ValueError(
            f"loss is the metric {loss.name!r}, which remembers earlier batches: a stateful loss has no Hessian. Pass the "
            "loss, such as keras.losses.MeanSquaredError()."
        )
    if not callable(loss):
        raise ValueError(
            f"loss is {loss!r}, but should be a keras.losses.Loss, the name of one, or a function "
            "loss(y_true, y_pred). For a compiled model pass loss=model.loss."
        )
    state = [
        name
        for name, value in getattr(loss, "__dict__", {}).items()
        if isinstance(value, (tf.Variable, keras.Variable, keras.random.SeedGenerator, keras.metrics.Metric))
    ]
    if state:
        raise ValueError(
            f"Loss {loss_name(loss)!r} has a state ({', '.join(state)}): a stateful loss may be another function at each "
            "call, and measuring would change it. Pass a loss without variables, metrics or seeds."
        )
    return loss


def loss_name(loss):
    """What to call a loss in messages."""
    return getattr(loss, "name", None) or getattr(loss, "__name__", repr(loss))


def by_output(value, y_pred, names, what):
    """A list with an entry per output, from a list, a dict by output or by name, or None."""
    count = len(tf.nest.flatten(y_pred))
    if value is None:
        return [None] * count
    if isinstance(value, dict):
        keys = sorted(y_pred) if isinstance(y_pred, dict) else list(names or ())
        unknown = sorted(set(value) - set(keys))
        if unknown or len(keys) != count:
            raise ValueError(f"{what} names output {unknown}, but the model has outputs {keys}.")
        return [value.get(key) for key in keys]
    parts = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(parts) != count:
        raise ValueError(
            f"{what} has {len(parts)} parts, but the model has {count} outputs: pass one for each."
        )
    return parts


def _seed_states(model):
    states = []
    for layer in model._flatten_layers():
        generators = getattr(layer, "_seed_generators", ())
        states += [generator.state for generator in generators]
    return states


def _total_and_count(loss, y, y_pred, sample_weight, examples):
    of_loss = _of_keras_loss if isinstance(loss, keras.losses.Loss) else _of_function
    return of_loss(loss, y, y_pred, sample_weight, examples)


def _entries(loss, y, y_pred, sample_weight):
    if not isinstance(loss, keras.losses.Loss):
        if tf.is_tensor(y) and tf.is_tensor(y_pred):
            y, y_pred = _same_rank(y, y_pred)
        values = tf.convert_to_tensor(loss(y, y_pred))
        _refuse_scalar(loss, values)
        return values, _weights_like(values, sample_weight), tf.size(values)
    entries, ones = _entrywise(loss)
    values = entries(y, y_pred)
    _refuse_scalar(loss, values)
    weights = ones(y, y_pred, sample_weight)
    count = {
        "sum": tf.shape(values)[0],
        "mean_with_sample_weight": tf.reduce_sum(weights),
    }.get(loss.reduction)
    mask = ones(y, y_pred)
    # A masked entry comes as 0 from Keras, with weight 0, whatever its own value.
    return values, weights, tf.reduce_sum(mask) if count is None else count


def copied_loss(loss):
    """A shallow copy: copy.copy goes through Keras' serialisation, which a user's own loss need not have."""
    new = object.__new__(type(loss))
    vars(new).update(vars(loss))
    return new


def _entrywise(loss):
    entries = copied_loss(loss)
    entries.reduction = "none"  # weights and masks as Keras applies them, without the division
    ones = copied_loss(entries)
    ones.call = lambda y_true, y_pred: _ones_like(loss.call(y_true, y_pred))
    return entries, ones


def _of_keras_loss(loss, y, y_pred, sample_weight, examples):
    entries, ones = _entrywise(loss)
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
    return tf.reduce_sum(values * _weights_like(values, sample_weight)), tf.size(values)


def _weights_like(values, sample_weight):
    if sample_weight is None:
        return tf.ones_like(values)
    weight = tf.cast(sample_weight, values.dtype)
    while weight.shape.rank > values.shape.rank and weight.shape[-1] == 1:
        weight = tf.squeeze(weight, -1)
    while weight.shape.rank < values.shape.rank:
        weight = weight[..., None]
    return tf.ones_like(values) * weight


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


def _refuse_scalar(loss, values):
    if values.shape.rank == 0:
        raise ValueError(
            f"Loss {loss!r} returns one number per batch, but here the loss of each example is needed. Return one value "
            "per example."
        )


def _refuse_weights(loss, sample_weight):
    if sample_weight is not None:
        raise ValueError(
            f"Loss {loss!r} returns one number per batch, so sample weights cannot be applied to its examples. "
            "Return one value per example, or leave sample_weight out of the batches."
        )
