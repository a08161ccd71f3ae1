"""Which batch sizes are run, what an update of each takes, and how much memory."""

import contextlib
import itertools
import math
import statistics

import tensorflow as tf

from tf_lbgap.advisor import BEYOND
from tf_lbgap.pilot import stopwatch
from tf_lbgap.training import memory

BELOW = 4  # the smallest size is the user's over this
SATURATED = 1.05  # a doubling that makes fewer times as many examples a second gains nothing
_SHARE = 0.9  # of the memory that is there
_FEWEST = 3  # updates of a block, beyond those that warm up
_LONGEST = 0.2  # share of all the time that one size may take for one block


def sizes_from(batch_size, num_examples, multiple_of=1):
    """Return the sizes to try, ascending: the user's over 4 and 2, itself, and times 2, 4, ... up to the data set.

    >>> sizes_from(25, 1000), sizes_from(2, 5), sizes_from(24, 100, multiple_of=8)
    ([6, 12, 25, 50, 100, 200, 400, 800], [1, 2, 4], [8, 24, 48, 96])
    """
    size, found = max(batch_size / BELOW, 1.0), []
    while size <= num_examples:
        whole = max(int(size) // multiple_of * multiple_of, multiple_of)
        found += [whole] if whole not in found else []
        size *= 2
    return sorted({*found, batch_size})


class Ladder:
    """Times real updates of one size after the other, in turn.

    Args:
        trainings: `Trainings`.
        num_examples: N.
        clock: Function that returns the time in seconds.
        available: Function that returns the bytes that the process may still take.

    Attributes:
        seconds: Size -> seconds per update of each repeat.
        bytes: Size -> the most memory above that at the start; None on a device that does not tell.
        stopped: Why there is no larger size.
    """

    def __init__(self, trainings, num_examples, clock, available=memory.available):
        self._trainings, self._num_examples, self._clock = trainings, num_examples, clock
        self._memory = _Memory(available)
        self._blocks, self._took, self._ends, self.bytes = {}, {}, [], {}
        self.stopped = "it was the last one of the ladder"

    def climb(self, sizes, own, noise_scale, deadline):
        """Time each of the sizes once, and stop where larger ones would be of no use.

        Args:
            sizes: Ascending.
            own: The user's size, which is always run.
            noise_scale: Largest one that may hold in the training, in examples; None if it is not known.
            deadline: Time at which to stop.
        """
        longest, began = _LONGEST * (deadline - self._clock()), self._clock()
        block = longest / 10
        for position, size in enumerate(sizes):
            if size > own and self._clock() >= deadline:
                self.stopped = "there was no time to run a larger one"
                return
            if not self._run_watched(size, block, deadline):
                self.stopped = f"memory was out at {size:,}"
                return
            spent, began = self._clock() - began, self._clock()
            following = sizes[position + 1] if position + 1 < len(sizes) else None
            if following is None:
                self.stopped = (
                    f"twice as many are more than the {self._num_examples:,} examples of the training set"
                )
            elif size >= own and (why := self._enough(size, noise_scale, spent, longest)):
                self.stopped = why
                return

    def repeat(self, sizes, rounds, deadline):
        """Time some sizes again, in turn and to and fro, as long as there is time.

        Args:
            sizes: Of those that were run.
            rounds: How many times each.
            deadline: Time at which to stop.
        """
        share = (deadline - self._clock()) / (rounds * len(sizes))
        for number in range(rounds):
            for size in sorted(sizes)[:: (-1) ** (number + 1)]:
                if self._clock() + 1.2 * self._took[size] < deadline:
                    self._run(size, 0.5 * share, deadline)

    @property
    def seconds(self):
        """Size -> seconds per update of each repeat; a size of which no repeat told anything is missing."""
        end = statistics.median(self._ends) if self._ends else 0.0
        found = {}
        for size in sorted(self._blocks):
            updates = -(-self._num_examples // size)
            told = [stopwatch.seconds_per_update(stamps, updates, end) for stamps in self._blocks[size]]
            told = [seconds for seconds in told if seconds is not None]
            if told:
                found[size] = told
        return found

    def note(self, stamps):
        """Take the ends of epochs from another training."""
        self._ends += stopwatch.ends_of_epochs(stamps)

    def _run_watched(self, size, block, deadline):
        try:
            with self._memory.watched():
                self._run(size, block, deadline)
        except (tf.errors.ResourceExhaustedError, MemoryError):
            self._blocks.pop(size, None)
            return False
        self.bytes[size] = self._memory.bytes
        return True

    def _run(self, size, block, deadline):
        began = self._clock()
        recorder = self._trainings.run(size, lambda r: self._is_enough(r, block, deadline))
        self._took[size] = min(self._clock() - began, self._took.get(size, math.inf))
        self._blocks.setdefault(size, []).append(recorder.stamps)
        self._ends += stopwatch.ends_of_epochs(recorder.stamps)

    def _is_enough(self, recorder, block, deadline):
        stamps = recorder.stamps[stopwatch.WARM :]
        if len(stamps) < _FEWEST:
            return False
        taken = stamps[-1].seconds - stamps[0].seconds
        if self._clock() >= deadline or taken >= 3 * block:
            return True
        return taken >= block and (len(stamps) > 50 or stopwatch.holds_an_epoch(recorder.stamps))

    def _enough(self, size, noise_scale, spent, longest):
        """Why a larger size than this one would be of no use, or None."""
        if not self._memory.leaves_room_for_twice():
            return f"of {2 * size:,} examples memory might not hold the update"
        if spent > longest:
            return f"an update of {2 * size:,} examples would take too much of the time there is"
        rates = {b: b / statistics.median(s) for b, s in self.seconds.items()}
        last = [rates.get(b, math.nan) for b in sorted(rates)][-3:]
        gains = [b / a for a, b in itertools.pairwise(last)]
        is_saturated = len(gains) == 2 and max(gains) < SATURATED
        if is_saturated and (noise_scale is None or size >= BEYOND * noise_scale):
            return (
                "more examples at a time are not faster, and the noise scale says that they save no updates"
            )
        return None


class _Memory:
    """The most memory above that at the start."""

    def __init__(self, available):
        self._available, self.bytes = available, None
        self._gpu = "GPU:0" if tf.config.list_logical_devices("GPU") else None
        memory.give_back()
        self._before, self._peak = memory.resident(), memory.Peak()

    @contextlib.contextmanager
    def watched(self):
        """Watch the block."""
        if self._gpu is not None:
            tf.config.experimental.reset_memory_stats(self._gpu)
            yield
            self.bytes = int(tf.config.experimental.get_memory_info(self._gpu)["peak"])
            return
        with self._peak.watched():
            yield
        self.bytes = max(self._peak.bytes - self._before, 0)

    def leaves_room_for_twice(self):
        """Whether an update of twice the size will fit: it takes at most twice as much. A GPU says so itself."""
        if self._gpu is not None:
            return True
        room = self._available() + memory.resident() - self._before
        return 2 * self.bytes <= _SHARE * room
