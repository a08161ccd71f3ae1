"""Arms against a reference and a margin: worse by less than that, or equal up to it.

A margin says something only if it was fixed before anybody looked at the results.

References:
    Schuirmann, "A comparison of the two one-sided tests procedure and the power approach for assessing the
    equivalence of average bioavailability", 1987.
"""

import dataclasses
import math

import numpy as np
import scipy.stats

from tf_lbgap.claims.chances import chance
from tf_lbgap.claims.comparisons import LEVEL

POWER = 0.8  # that an experiment should have to show what is true
MOST_SEEDS = 10_000  # that are worth telling


@dataclasses.dataclass(frozen=True)
class MarginTest:
    """An arm against the reference and a margin, over the seeds that both finished."""

    arm: str
    reference: str
    key: str  # in a row of results.json
    margin: float  # in the unit of the key, above 0
    difference: float  # mean of arm - reference; NaN without a pair
    lower: float  # one-sided 95 % bound of it; NaN for fewer than two pairs
    upper: float  # the other one; both together are an interval of 90 %
    p_value: float  # of the hypothesis that is to be refuted, not corrected for the number of arms
    verdict: str  # PASS, FAIL or INCONCLUSIVE
    num_seeds: int
    deviation: float  # standard deviation of the differences, n - 1; NaN for fewer than two pairs
    two_sided: bool  # whether equality was tested, else that the arm is no worse
    note: str  # what was left out, and why there is no more to say; may be empty

    @property
    def power(self):
        """Probability of PASS with so many seeds of this deviation, if in truth nothing differs; NaN if not known."""
        if not self.deviation > 0:
            return math.nan
        return power(self.margin / self.deviation, self.num_seeds, two_sided=self.two_sided)

    @property
    def seeds_needed(self):
        """Seeds of this deviation for a power of 80 %; None if not known, or above `MOST_SEEDS`."""
        return _seeds_needed(self.margin / self.deviation, self.two_sided) if self.deviation > 0 else None


def non_inferiority(rows, reference, margin, *, key="test_accuracy"):
    """Test for every arm whether it is worse than the reference by less than a margin.

    A one-sided paired t test of the hypothesis that the mean of arm - reference is -margin or less, at 5 %:
    PASS if the lower bound is above -margin, FAIL if the upper bound is below it, else INCONCLUSIVE. An arm
    that is exactly `margin` worse passes in 5 % of experiments.

    An arm that failed (diverged, or missed the target) in a seed that the reference finished cannot PASS: what
    is left are its good seeds. Arms are tested each at 5 %, without a correction for how many there are.

    Args:
        rows: Dicts as in `results.json`.
        reference: Name of the arm that the others are compared with.
        margin: The largest loss that counts as none, above 0, fixed before the results are known; half a point of
            accuracy is 0.005.
        key: What is compared, a result of which more is better.

    Returns:
        List of `MarginTest`, one for each arm, testable or not.

    Raises:
        ValueError: If the margin is not above 0.

    Example:
        >>> rows = [{"arm": "small", "seed": s, "test_accuracy": 0.90} for s in range(5)]
        >>> rows += [{"arm": "large", "seed": s, "test_accuracy": 0.899 + 0.0005 * s} for s in range(5)]
        >>> (test,) = non_inferiority(rows, "small", 0.005)
        >>> test.verdict, round(test.lower, 6), test.seeds_needed
        ('PASS', -0.000754, 2)
    """

    return _margin_tests(rows, reference, margin, key, two_sided=False)


def equivalence(rows, reference, margin, *, key="test_accuracy"):
    """Test for every arm whether it is equal to the reference up to a margin: two one-sided tests (TOST), each at 5 %.

    PASS if both bounds lie within the margin, FAIL if both lie beyond it on the same side, else INCONCLUSIVE.
    Arguments, what is returned, and what cannot PASS are those of `non_inferiority`.

    References:
        Schuirmann, 1987.
    """
    return _margin_tests(rows, reference, margin, key, two_sided=True)


def _margin_tests(rows, reference, margin, key, two_sided):
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < math.inf:
        raise ValueError(
            f"margin={margin!r} must be a number above 0, in the unit of {key}: half a point of accuracy is 0.005."
        )
    by_arm = {reference: {}}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["seed"]] = row
    arms = [arm for arm in by_arm if arm != reference]
    pairs = [_pairs(arm, by_arm[arm], reference, by_arm[reference], key) for arm in arms]
    blank = MarginTest(
        "", reference, key, float(margin), *[math.nan] * 4, "INCONCLUSIVE", 0, math.nan, two_sided, ""
    )
    return [
        _margin_test(dataclasses.replace(blank, arm=arm, note=note), differences, has_failed)
        for arm, (differences, has_failed, note) in zip(arms, pairs, strict=True)
    ]


