"""The mean training loss over a stretch of updates."""

import math


class MeanLoss:
    """The mean training loss since some moment, from Keras' running means over epochs."""

    def __init__(self):
        self._total = self._count = 0.0  # loss x examples, and examples, of epochs that are over
        self._before = (0.0, 0.0)  # what of the running epoch came before that moment
        self._start = 0

    def get_state(self):
        """Return all of it, plain numbers."""
        return [self._total, self._count, list(self._before), self._start]

    def set_state(self, state):
        """Go on, in the epoch that `get_state` was asked in."""
        self._total, self._count, before, self._start = state
        self._before = tuple(before)

    def begin_epoch(self, start):
        """An epoch begins, at a position."""
        self._before, self._start = (0.0, 0.0), start

    def end_epoch(self, loss, end):
        """It ended with a running mean, at a position."""
        total, count = self._of_epoch(loss, end)
        self._total, self._count = self._total + total, self._count + count
        self._before = (loss * (end - self._start), end - self._start)

    def restart(self, loss, end):
        """From now on, where the running mean is `loss` and the position is `end`."""
        self._total = self._count = 0.0
        self._before = (loss * (end - self._start), end - self._start)

    def value(self, loss, end):
        """Return the mean until now, NaN if nothing came since."""
        total, count = self._of_epoch(loss, end)
        return (self._total + total) / (self._count + count) if self._count + count else math.nan

    def _of_epoch(self, loss, end):
        return loss * (end - self._start) - self._before[0], end - self._start - self._before[1]
