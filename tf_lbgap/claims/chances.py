"""Power: with which probability so many seeds show what is claimed, if what was seen while choosing is true."""

import math

import numpy as np
import scipy.stats

from tf_lbgap.claims.comparisons import LEVEL

QUANTILES = 1000


def chance(low, high, degrees, level):
    """Return the probability that an interval about an estimate lies within bounds.

    Args:
        low: How far the truth lies above the lower bound, in standard errors; infinite if there is none.
        high: How far it lies below the upper one.
        degrees: Of freedom of the estimated standard error.
        level: Of the test on each side: the interval is one of 1 - 2 level.

    Returns:
        A float, to 0.001: the mean over the distribution of the estimated error, at 1000 of its quantiles.
    """
    variances = scipy.stats.chi2.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, degrees) / degrees
    reach = scipy.stats.t.ppf(1 - level, degrees) * np.sqrt(variances)
    above, below = scipy.stats.norm.cdf(low - reach), scipy.stats.norm.cdf(high - reach)
    return float(np.maximum(above + below - 1, 0).mean())


def power_of(claim, num_seeds, *, num_claims=1):
    """Return the probability of PASS, or None if the claim says not what is expected.

    Args:
        claim: A `Claim` with `expected` and `deviation`.
        num_seeds: How many.
        num_claims: Of the paper. The level is 5 % divided by them, as for the first step of Holm's method.

    Returns:
        A float, to 0.001. What is allowed for shared training and test examples (`dependence`) is known after the run only, and lowers
        it.
    """
    if claim.expected is None or claim.deviation is None:
        return None
    if num_seeds < 2:
        return 0.0
    truth, (low, high) = claim.statistic.inward(claim.expected), claim.bounds
    error = claim.deviation / math.sqrt(num_seeds)
    if error == 0:
        return 1.0 if low < truth < high else 0.0
    return chance((truth - low) / error, (high - truth) / error, num_seeds - 1, LEVEL / num_claims / 2)
