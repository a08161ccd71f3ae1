"""The loop of the studies: arms and seeds, and what is there where training diverged."""

import math


def rows_of(run, arms, seeds, keys, measure):
    """Return a row per arm and seed that finished.

    Args:
        run: A `FinishedRun`.
        arms: Names of arms; None: all.
        seeds: How many seeds; None: all.
        keys: The keys of what `measure` returns: NaN where training diverged.
        measure: Function (arm, seed) that returns a dict of floats.
    """
    return [
        {
            "arm": arm,
            "seed": seed,
            **(measure(arm, seed) if run.is_finite(arm, seed) else dict.fromkeys(keys, math.nan)),
        }
        for arm, seed in run.finished(arms, seeds)
    ]
