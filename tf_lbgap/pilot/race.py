"""A race of batch sizes and learning rates to one loss: which is there in the fewest seconds?

Updates and seconds are found apart. How many updates a size takes is a matter of the data and of the seed, and no machine
disturbs it; what an update takes is timed many times, in turn with the others. Their product is what a user waits for, and other
programs on the machine can hardly turn it around.

Each size is entered at the rate that the rule gives it, and neighbours of the leader, twice and half the size, twice and half the
rate, as long as one of them leads. Who leads is then run with further orders of the examples, and who is near it too: a lead on one
seed alone may be luck.
"""

import dataclasses
import math
import statistics
from typing import NamedTuple

NEAR = 1.2  # in seconds, of the leader's: who is nearer is run with further seeds
GIVEN_UP = 1.5  # of the leader's seconds: who takes longer is stopped
MOST_SEEDS = 6
STEPS = range(-2, 3)  # powers of two by which a rate may differ from the rule's


class Entry(NamedTuple):
    """A size and a rate: the rule's times 2^step."""

    size: int
    step: int


@dataclasses.dataclass
class Race:
    """Runs entries until the leader is clear or the time is over.

    Args:
        run: Function (entry, seed, most_updates) that trains and returns the updates to the goal; infinite if it is not
            reached in so many, None if there was no time.
        seconds: Size -> seconds per update; the sizes that there are.
        steps: Powers of two by which rates may differ from the rule's.
        most_seeds: Of the leader.

    Attributes:
        updates: `Entry` -> seed -> updates to the goal.
    """

    run: callable
    seconds: dict
    steps: tuple = tuple(STEPS)
    most_seeds: int = MOST_SEEDS

    def __post_init__(self):
        self.updates, self._given_up_after = {}, {}
        self._is_over = False

    def enter(self, entry, seed=0, updates=None):
        """Run an entry, or note what is known of it."""
        if updates is None:
            most = self._most_updates(entry, seed)
            updates = self.run(entry, seed, most)
            self._given_up_after.pop((entry, seed), None)
            if updates is not None and math.isinf(updates):
                self._given_up_after[entry, seed] = most * self.seconds[entry.size]
        if updates is None:
            self._is_over = True
        else:
            self.updates.setdefault(entry, {})[seed] = updates

    def go(self):
        """Race until there is nothing to learn, or no time."""
        while not self._is_over and self.updates:
            following = self._following()
            if following is None:
                return
            self.enter(*following)

    @property
    def leader(self):
        """The fastest entry of those with the most seeds, or None if none reached the goal."""
        there = [entry for entry in self.updates if math.isfinite(self.mean(entry))]
        most = max((len(self.updates[entry]) for entry in there), default=0)
        return min((e for e in there if len(self.updates[e]) == most), key=self.mean, default=None)

    def mean(self, entry, seeds=None):
        """Return the mean seconds of an entry, over its seeds or some of them."""
        seeds = self.updates[entry] if seeds is None else seeds
        return statistics.fmean(self._of(entry, seed) for seed in seeds)

    def ranked(self):
        """Return all entries, fastest first; who was run with more seeds goes before who was given up."""
        return sorted(self.updates, key=lambda entry: (self.mean(entry), -len(self.updates[entry])))

    def _of(self, entry, seed):
        return self.updates[entry][seed] * self.seconds[entry.size]

    def _following(self):
        """What to run next, an entry and a seed, or None."""
        leader = self.leader
        if leader is None:
            slower = [Entry(e.size, e.step - 1) for e in self.updates if e.step - 1 in self.steps]
            return next(((e, 0) for e in slower if e not in self.updates), None)
        seeds, mean = len(self.updates[leader]), self.mean(leader)
        for entry in self.ranked():
            own = self.updates[entry]
            if len(own) < seeds and self.mean(entry) <= NEAR * max(mean, self.mean(leader, list(own))):
                return entry, len(own)
        for entry in self._neighbours(leader):
            if entry not in self.updates:
                return entry, 0
        for (entry, seed), seconds in self._given_up_after.items():
            if seconds < NEAR * mean:  # the leader had luck so far
                return entry, seed
        return (leader, seeds) if seeds < self.most_seeds else None

    def _neighbours(self, entry):
        sizes = sorted(self.seconds)
        at = sizes.index(entry.size)
        yield from (Entry(entry.size, step) for step in (entry.step + 1,) if step in self.steps)
        yield from (Entry(size, entry.step) for size in sizes[at + 1 : at + 2])
        yield from (Entry(size, entry.step) for size in reversed(sizes[max(at - 1, 0) : at]))
        yield from (Entry(entry.size, step) for step in (entry.step - 1,) if step in self.steps)

    def _most_updates(self, entry, seed):
        leader = self.leader
        if leader is None:
            return math.inf
        known = self.updates[leader]
        seconds = max(self._of(leader, seed) if seed in known else 0.0, self.mean(leader))
        return max(GIVEN_UP * seconds / self.seconds[entry.size], 1)
