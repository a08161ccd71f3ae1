"""By which law weights wander away from where they started: log t, a power of t, or ordinary diffusion.

In the first phase of training Hoffer et al. find the distance from the initial weights to grow as log t, t the number of
updates, which is how a random walk goes in a random potential; a walk without potential goes as √t. The three laws
have two parameters each: a + b log t, c tᵖ, a + b √t.

References:
    Hoffer, Hubara & Soudry, "Train longer, generalize better: closing the generalization gap in large batch training of
    neural networks", 2017, section 3.
"""

import math

import numpy as np
import scipy.optimize

from tf_lbgap.experiment.calls import ConfigError

KEYS = (
    "log_residual",
    "power_residual",
    "root_residual",
    "log_over_power",
    "log_over_root",
    "exponent",
    "log_slope",
)


def growth_of_distance(run, *, walks, seeds=None):
    """Fit the three laws to the distances of arms that differ in how long they trained, by least squares.

    Costs nothing: rows are read.

    Args:
        run: A `FinishedRun`.
        walks: Lists of four arms or more, which differ in how long they trained.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with arm "first to last" of a walk: `log_residual`, `power_residual` and `root_residual`, the root of the mean
        square of what a law leaves, divided by the mean distance; `log_over_power` and `log_over_root`, the first divided by
        the others, below 1 where log t fits better; `exponent` p, and `log_slope` b of the first law, in weight. Seeds in which an
        arm is missing or diverged have NaN. `curves` with `update` and `distance`.

    Raises:
        ConfigError: If a walk has fewer than four arms.
    """
    if not all(isinstance(arms, (list, tuple)) and len(arms) >= 4 for arms in walks):
        raise ConfigError(f"walks: {walks!r} must be lists of four arms or more.")
    walks = {f"{arms[0]} to {arms[-1]}": run.arms(arms) for arms in walks}
    rows, curves, done = [], [], set(run.finished(seeds=seeds))
    for seed in sorted({seed for _, seed in done}):
        for name, arms in walks.items():
            known = [arm for arm in arms if (arm, seed) in done and run.is_finite(arm, seed)]
            points = sorted((run.row(arm, seed)["updates"], run.row(arm, seed)["distance"]) for arm in known)
            times, distances = np.array(points, "float64").reshape(-1, 2).T
            found = fitted(times, distances) if len(known) == len(arms) else dict.fromkeys(KEYS, math.nan)
            rows.append({"arm": name, "seed": seed, **found})
            curves.append(
                {"arm": name, "seed": seed, "update": times.tolist(), "distance": distances.tolist()}
            )
    return {"rows": rows, "curves": curves}


def fitted(times, distances):
    """Return what `growth_of_distance` tells of a walk.

    Args:
        times: Updates, above 0, shape (n,).
        distances: Shape (n,), above 0.
    """
    (log, slope), (root, _) = _line(np.log(times), distances), _line(np.sqrt(times), distances)
    power, exponent = _power(times, distances)
    values = log, power, root, log / power, log / root, exponent, slope
    return {key: float(value) for key, value in zip(KEYS, values, strict=True)}


def _line(x, distances):
    """Return the relative residual of a straight line, and its slope."""
    slope, intercept = np.polyfit(x, distances, 1)
    return _relative(intercept + slope * x, distances), slope


def _power(times, distances):
    """Return the relative residual of c tᵖ, and p."""
    t = times / np.exp(np.log(times).mean())
    start = np.polyfit(np.log(t), np.log(distances), 1)
    found = scipy.optimize.least_squares(lambda p: math.exp(p[1]) * t ** p[0] - distances, start, xtol=1e-12)
    return _relative(math.exp(found.x[1]) * t ** found.x[0], distances), found.x[0]


def _relative(law, distances):
    return math.sqrt(np.mean((law - distances) ** 2)) / distances.mean()
