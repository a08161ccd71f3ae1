"""What ladder and race found, as rows of an `Advice`."""

import math
import statistics

from tf_lbgap.pilot import stopwatch
from tf_lbgap.pilot.results import RaceRow, SizeRow


def size_rows(ladder, expected, race, rate_factor):
    """Return a `SizeRow` for each size that was timed.

    Args:
        ladder: `Ladder`.
        expected: Size -> updates and seconds by the noise scale.
        race: `Race`.
        rate_factor: Function of an entry.
    """
    return tuple(
        SizeRow(
            size,
            *(found := stopwatch.median_and_interval(told)),
            len(told),
            size / found[0],
            ladder.bytes.get(size),
            *expected.get(size, (None, None)),
            *_fastest(size, race, rate_factor),
        )
        for size, told in ladder.seconds.items()
    )


def race_rows(race, rate_factor):
    """Return a `RaceRow` for each entry, fastest first."""
    return tuple(
        RaceRow(entry.size, rate_factor(entry), tuple(race.updates[entry].values()), race.mean(entry))
        for entry in race.ranked()
    )


def _fastest(size, race, rate_factor):
    """Updates, seconds, seeds and rate of the fastest entry of a size among those with the most seeds."""
    entries = [e for e in race.ranked() if e.size == size and math.isfinite(race.mean(e))]
    if not entries:
        return None, None, 0, None
    most = max(len(race.updates[entry]) for entry in entries)
    best = next(entry for entry in entries if len(race.updates[entry]) == most)
    return statistics.fmean(race.updates[best].values()), race.mean(best), most, rate_factor(best)
