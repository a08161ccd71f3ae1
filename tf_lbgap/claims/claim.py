"""A claim, and its verdict: PASS, FAIL or INCONCLUSIVE by a criterion that was written down before the run.

A claim says between which bounds the mean of a statistic over seeds lies. Its verdict is read off an interval: PASS if the interval lies
within the bounds, FAIL if it lies outside, INCONCLUSIVE if it covers both. The interval is that of a paired t test, its
error is that of `dependence`, and its level is corrected by Holm's method for all the claims of a paper: both
verdicts have to be wrong in at most 5 % of papers. "The same" is a claim with two bounds, which makes the test one of equivalence.

An arm that failed (missed the target, diverged, did not learn) in any seed leaves its good seeds: such a claim cannot PASS.
"""

import dataclasses
import math

import numpy as np
import scipy.stats

from tf_lbgap.claims.comparisons import LEVEL, holm
from tf_lbgap.claims.dependence import dependence
from tf_lbgap.claims.one_test_set import luck_of_test_set
from tf_lbgap.claims.statistics import Missing, Statistic


@dataclasses.dataclass(frozen=True)
class Claim:
    """One testable sentence."""

    name: str
    says: str
    statistic: Statistic | None = None  # None: nobody tests it here
    low: float | None = (
        None  # bounds of what is claimed, as people read them; None: there is none on that side
    )
    high: float | None = None
    source: str = ""  # where in the paper
    paper: str = ""  # whose claim, if not that of the file's paper
    expected: float | None = None  # what was seen while choosing, as people read it
    deviation: float | None = (
        None  # of the statistic over seeds, seen while choosing; of its logarithm for a ratio
    )
    primary: bool = False
    rule: str = ""  # what was held equal
    own: bool = True  # whether that is how the paper compared

    @property
    def claimed(self):
        """The bounds in words."""
        if self.low is None and self.high is None:
            return ""
        if self.high is None:
            return f"above {self.low:g}"
        return f"below {self.high:g}" if self.low is None else f"within {self.low:g} to {self.high:g}"

    @property
    def bounds(self):
        """Both bounds in the unit that is averaged in, infinite where there is none."""
        low = -math.inf if self.low is None else self.statistic.inward(self.low)
        return low, math.inf if self.high is None else self.statistic.inward(self.high)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the seeds say of a claim; numbers are as people read them, NaN where there is none."""

    claim: Claim
    verdict: str  # PASS, FAIL, INCONCLUSIVE or NOT RUN
    seen: str  # a sentence
    estimate: float = math.nan
    interval: tuple = (math.nan, math.nan)  # of 95 %, not corrected for the number of claims
    p_value: float = math.nan  # after Holm's correction
    values: tuple = ()  # one for each seed
    seeds: tuple = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class _Evidence:
    mean: float
    error: float
    degrees: int
    p_value: float  # two-sided, of the bound that is nearest
    holds: bool  # whether the mean is within the bounds


def judge(claims, rows, examples=None):
    """Return the `Verdict` of each claim of a paper, corrected for how many there are.

    Args:
        claims: List of `Claim`.
        rows: As many lists of rows, as in `results.json`; `why_not` in a row says why it is no result.
        examples: As many functions (arm, seed) that return the values of single test examples, `{"test_accuracy": array,
            "test_loss": array}`, or None if they are not known. None: they never are.
    """
    examples = examples or [None] * len(claims)
    taken = [_values(claim, own) for claim, own in zip(claims, rows, strict=True)]
    found = [
        _evidence(claim, values, lookup)
        for claim, values, lookup in zip(claims, taken, examples, strict=True)
    ]
    tested = [each for each, _ in found if each is not None]
    corrected = iter(holm([each.p_value for each in tested]) if tested else ())
    return [
        _verdict(claim, values, evidence, note, next(corrected) if evidence else math.nan)
        for claim, values, (evidence, note) in zip(claims, taken, found, strict=True)
    ]


def not_run(claim, reason):
    """Return the verdict of a claim that nobody tested."""
    return Verdict(claim, "NOT RUN", reason)


@dataclasses.dataclass(frozen=True)
class _Values:
    values: list
    seeds: list
    by_seed: list  # {arm: row}
    missing: dict  # reason -> seeds


def _values(claim, rows):
    by_seed = {}
    for row in rows:
        by_seed.setdefault(row["seed"], {})[row["arm"]] = row
    taken = _Values([], [], [], {})
    for seed, arms in sorted(by_seed.items()):
        try:
            taken.values.append(claim.statistic(arms))
        except Missing as error:
            taken.missing.setdefault(str(error), []).append(seed)
            continue
        taken.seeds.append(seed)
        taken.by_seed.append(arms)
    return taken


def _evidence(claim, taken, lookup):
    """Return the `_Evidence`, or None where seeds are too few; and how they depend on each other."""
    values = np.array(taken.values)
    if len(values) < 2:
        return None, ""
    arms = claim.statistic.arms or tuple(taken.by_seed[0])
    pairs = [rows[arm] for rows in taken.by_seed for arm in arms if arm in rows]
    depends = dependence(pairs, claim.statistic.of)
    variance = values.var(ddof=1) * (1 / len(values) + depends.extra)
    of_test, words = luck_of_test_set(claim.statistic, taken.by_seed, taken.seeds, lookup)
    variance += of_test
    note = "; ".join(filter(None, [depends.words, words]))
    mean, error = float(values.mean()), math.sqrt(variance)
    p_value, holds = _test(mean, error, len(values) - 1, *claim.bounds)
    return _Evidence(mean, error, len(values) - 1, p_value, holds), note


def _test(mean, error, degrees, low, high):
    """Return a two-sided p value: of the claim being false if the mean is within the bounds, of its being true else."""
    holds = low < mean < high
    distance = min(mean - low, high - mean) if holds else max(low - mean, mean - high)
    if error <= 1e-12 * max(abs(mean), 1e-300):  # the same in all seeds: a count, and no chance
        return (0.0 if distance > 0 else 1.0), holds
    return min(1.0, 2 * float(scipy.stats.t.sf(distance / error, degrees))), holds


def _verdict(claim, taken, evidence, note, p_value):
    statistic = claim.statistic
    lost = [
        f"seed{'s' if len(s) > 1 else ''} {', '.join(map(str, s))}: {why}" for why, s in taken.missing.items()
    ]
    left_out = f"left out: {'; '.join(lost)}" if lost else ""
    note = "; ".join(filter(None, [note, left_out]))
    values = tuple(statistic.outward(v) for v in taken.values)
    if evidence is None:
        seen = f"{'No seed' if not values else 'A single seed'} to judge by. {left_out.capitalize()}".strip()
        return Verdict(claim, "INCONCLUSIVE", seen, values=values, seeds=tuple(taken.seeds), note=note)
    reach = float(scipy.stats.t.ppf(1 - LEVEL / 2, evidence.degrees)) * evidence.error
    mean = 0.0 if abs(evidence.mean) < 1e-9 * reach else evidence.mean  # of differences that cancel: rounding
    estimate = statistic.outward(mean)
    interval = statistic.outward(mean - reach), statistic.outward(mean + reach)
    decided = p_value < LEVEL
    verdict = "INCONCLUSIVE" if not decided else "PASS" if evidence.holds else "FAIL"
    if taken.missing and verdict == "PASS":
        verdict = "INCONCLUSIVE"
    seen = _sentence(claim, estimate, interval, verdict, left_out, decided)
    return Verdict(claim, verdict, seen, estimate, interval, float(p_value), values, tuple(taken.seeds), note)


def _sentence(claim, estimate, interval, verdict, left_out, decided):
    """Say what was seen, in one sentence."""
    low, high = interval
    text = f"{claim.statistic.words}: {estimate:.3g} ({low:.3g} to {high:.3g}), claimed {claim.claimed}"
    if verdict == "PASS":
        return f"{text}."
    if verdict == "FAIL":
        return f"{text}: the interval lies outside of what is claimed."
    if left_out and decided:
        return f"{text}: what is left are the good seeds; {left_out}."
    inside = (claim.low is None or low > claim.low) and (claim.high is None or high < claim.high)
    outside = (claim.high is not None and low > claim.high) or (claim.low is not None and high < claim.low)
    if inside or outside:
        alone = "PASS" if inside else "FAIL"
        return f"{text}: alone it would {alone}, and does not after Holm's correction for all claims of the paper."
    return f"{text}: the interval covers both."
