"""Sizes that a batch may have: any, or a ladder of few, so that a compiler sees few shapes."""

import math

SIZES = ("any", "ladder")


def next_size(wanted, size, first, sizes):
    """Return the size to move to, at least 1 and without a maximum.

    On the ladder, the first size times powers of two, it moves towards what is wanted by as many rungs as that is whole
    factors of two away, so that noise about the edge of a rung does not move it to and fro.

    Args:
        wanted: Examples, any number; one that is not finite leaves the size as it is.
        size: The present size. One between two rungs, such as a maximum, counts as the lower.
        first: The first size.
        sizes: One of `SIZES`.

    Example:
        >>> [next_size(wanted, 40, 10, "ladder") for wanted in (21, 20, 79, 85, 330)]
        [40, 20, 40, 80, 320]
    """
    if not math.isfinite(wanted):
        return size
    wanted = max(wanted, 1)
    if sizes == "any":
        return round(wanted)
    tiny = 1e-9  # 2 ** 3 must not fall to the rung below it by rounding
    steps = math.log2(wanted / size)
    rungs = math.floor(steps + tiny) if steps > 0 else math.ceil(steps - tiny)
    if not rungs:
        return size
    return max(int(first * 2.0 ** (math.floor(math.log2(size / first) + tiny) + rungs)), 1)
