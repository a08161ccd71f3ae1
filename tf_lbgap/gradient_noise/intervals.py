"""A quotient of two estimates, and the interval that belongs to it.

The interval holds each ratio r for which numerator - r denominator is compatible with 0: a t-test of a linear
combination, so nothing is asked of the quotient, which has no mean and no variance where the denominator may be 0.
There the interval has no upper end, which is the truth: data that cannot tell |G|² from 0 give no largest noise scale.

References:
    Fieller, "Some problems in interval estimation", 1954.
"""

import dataclasses
import math

import numpy as np
import scipy.special


@dataclasses.dataclass(frozen=True)
class NoiseScale:
    """An estimate of a noise scale, in examples.

    Attributes:
        value: trace / squared_norm, at least 0; infinite where squared_norm is not above 0.
        low: Lower end of the interval, at least 0 and finite.
        high: Upper end, infinite where the data do not rule out |G|² = 0. Too few probes: low = 0 and high is
            infinite.
        trace: tr(Σ) of the gradients of single examples, unbiased; below 0 only by chance.
        squared_norm: |G|², unbiased, so it may be below 0 where noise prevails.
        num_probes: How many probes, or micro-batches, it was made of.
        confidence: Of the interval.
    """

    value: float
    low: float
    high: float
    trace: float
    squared_norm: float
    num_probes: int
    confidence: float = 0.95

    def __str__(self):
        return (
            f"{self.value:.4g} examples, {self.confidence:.0%} interval {self.low:.4g} to {self.high:.4g} "
            f"(tr(Σ) {self.trace:.4g}, |G|² {self.squared_norm:.4g}, {self.num_probes} probes)"
        )


def quotient(numerator, denominator, covariance, degrees_of_freedom, confidence):
    """A ratio of two expectations that are not below 0, with Fieller's interval.

    The two ends are one-sided tests, for both expectations are known not to be negative: `high` is infinite where
    the denominator is not significantly above 0, and `low` takes a denominator below 0 for 0.

    Args:
        numerator: An unbiased estimate.
        denominator: An unbiased estimate.
        covariance: Shape (2, 2), of the two; None: unknown, and the interval is all there is.
        degrees_of_freedom: Of the covariance.
        confidence: Between 0 and 1.

    Returns:
        `(value, low, high)`, three floats; NaN if an estimate is not finite.
    """
    a, b = float(numerator), float(denominator)
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.nan, math.nan, math.nan
    value = max(a / b, 0.0) if b > 0 else math.inf
    if covariance is None:
        return value, 0.0, math.inf
    reach = float(scipy.special.stdtrit(degrees_of_freedom, (1 + confidence) / 2))
    aa, ab, bb = reach**2 * np.array([covariance[0][0], covariance[0][1], covariance[1][1]], dtype=float)
    return value, _low(a, max(b, 0.0), aa, ab, bb), _high(a, b, aa, ab, bb)


def check_confidence(confidence):
    """Raise unless it is a probability."""
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence is {confidence!r}, but a probability between 0 and 1 is wanted, as in 0.95."
        )


def _low(a, b, aa, ab, bb):
    """The smallest r >= 0 with a - r b <= reach x standard error: the first root of a quadratic."""
    if a <= 0 or a * a <= aa:
        return 0.0
    half = a * b - ab
    root = half + math.sqrt(max(half**2 - (b * b - bb) * (a * a - aa), 0.0))
    return (a * a - aa) / root if root > 0 else 0.0


def _high(a, b, aa, ab, bb):
    """The largest r with a - r b >= -reach x standard error: the last root, if there is one."""
    if b <= 0 or b * b <= bb:
        return math.inf
    # aa r b / a in place of aa: at r the numerator is r b, and its variance has grown with it.
    half = a * b - ab + (aa * b / (2 * max(a, math.sqrt(aa))) if aa > 0 else 0.0)
    root = half + math.sqrt(max(half**2 - (b * b - bb) * a * a, 0.0))
    return max(root / (b * b - bb), 0.0)
