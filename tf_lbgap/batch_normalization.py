"""Batch normalization at measurement: the statistics that belong to the present weights.

In inference a BatchNormalization layer uses a moving average of the batch statistics it met while
training. After few updates, as large batches make them, that average still remembers the initial
weights: the network evaluated is then not the network trained, and the difference looks like a
generalization gap. `recalibrate` replaces the averages by the exact mean and variance over a data set.

Sums run over examples and positions, in float64, so the way the data are cut into batches,
a short last batch included, changes nothing but the last bit.

References:
    Ioffe & Szegedy, "Batch normalization", 2015, Algorithm 2 (population statistics for inference).
    Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3 (precise statistics).
    Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983 (merging parts).
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf


def recalibrate(model, batches):
    """Set the moving statistics of batch normalization to the exact ones over `batches`.

    Afterwards a pass in inference mode over the same data finds, at each of these layers, inputs
    whose mean and variance (divided by the count, not count - 1) are the stored ones. A layer sees
    what earlier layers normalised, so they are done one by one in the order of the forward pass:
    with L layers the cost is L forward passes over the data, run eagerly and in inference mode.

    A layer with `trainable=False` is left as it is: Keras runs it on its stored statistics in
    training too, so they are part of the function that was trained. All else in the model is
    untouched, and a model without batch normalization stays as it is.

    A layer shared by several branches gets the statistics of all its inputs together. (A layer
    applied to its own output has no such fixed point in one pass and is set approximately.)

    Args:
        model: A built Keras model, functional or subclassed.
        batches: A tuple is one batch `(x, y)` or `(x, y, sample_weight)`; a list or another iterable
            yields such batches; `data.Batches` is read once in storage order. Labels and weights
            are not used.

    Raises:
        ValueError: If `batches` is empty, the statistics are not finite, or the model hides its
            layers in a `tf.function` of its own.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
        >>> recalibrate(model, (np.array([[1.0], [3.0]]), None))
        >>> model.layers[0].moving_mean.numpy(), model.layers[0].moving_variance.numpy()
        (array([2.], dtype=float32), array([1.], dtype=float32))
    """
    waiting = recalibrated_layers(model)
    if not waiting:
        return
    batches = repeatable(batches)
    for layer in _in_order_of_call(model, waiting, batches):
        mean, variance = _input_moments(model, layer, batches)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


@contextlib.contextmanager
def recalibrated(model, batches):
    """Inside the `with` block the model has the statistics of `recalibrate`, then its own again.

    Args:
        model: A built Keras model.
        batches: As for `recalibrate`.

    Yields:
        The model.
    """
    variables = [v for layer in recalibrated_layers(model) for v in _statistics(layer)]
    before = [v.numpy() for v in variables]
    try:
        recalibrate(model, batches)
        yield model
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def repeatable(batches):
    """The same batches as something that can be read any number of times.

    Every measure takes `batches` in these forms: a tuple is a single batch; an iterator, which can
    be read only once, is kept as a list; an object with a method `in_order()`, as `data.Batches`,
    is replaced by what this returns; all else is returned as it came.

    Args:
        batches: A batch, an iterable of batches, or `data.Batches`.

    Returns:
        An iterable of batches.

    Raises:
        ValueError: If `batches` cannot be iterated, is an empty list, or never ends.
    """
    if hasattr(batches, "in_order"):
        batches = batches.in_order()
    if isinstance(batches, tuple):
        batches = [batches]
    try:
        one_shot = iter(batches) is batches
    except TypeError:
        raise ValueError(
            f"batches is a {type(batches).__name__}, but should be a tuple (x, y), which is one batch, "
            "or an iterable of such tuples. Pass batches=(x, y), or a list of tuples."
        ) from None
    if isinstance(batches, tf.data.Dataset) and batches.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "batches is a tf.data.Dataset that never ends, and a measure reads all of it. "
            "Leave out repeat(), or pass batches.take(number_of_batches)."
        )
    if one_shot:
        batches = list(batches)
    if isinstance(batches, list) and not batches:
        raise ValueError(
            "batches is empty, and a measure needs at least one example. Pass a tuple (x, y), or an "
            "iterable of them. (A generator that was read before is empty: pass a list instead.)"
        )
    return batches


def inference(model):
    """Keyword arguments that run a model in inference mode: `call(self, x)` of a user's model takes none."""
    return {"training": False} if model._call_has_training_arg else {}


def _statistics(layer):
    return [layer.moving_mean, layer.moving_variance]


def recalibrated_layers(model):
    """The batch-normalization layers that `recalibrate` changes: built, and not frozen."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built and layer.trainable
    ]


def _forward(model, x):
    """An eager forward pass which moves no state: no seed, no recurrent state, no added loss."""
    weights = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]
    model.stateless_call(weights, others, x, **inference(model))


@contextlib.contextmanager
def _spy(layers, note):
    """While inside, each call of one of the layers first runs note(layer, inputs, mask)."""

    def spied(layer):
        call = layer.call

        def call_and_note(inputs, training=None, mask=None):
            note(layer, inputs, mask)
            return call(inputs, training=training, mask=mask)

        return call_and_note

    before = [vars(layer).get("call") for layer in layers]
    for layer in layers:
        vars(layer)["call"] = spied(layer)  # not setattr, by which Keras tracks what a layer owns
    try:
        yield
    finally:
        for layer, call in zip(layers, before, strict=True):
            if call is None:
                del vars(layer)["call"]
            else:
                vars(layer)["call"] = call


def _in_order_of_call(model, layers, batches):
    called = {}
    with _spy(layers, lambda layer, inputs, mask: called.setdefault(id(layer), layer)):
        for batch in batches:
            _forward(model, batch[0])
            return list(called.values())
    raise ValueError(
        "batches holds no batch, so there is nothing to take statistics from. Pass at least one (x, y)."
    )


def _input_moments(model, layer, batches):
    count, mean, scatter = 0, 0.0, 0.0  # scatter: the sum of squared distances from the mean

    def merge(layer, inputs, mask):
        nonlocal count, mean, scatter
        part = _rows(layer, inputs, mask)
        if not len(part):
            return
        part_mean = part.mean(axis=0)
        shift = part_mean - mean
        total = count + len(part)
        scatter = (
            scatter + np.square(part - part_mean).sum(axis=0) + np.square(shift) * (count * len(part) / total)
        )
        mean = mean + shift * (len(part) / total)
        count = total

    with _spy([layer], merge):
        for batch in batches:
            _forward(model, batch[0])
    if not count or not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
        raise ValueError(
            f"The inputs of layer {layer.name!r} have no finite mean and variance over {count} rows. "
            "Check the data, the mask and the weights for NaN or infinity before you recalibrate."
        )
    return mean, scatter / count


def _rows(layer, inputs, mask):
    """Inputs as a float64 array of shape [examples x positions, channels], without masked rows."""
    if not hasattr(inputs, "numpy"):
        raise ValueError(
            f"Layer {layer.name!r} was called inside a tf.function, where its inputs have no values to "
            "average. Remove @tf.function from the model's call, or type "
            "tf.config.run_functions_eagerly(True) before you recalibrate."
        )
    rows = inputs.numpy()
    rows = np.moveaxis(rows, layer.axis, -1)
    if mask is not None:
        rows = rows[np.asarray(mask)]
    return rows.reshape(-1, rows.shape[-1]).astype("float64")
