"""Where one epoch is cut into batches.

An epoch of N examples is a walk from position 0 to position N; each batch takes the next
`batch_size` examples of a seeded permutation. What happens to a remainder smaller than a batch is
the caller's choice: it forms a batch of its own (`"partial"`), joins the batch before it
(`"merge"`), or is left out until the next epoch's order brings it up (`"drop"`).

Several replicas share each batch equally, so then sizes are multiples of their number and the few examples at the end of
the order that would make no whole share are left out, others in each epoch.

Plain numbers only; `Batches` turns boundaries into data.
"""

import numbers

import numpy as np

LAST_BATCH = ("partial", "merge", "drop")


def check_batch_size(size, num_examples, who="batch_size"):
    """Return `size` as an int.

    Args:
        size: What the user gave.
        num_examples: The largest batch there can be.
        who: How the error should call the value.

    Raises:
        ValueError: If `size` is not a whole number from 1 to `num_examples`.
    """
    whole = (
        isinstance(size, numbers.Real)
        and not isinstance(size, (bool, np.bool_))
        and np.isfinite(size)
        and size == int(size)
    )
    if not whole or not 1 <= size <= num_examples:
        raise ValueError(
            f"{who}={size!r} is not a batch size: it must be a whole number from 1 to {num_examples}, "
            "the number of examples."
        )
    return int(size)


def next_boundary(position, size, num_examples, last_batch="partial"):
    """Return where the batch that starts at `position` ends, or None if there is no further batch.

    >>> next_boundary(8, 4, 10), next_boundary(4, 4, 10, "merge"), next_boundary(8, 4, 10, "drop")
    (10, 10, None)
    """
    end = position + size
    if position >= num_examples or (end > num_examples and last_batch == "drop"):
        return None
    if last_batch == "merge" and num_examples - end < size:
        return num_examples
    return min(end, num_examples)


def end_of_epoch(num_examples, start=0, multiple_of=1):
    """Return where an epoch that is read from `start` ends, if batches are multiples of a number of replicas.

    >>> end_of_epoch(10), end_of_epoch(10, 0, 4), end_of_epoch(10, 6, 4)
    (10, 8, 10)
    """
    return num_examples - (num_examples - start) % multiple_of


def rounded(size, multiple_of):
    """Return the size of a batch that a number of replicas share equally: rounded down, and no replica is empty.

    >>> rounded(10, 4), rounded(3, 4)
    (8, 4)
    """
    return max(size - size % multiple_of, multiple_of)


def cut(num_examples, size_at, *, start=0, last_batch="partial", multiple_of=1):
    """Cut one epoch into batches.

    Args:
        num_examples: N, the length of the epoch.
        size_at: Function position -> batch size, a whole number from 1 to N. It is asked at the
            start of each batch.
        start: Position to start from, for an epoch that is resumed.
        last_batch: One of `"partial"`, `"merge"`, `"drop"`.
        multiple_of: Number of replicas, of which each batch is a multiple.

    Returns:
        Boundaries, int64 of shape (num_batches + 1,): batch i holds positions
        `boundaries[i]` to `boundaries[i + 1] - 1`; and the sizes asked for, int64 of shape
        (num_batches,), from which the last batch may differ.

    Example:
        >>> cut(10, lambda position: 2 if position < 4 else 4)
        (array([ 0,  2,  4,  8, 10]), array([2, 2, 4, 4]))
    """
    boundaries, sizes = [start], []
    stop = end_of_epoch(num_examples, start, multiple_of)
    while True:
        size = rounded(size_at(boundaries[-1]), multiple_of) if boundaries[-1] < stop else 1
        end = next_boundary(boundaries[-1], size, stop, last_batch)
        if end is None:
            return np.array(boundaries, np.int64), np.array(sizes, np.int64)
        boundaries.append(end)
        sizes.append(size)


def num_batches(num_examples, batch_size, last_batch="partial"):
    """Return the number of batches of an epoch whose batch size does not change."""
    if last_batch == "partial":
        return -(-num_examples // batch_size)
    return max(num_examples // batch_size, 1 if last_batch == "merge" else 0)
