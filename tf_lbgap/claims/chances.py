"""Power: with which probability so many seeds show what a claim says, if what was seen while choosing is true."""

import math

import numpy as np
import scipy.stats

from tf_lbgap.claims.comparisons import LEVEL

QUANTILES = 1000


def power_of(claim, num_seeds, *, num_claims=1, extra=0.0):
    """Return the probability of PASS, or None if the claim says not what is expected.

    Args:
        claim: A `Claim` with `expected` and `deviation`.
        num_seeds: How many.
        num_claims: Of the paper. The level is 5 % divided by them, as for the first step of Holm's method, so that the power is at
            least so much.
        extra: `Dependence.extra`, as far as it is known before the run.

    Returns:
        A float, to 0.001: the mean over the distribution of the estimated deviation, at 1000 of its quantiles. The bootstrap over test
        examples is not in it.
    """
    if claim.expected is None or claim.deviation is None:
        return None
    if num_seeds < 2:
        return 0.0
    degrees = num_seeds - 1
    scale = math.sqrt(1 / num_seeds + extra)
    variances = scipy.stats.chi2.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, degrees) / degrees
    reach = scipy.stats.t.ppf(1 - LEVEL / num_claims / 2, degrees) * np.sqrt(variances)
    mean, (low, high) = claim.statistic.inward(claim.expected), claim.bounds
    unit = claim.deviation * scale
    if unit == 0:
        return 1.0 if low < mean < high else 0.0
    above = scipy.stats.norm.cdf((mean - low) / unit - reach)
    below = scipy.stats.norm.cdf((high - mean) / unit - reach)
    return float(np.maximum(above + below - 1, 0).mean())
