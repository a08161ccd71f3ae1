"""Class weights, folded into sample weights before the data reach `fit`.

`fit(class_weight=...)` maps the data set it is given, which would hide our stream behind a
prefetching copy. Folding the weights in beforehand gives the same losses.
"""

import keras
import numpy as np
import tensorflow as tf


def check_class_weight(class_weight):
    """Return `class_weight` with plain keys and values.

    Raises:
        ValueError: If it is not a dict from whole numbers of at least 0 to finite weights of at least 0.
    """
    try:
        weights = {int(label): float(weight) for label, weight in class_weight.items() if int(label) == label}
    except (AttributeError, TypeError, ValueError):
        weights = {}
    if (
        not weights
        or len(weights) != len(class_weight)
        or min(weights) < 0
        or not all(np.isfinite(w) and w >= 0 for w in weights.values())
    ):
        raise ValueError(f"class_weight={class_weight!r} must be a dict such as {{0: 1.0, 1: 2.5}}.")
    return weights


def fold_class_weight_numpy(class_weight, y, sample_weight=None):
    """Return sample weights, float32 of shape (N,): the class's weight times the given one."""
    if y is None or tf.nest.is_nested(y):
        raise ValueError("class_weight needs one array of targets; pass sample_weight for several outputs.")
    labels = np.asarray(y)
    if labels.ndim > 1:
        labels = labels.argmax(-1) if labels.shape[-1] > 1 else labels[..., 0]
    labels = np.round(labels).astype(np.int64)
    weights = np.ones(labels.shape, np.float32)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return weights if sample_weight is None else weights * np.asarray(sample_weight, np.float32)


def fold_class_weight(class_weight, *example):
    """Return one example of a `tf.data.Dataset` with its class weight as, or in, its sample weight."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(example)
    if y is None or tf.nest.is_nested(y):
        raise ValueError("class_weight needs one target per example; put weights into the data set instead.")
    label = (
        tf.argmax(y, -1)
        if y.shape.rank and y.shape[-1] > 1
        else tf.cast(tf.round(tf.reshape(y, [])), tf.int64)
    )
    named = tf.equal(tf.constant(list(class_weight), tf.int64), label)
    values = tf.constant(list(class_weight.values()), tf.float32)
    weight = tf.where(tf.reduce_any(named), tf.reduce_sum(tf.where(named, values, 0.0)), 1.0)
    return x, y, weight if sample_weight is None else weight * tf.cast(sample_weight, tf.float32)
