"""Seconds per update, from the moments at which the updates of a `fit` ended.

A user waits for all that `fit` does, so what is timed is the way from one update to the next, and the end of an epoch
belongs to it: N / B updates share it. It counts with large batches, whose epochs are short.
"""

import itertools
import statistics
from typing import NamedTuple

import scipy.stats

WARM = 2  # updates of a fit that are left out: they trace, compile and fill buffers
CONFIDENCE = 0.95


class Stamp(NamedTuple):
    """An update that has ended."""

    updates: int  # of this fit, this one included
    epoch: int
    index: int  # in the epoch
    seconds: float


def seconds_per_update(stamps, updates_per_epoch, epoch_seconds=0.0):
    """Return the mean seconds of an update, its share of an epoch's end included, or None of too few stamps.

    Of whole epochs where the stamps hold one; else of updates of the same epoch but its last, plus
    epoch_seconds / updates_per_epoch.

    Args:
        stamps: `Stamp`s in order.
        updates_per_epoch: How many share the end of an epoch.
        epoch_seconds: What such an end takes.
    """
    stamps = stamps[WARM:]
    if len(stamps) < 2:
        return None
    first, last = _whole_epochs(stamps)
    if first is not None:
        return (last.seconds - first.seconds) / (last.updates - first.updates)
    inside = [
        (a, b) for a, b in _inside(stamps) if b.index < updates_per_epoch - 1
    ]  # the last one may be small
    if not inside:
        return None
    count = sum(b.updates - a.updates for a, b in inside)
    return sum(b.seconds - a.seconds for a, b in inside) / count + epoch_seconds / updates_per_epoch


def holds_an_epoch(stamps):
    """Whether the stamps go from an update to the one at the same place of a later epoch."""
    return _whole_epochs(stamps[WARM:])[0] is not None


def ends_of_epochs(stamps):
    """Return the seconds that each end of an epoch took beyond an update, where there are 3 others to compare with."""
    stamps = stamps[WARM:]
    usual = [(b.seconds - a.seconds) / (b.updates - a.updates) for a, b in _inside(stamps)]
    if len(usual) < 3:
        return []
    update = statistics.median(usual)
    return [
        max(b.seconds - a.seconds - update * (b.updates - a.updates), 0.0)
        for a, b in itertools.pairwise(stamps)
        if a.epoch != b.epoch
    ]


def median_and_interval(values):
    """Return the median, and the order statistics between which it lies with 95 % confidence; of fewer than 6, the range.

    References:
        Conover, "Practical nonparametric statistics", 1999, section 3.2 (confidence interval for a quantile).
    """
    ordered = sorted(values)
    below = int(scipy.stats.binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5))
    if scipy.stats.binom.cdf(below, len(ordered), 0.5) > (1 - CONFIDENCE) / 2:
        below -= 1
    below = max(below, 0)
    return statistics.median(ordered), ordered[below], ordered[-1 - below]


def _whole_epochs(stamps):
    """The widest pair of stamps at the same place of two epochs, or a pair of None."""
    last = stamps[-1] if stamps else None
    for first in stamps:
        if first.epoch < last.epoch and first.index == last.index:
            return first, last
    return None, None


def _inside(stamps):
    return [(a, b) for a, b in itertools.pairwise(stamps) if a.epoch == b.epoch]
