"""Arms against a reference: means over seeds, paired differences, and which of them are significant.

Arms are paired by seed: a seed draws the same split and the same initial weights for all arms, so
differences vary less than the results themselves. A difference is called significant if a
two-sided paired t test says so at 5 % after Holm's correction for all the comparisons made; else
it is "no significant difference", which does not claim that the arms are equal.

References:
    Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

import dataclasses
import math

import numpy as np
import scipy.stats

LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A result that is compared between arms."""

    key: str  # in a row of results.json
    title: str
    unit: str = ""
    scale: float = 1.0  # what a value is multiplied by to be in that unit
    ratio: bool = False  # compared by its logarithm: arms differ by a factor
    more: str = "higher"
    less: str = "lower"


QUANTITIES = (
    Quantity("test_accuracy", "test accuracy", "%", 100.0),
    Quantity("test_loss", "test loss"),
    Quantity("top_eigenvalue", "top eigenvalue", ratio=True, more="sharper", less="flatter"),
)

COSTS = (
    Quantity("updates", "updates", ratio=True, more="more", less="fewer"),
    Quantity("seconds", "seconds", ratio=True, more="slower", less="faster"),
)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean of a result over seeds."""

    mean: float
    standard_error: float  # NaN for a single seed
    num_seeds: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An arm against the reference, over the seeds that both finished."""

    arm: str
    reference: str
    quantity: str  # key of a Quantity
    difference: float  # mean of arm - reference; of a ratio: the geometric mean of arm / reference
    interval: tuple  # of 95 %, in the same unit, not corrected for the number of comparisons
    p_value: float  # after Holm's correction
    num_seeds: int

    @property
    def significant(self):
        return self.p_value < LEVEL


def summarize(values):
    """Return mean and standard error of the finite values."""
    values = np.array([v for v in values if v is not None and math.isfinite(v)], float)
    if not len(values):
        return Summary(math.nan, math.nan, 0)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Summary(float(values.mean()), float(error), len(values))


def compare(rows, reference, quantities=QUANTITIES):
    """Compare every arm with the reference.

    Args:
        rows: Dicts as in `results.json`. Rows with `reached` False are left out (they missed the target, or
            diverged), and so are eigenvalues that did not converge.
        reference: Name of the arm that the others are compared with.
        quantities: What to compare.

    Returns:
        List of `Comparison`, for the pairs that at least two seeds finished.
    """
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        for quantity in quantities:
            if arm != reference:
                found.append(_compare(rows, arm, reference, quantity))
    found = [comparison for comparison in found if comparison is not None]
    corrected = holm([comparison.p_value for comparison in found])
    return [dataclasses.replace(c, p_value=float(p)) for c, p in zip(found, corrected, strict=True)]


def holm(p_values):
    """Return Holm's adjusted p values, in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(12).tolist()
        [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def _compare(rows, arm, reference, quantity):
    def by_seed(name):
        usable = (r for r in rows if r["arm"] == name and r.get("reached", True))
        values = {r["seed"]: r.get(quantity.key) for r in usable if r.get(f"{quantity.key}_converged", True)}
        return {
            seed: math.log(v) if quantity.ratio else v
            for seed, v in values.items()
            if v is not None and math.isfinite(v) and (v > 0 or not quantity.ratio)
        }

    ours, theirs = by_seed(arm), by_seed(reference)
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        return None
    differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
    mean, error = differences.mean(), differences.std(ddof=1) / math.sqrt(len(seeds))
    if error > 1e-12 * abs(mean):
        p_value = float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)
    else:  # all seeds differ by the same: t would be infinite, and the sign test is all that can be said
        p_value = 1.0 if mean == 0 else 2.0 * 0.5 ** len(seeds)
    reach = scipy.stats.t.ppf(1 - LEVEL / 2, len(seeds) - 1) * error
    back = math.exp if quantity.ratio else float
    return Comparison(
        arm=arm,
        reference=reference,
        quantity=quantity.key,
        difference=back(mean),
        interval=(back(mean - reach), back(mean + reach)),
        p_value=p_value,
        num_seeds=len(seeds),
    )