def _margin_test(blank, differences, has_failed):
    margin, note, count = blank.margin, blank.note, len(differences)
    if count < 2:
        told = f"{'a single pair' if count else 'no pair'} of seeds, of which no spread is known"
        mean = float(differences[0]) if count else math.nan
        note = "; ".join(filter(None, [told, note]))
        return dataclasses.replace(blank, difference=mean, num_seeds=count, note=note)
    mean = float(differences.mean())
    deviation = float(differences.std(ddof=1))
    error = deviation / math.sqrt(count)
    has_spread = deviation > 1e-12 * (abs(mean) + margin)

    def is_above(x):
        """p value of the hypothesis that the mean is x or less."""
        if has_spread:
            return float(scipy.stats.t.sf((mean - x) / error, count - 1))
        return 0.5**count if mean > x else 1.0  # t would be infinite; the sign test is all that can be said

    def is_below(x):
        if has_spread:
            return float(scipy.stats.t.cdf((mean - x) / error, count - 1))
        return 0.5**count if mean < x else 1.0

    p_value, against = is_above(-margin), is_below(-margin)
    if blank.two_sided:
        p_value, against = max(p_value, is_below(margin)), min(against, is_above(margin))
    verdict = "PASS" if p_value < LEVEL else "FAIL" if against < LEVEL else "INCONCLUSIVE"
    if has_failed and verdict == "PASS":
        verdict = "INCONCLUSIVE"
    if not has_spread:
        note = "; ".join(filter(None, ["all seeds differ by the same: judged by the sign test", note]))
    reach = float(scipy.stats.t.ppf(1 - LEVEL, count - 1)) * error if has_spread else 0.0
    return dataclasses.replace(
        blank,
        difference=mean,
        lower=mean - reach,
        upper=mean + reach,
        p_value=p_value,
        verdict=verdict,
        num_seeds=count,
        deviation=deviation if has_spread else 0.0,
        note=note,
    )


def power(ratio, num_seeds, *, two_sided=False):
    """Return the probability that a test against a margin passes if nothing differs.

    Args:
        ratio: The margin in standard deviations of the paired differences.
        num_seeds: Pairs, at least 2.
        two_sided: Whether it is `equivalence`, else `non_inferiority`.

    Returns:
        A float, to 0.001: the mean over the distribution of the estimated deviation, at 1000 of its quantiles.
    """
    distance = ratio * math.sqrt(num_seeds)
    return chance(distance, distance if two_sided else math.inf, num_seeds - 1, LEVEL)


def _seeds_needed(ratio, two_sided):
    """Return the least number of seeds for `POWER`, or None if that is more than `MOST_SEEDS`."""
    low, high = 1, 2
    while power(ratio, high, two_sided=two_sided) < POWER:
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(ratio, middle, two_sided=two_sided) >= POWER else (middle, high)
    return high if high <= MOST_SEEDS else None


def _pairs(arm, ours, reference, theirs, key):
    """Return arm - reference by seed, whether the arm failed where the reference did not, and what was left out."""
    differences, left_out, has_failed = [], {}, False
    for seed in sorted(ours.keys() | theirs.keys()):
        of_arm, of_reference = _missing(ours.get(seed), key), _missing(theirs.get(seed), key)
        if not of_arm and not of_reference:
            differences.append(ours[seed][key] - theirs[seed][key])
            continue
        has_failed |= seed in ours and bool(of_arm) and not of_reference
        name, why = (arm, of_arm) if of_arm else (reference, of_reference)
        left_out.setdefault(f"{name} {why}", []).append(str(seed))
    told = [f"seed{'s' if len(s) > 1 else ''} {', '.join(s)} ({why})" for why, s in left_out.items()]
    return np.array(differences, float), has_failed, f"left out: {', '.join(told)}" if told else ""


def _missing(row, key):
    """Return why a row cannot be compared, or nothing."""
    if row is None:
        return "has no result"
    if not row.get("reached", True):
        return "missed the target or diverged"
    value = row.get(key)
    return "" if value is not None and math.isfinite(value) else f"has no {key}"
