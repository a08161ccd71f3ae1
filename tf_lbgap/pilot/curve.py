"""A training curve: the clean loss at some updates, and when it passed a level."""

import itertools
import math
from typing import NamedTuple


class Point(NamedTuple):
    """A look at the clean training loss."""

    updates: float
    progress: float  # epochs
    loss: float


def passed(points, level):
    """Return where a loss came to `level` for good: at or below it at two looks in a row; or None.

    Between the looks around it log(loss) is taken for a straight line.

    Args:
        points: `Point`s in order, the first before training.
        level: The loss.

    Returns:
        `Point` with updates and progress as floats.
    """
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        if at.loss <= level and after.loss <= level:
            if before.loss <= level:
                return Point(*map(float, before[:2]), level)
            share = _share(before.loss, at.loss, level)
            return Point(*(a + share * (b - a) for a, b in zip(before[:2], at[:2], strict=True)), level)
    return None


def lowest_passed(points):
    """Return the lowest level that was passed, NaN if there are too few looks."""
    pairs = [max(a.loss, b.loss) for a, b in itertools.pairwise(points[1:])]
    return min((level for level in pairs if math.isfinite(level)), default=math.nan)


def _share(high, low, level):
    if low <= 0:
        return (high - level) / (high - low)
    return (math.log(high) - math.log(level)) / (math.log(high) - math.log(low))
