"""How a batch of n examples is cut into k = ceil(n / micro_batch_size) parts, as equal as can be.

Part i holds the examples from floor(i n / k) to floor((i + 1) n / k), so sizes differ by one at most: parts of
micro_batch_size and a small rest would give batch normalization poor statistics there, and gradients of that part
much noise. XLA needs the size of a part when it compiles; then the n mod k parts that are larger come first.
"""

import contextlib
import contextvars
from typing import NamedTuple

import tensorflow as tf


def num_examples(data):
    """The examples of a batch (x, y, ...), an int if the shape says it, else a scalar int64 tensor."""
    first = next(leaf for leaf in tf.nest.flatten(data) if leaf is not None)
    if first.shape.rank and first.shape[0] is not None:
        return first.shape[0]
    if isinstance(first, tf.RaggedTensor):
        return first.nrows(tf.int64)
    if isinstance(first, tf.SparseTensor):
        return first.dense_shape[0]
    return tf.shape(first, tf.int64)[0]


def num_parts(n, micro_batch_size):
    """k, at least 1: a replica may be given no example, and Keras runs its step all the same."""
    if isinstance(n, int) and isinstance(micro_batch_size, int):
        return max(-(-n // micro_batch_size), 1)
    return tf.maximum(-(-tf.cast(n, tf.int64) // micro_batch_size), 1)


def as_tensors(data):
    """The batch with arrays made tensors, as an eager step gets them."""
    return tf.nest.map_structure(
        lambda t: (
            t if t is None or isinstance(t, tf.__internal__.CompositeTensor) else tf.convert_to_tensor(t)
        ),
        data,
    )


def cut(data, low, size):
    """The examples from `low` to `low + size` of every tensor of a batch."""

    def of(t):
        if t is None or t.shape.rank == 0:
            return t
        if isinstance(t, tf.SparseTensor):
            rest = t.dense_shape[1:]
            start = tf.concat([[low], tf.zeros_like(rest)], 0)
            return tf.sparse.slice(t, start, tf.concat([[size], rest], 0))
        if isinstance(t, tf.RaggedTensor):
            return t[low : low + size]
        # tf.slice and not t[low:high]: for XLA the size then is a constant though the start is not.
        rest = tf.shape(t, tf.int64)[1:]
        part = tf.slice(
            t,
            tf.concat([[tf.cast(low, tf.int64)], tf.zeros_like(rest)], 0),
            tf.concat([[tf.cast(size, tf.int64)], rest], 0),
        )
        part.set_shape([size if isinstance(size, int) else None, *t.shape[1:]])
        return part

    return tf.nest.map_structure(of, data)


class Place(NamedTuple):
    """Where the part that is worked off is in its batch."""

    index: tf.Tensor | int  # of the part
    start: tf.Tensor | int  # of its first example
    whole: tf.Tensor | None  # examples of the batch, float64; None: the part is all of it


_place = contextvars.ContextVar("place", default=None)


@contextlib.contextmanager
def placed(index, start, whole):
    """Say in the block that part `index` is worked off, which begins at an example of a batch of `whole`.

    The batch may itself be a part (groups of sharpness-aware minimisation are parts of micro-batches).
    """
    outer = place()
    here = Place(
        outer.index * 2**10 + tf.cast(index, tf.int64),
        outer.start + tf.cast(start, tf.int64),
        whole if outer.whole is None else outer.whole,
    )
    token = _place.set(here)
    try:
        yield
    finally:
        _place.reset(token)


def place():
    """Return the `Place` of the part that is worked off."""
    return _place.get() or Place(0, 0, None)
