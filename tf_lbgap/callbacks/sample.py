"""The sample that a monitor measures on, whole or in disjoint parts.

The bound of an eigenvalue covers the algorithm, not the sample: other examples have another Hessian. Measured on
disjoint parts, its spread says by how much.
"""

import tensorflow as tf

from tf_lbgap.batch_normalization import repeatable


def readable_again(batches):
    """Return the batches as they came, an iterator as a list.

    Raises:
        ValueError: If they are not batches, or there are none.
    """
    again = repeatable(batches)
    one_shot = isinstance(again, list) and not isinstance(batches, (list, tuple))
    return again if one_shot else batches


def num_examples(batches):
    """Count the examples, by a pass over the batches unless they know it."""
    known = getattr(batches, "num_examples", None)
    return sum(_length(batch) for batch in repeatable(batches)) if known is None else int(known)


def disjoint_parts(batches, count):
    """Cut a sample by position: example i belongs to part i modulo `count`.

    So sizes differ by one at most, examples that are sorted by class are spread over all parts, and equal samples
    have equal parts. The sample is kept in memory.

    Args:
        batches: A batch, an iterable of batches, or `data.Batches`.
        count: How many parts.

    Returns:
        A list of lists of batches.

    Raises:
        ValueError: If there are fewer examples than parts.
    """
    parts, position = [[] for _ in range(count)], 0
    for batch in repeatable(batches):
        length = _length(batch)
        for index, part in enumerate(parts):
            first = (index - position) % count
            if first < length:
                part.append(tf.nest.map_structure(lambda leaf, f=first: leaf[f::count], _whole(batch)))
        position += length
    if position < count:
        raise ValueError(
            f"subsets={count} parts were asked for, but the sample has {position} examples. Pass a larger sample, or "
            f"subsets={position} at most."
        )
    return parts


def _length(batch):
    return int(tf.nest.flatten(batch[0])[0].shape[0])


def _whole(batch):
    return tuple(part for part in batch if part is not None)
