"""A second stream over the same examples, so that the user's own is not read."""

import copy

from tf_lbgap.data import Batches


def twin(batches, batch_size, seed):
    """Return `data.Batches` that share the examples, `map` and `last_batch` of others, in an order of their own.

    Args:
        batches: `data.Batches`; stays as it is.
        batch_size: Examples per update.
        seed: 0 for the order of `batches`; each other whole number for another one.
    """
    source = copy.copy(batches._source)
    source.seed = (source.seed + 7919 * seed) % 2**31 if seed else source.seed
    source.mapped = copy.copy(source.mapped)
    source.mapped.seed = source.seed
    stream = Batches.__new__(Batches)
    stream._begin(source, batch_size, batches.last_batch)
    return stream


def first_examples(batches, count):
    """Return the first `count` examples as stored, without `map`, as one batch: nested tensors."""
    return next(iter(batches.in_order(min(count, batches.num_examples)).take(1)))
