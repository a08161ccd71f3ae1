"""Batches as the traced functions of this package take them: tensors, with one signature for all.

A traced function is compiled for a signature, and compiling costs seconds. So all sizes of a batch share
one: the first dimension is free, others are free where batches differ (sentences of several lengths).
"""

import numpy as np
import tensorflow as tf

from tf_lbgap.batch_normalization import repeatable


class TensorBatches:
    """Batches `(x, y)` or `(x, y, sample_weight)` of tensors, to be read any number of times.

    Arrays in a tuple or a list are converted once, here; other iterables are read anew on every pass.
    Floating-point arrays take the dtype of the weights, as `fit` does it; integers stay. A batch that is longer
    than a chunk comes out in chunks, so that memory is bounded by the chunk.

    Args:
        batches: A tuple is one batch; a list or another iterable yields batches; an iterator is kept as
            a list; `data.Batches` is read in storage order. x, y and sample_weight may be nested.
        dtype: Of the model's weights.
        chunk_size: The longest piece, in examples; None cuts nothing.
        num_devices: How many devices work at the same time; a batch that is cut gives each of them a piece.

    Attributes:
        signature: Nested `tf.TensorSpec` which fits every batch seen so far.
    """

    def __init__(self, batches, dtype, chunk_size=None, num_devices=1):
        self._dtype = tf.as_dtype(dtype)
        self._chunk_size, self._num_devices = chunk_size, num_devices
        batches = repeatable(batches)
        if isinstance(batches, list):
            batches = [self._tensors(batch) for batch in batches]
            self.signature = signature_of(batches[0])
            for batch in batches[1:]:
                self.signature = widened(self.signature, signature_of(batch))
        elif isinstance(batches, tf.data.Dataset):
            self.signature = signature_of(_checked(batches.element_spec), self._dtype)
        else:
            first = next(iter(batches), None)
            if first is None:
                raise ValueError("batches is empty. Pass an iterable with at least one tuple (x, y).")
            self.signature = signature_of(self._tensors(first))
        self._batches = batches

    @classmethod
    def of(cls, batches, dtype, chunk_size=None, num_devices=1):
        """The same, or `batches` itself if it is that already: sums over the same data share it."""
        wanted = tf.as_dtype(dtype), chunk_size, num_devices
        if isinstance(batches, cls) and (batches._dtype, batches._chunk_size, batches._num_devices) == wanted:
            return batches
        return cls(batches, dtype, chunk_size, num_devices)

    def __iter__(self):
        as_they_came = isinstance(self._batches, list)
        for batch in self._batches:
            yield from self._chunks(batch if as_they_came else self._tensors(batch))

    def _chunks(self, batch):
        length = int(tf.nest.flatten(batch)[0].shape[0])
        size = length
        if self._chunk_size is not None:
            size = min(self._chunk_size, -(-length // self._num_devices))
        if length <= size:
            yield batch
            return
        for start in range(0, length, size):
            yield tf.nest.map_structure(lambda leaf, s=start: leaf[s : s + size], batch)

    def _tensors(self, batch):
        batch = tf.nest.map_structure(self._tensor, _checked(batch))
        lengths = {int(leaf.shape[0]) if leaf.shape.rank else None for leaf in tf.nest.flatten(batch)}
        if len(lengths) != 1 or None in lengths or 0 in lengths:
            raise ValueError(
                f"The arrays of a batch have {sorted(map(str, lengths))} examples (None: a scalar), but x, y and "
                "sample_weight should have the same first dimension of at least 1. Check the slices "
                "from which the batch was made."
            )
        return batch

    def _tensor(self, leaf):
        if not tf.is_tensor(leaf):
            leaf = np.asarray(leaf)
        leaf = tf.convert_to_tensor(leaf)
        return tf.cast(leaf, self._dtype) if leaf.dtype.is_floating else leaf


def signature_of(batch, float_dtype=None):
    """The `tf.TensorSpec` of a batch of any size.

    Args:
        batch: Nested tensors, or nested `tf.TensorSpec`.
        float_dtype: If given, replaces the dtype of floating-point leaves.

    Returns:
        The same structure of `tf.TensorSpec`, the first dimension None.
    """

    def spec(leaf):
        dtype = float_dtype if float_dtype and leaf.dtype.is_floating else leaf.dtype
        shape = leaf.shape if leaf.shape.rank is None else [None, *leaf.shape[1:]]
        return tf.TensorSpec(shape, dtype)

    return tf.nest.map_structure(spec, batch)


def widened(signature, other):
    """The narrowest signature which fits batches of both.

    Args:
        signature: Nested `tf.TensorSpec`.
        other: Nested `tf.TensorSpec`.

    Returns:
        Nested `tf.TensorSpec`; `signature` itself if it fits already.

    Raises:
        ValueError: If structures, ranks or dtypes differ.
    """
    if signature == other:
        return signature
    try:
        tf.nest.assert_same_structure(signature, other)
        pairs = zip(tf.nest.flatten(signature), tf.nest.flatten(other), strict=True)
        specs = [a.most_specific_common_supertype([b]) for a, b in pairs]
    except (ValueError, TypeError):
        specs = [None]
    if None in specs:
        raise ValueError(
            f"Batches differ: one is {other}, an earlier one {signature}. All should have the same structure, "
            "ranks and dtypes: sample_weight in all or in none, and labels of one dtype."
        )
    return tf.nest.pack_sequence_as(signature, specs)


def _checked(batch):
    if isinstance(batch, list):
        batch = tuple(batch)
    if not isinstance(batch, tuple) or len(batch) not in (2, 3):
        got = f"a tuple of {len(batch)}" if isinstance(batch, tuple) else f"a {type(batch).__name__}"
        raise ValueError(
            f"A batch is {got}, but should be (x, y) or (x, y, sample_weight). "
            "For a single batch pass the tuple batches=(x, y); a list is taken as a list of batches."
        )
    if len(batch) == 3 and batch[2] is None:
        batch = batch[:2]
    if any(part is None for part in batch):
        raise ValueError(
            "A batch holds None where x or y should be. Pass (x, y), with y=x for a loss that compares with the input."
        )
    return batch
