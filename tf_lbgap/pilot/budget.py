"""So many seconds, and what is left of them."""

import time


class Budget:
    """Counts seconds from when it is made.

    Args:
        seconds: How many there are.
        clock: Function that returns the time in seconds.
    """

    def __init__(self, seconds, clock=time.perf_counter):
        self.clock, self.seconds, self._start = clock, seconds, clock()

    @property
    def spent(self):
        """Seconds since it was made."""
        return self.clock() - self._start

    @property
    def left(self):
        """Seconds until it is used up, not below 0."""
        return max(self.seconds - self.spent, 0.0)

    def until(self, share):
        """Return the time at which a share of all the seconds will be used up."""
        return self._start + share * self.seconds
