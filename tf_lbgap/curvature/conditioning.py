"""How ill-conditioned a loss is, in the three numbers that people report.

The Hessian of a classifier has a *bulk* of eigenvalues near 0 and, above it, some *outliers*, about as many as
there are classes (Sagun et al. 2017; Papyan 2018). A plain condition number, largest over smallest, is
therefore infinite or noise. All three numbers here are ratios, without unit, the same for H and 10 H:

*top_to_bulk*, λ₁ / λ_{C+1} with C outliers: how far the outliers stand above the edge of the bulk, and so how
slow the bulk is at a learning rate that the outliers allow. (To divide by the last outlier, λ_C, instead, pass
num_outliers=C - 1.)

*negative_to_top*, |λ_n| / λ₁ for the most negative λ_n: how far from convex.

*negative_share*: which part of the eigenvalues lies clearly below 0, by default by more than a hundredth of λ₁.

References:
    Sagun, Evci, Güney, Dauphin & Bottou, "Empirical analysis of the Hessian of over-parametrized neural
    networks", 2017 (arXiv 1706.04454). Papyan, "The full spectrum of deepnet Hessians at scale", 2018 (arXiv
    1811.07062). Alain, Le Roux & Manzagol, "Negative eigenvalues of the Hessian in deep neural networks", 2019
    (arXiv 1902.02366). Ghorbani, Krishnan & Xiao, "An investigation into neural net optimization via Hessian
    eigenvalue density", 2019 (arXiv 1901.10159).
"""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Condition:
    """Ratios of eigenvalues, λ₁ being the largest.

    Attributes:
        top_to_bulk: λ₁ / λ_{C+1}, at least 1. Infinite if λ_{C+1} is not above its residual, and so cannot be
            told from 0.
        negative_to_top: |λ_n| / λ₁, or 0 if the smallest λ_n is not negative; NaN if it was not given.
        negative_share: Part of the eigenvalues below -zero · λ₁; NaN if no density was given.
        converged: Whether all the eigenvalues that entered met their tolerance. Do not report ratios for
            which it is False.
    """

    top_to_bulk: float
    negative_to_top: float
    negative_share: float
    converged: bool


def condition(top, bottom=None, *, num_outliers, density=None, zero=1e-2):
    """The condition of the outliers against the bulk and the negative part of the spectrum.

    Costs nothing beside the eigenvalues. A ratio is as accurate as the two eigenvalues together.

    Args:
        top: `Eigenpairs` with the num_outliers + 1 largest eigenvalues at least.
        bottom: `Eigenpairs` that hold the smallest, from `top_eigenpairs(operator, which="smallest")`.
        num_outliers: How many eigenvalues count as outliers: the number of classes, as a rule.
        density: `SpectralDensity` of the same operator.
        zero: Eigenvalues within this part of λ₁ of 0 count as 0 in `negative_share`. Most of a network's are
            there, and quadrature does not tell their signs: of the 760 eigenvalues of a small classifier 4.6 %
            were below -0.001 λ₁, found as 5.6 to 8.0 % with 8 probes of 20 steps and 2.9 to 3.6 % with 10 of
            40. With a smaller `zero`, take more steps. Not specified by the papers.

    Returns:
        `Condition(top_to_bulk, negative_to_top, negative_share, converged)`.

    Raises:
        ValueError: If `num_outliers` is below 1, `top` holds too few values or not the largest, the largest
        is not positive, `bottom` does not hold the smallest, or `zero` is negative.

    Example:
        >>> operator = DenseOperator(np.diag([8.0, 4.0, 0.5, 0.1, -2.0]))
        >>> top, bottom = top_eigenpairs(operator, 3), top_eigenpairs(operator, which="smallest")
        >>> found = condition(top, bottom, num_outliers=2, density=spectral_density(operator))
        >>> round(found.top_to_bulk, 6), round(found.negative_to_top, 6), round(found.negative_share, 6)
        (16.0, 0.25, 0.2)
    """
    _check(top, bottom, num_outliers, zero)
    largest, edge = float(top.values[0]), float(top.values[num_outliers])
    top_to_bulk = largest / edge if edge > top.residuals[num_outliers] else math.inf
    converged = bool(top.converged[: num_outliers + 1].all())

    negative_to_top = math.nan
    if bottom is not None:
        last = int(np.argmin(bottom.values))
        negative_to_top = max(0.0, -float(bottom.values[last])) / largest
        converged = converged and bool(bottom.converged[last])

    negative_share = math.nan
    if density is not None:
        negative_share = density.mass(-math.inf, np.nextafter(-zero * largest, -math.inf))
    return Condition(top_to_bulk, negative_to_top, negative_share, converged)


def _check(top, bottom, num_outliers, zero):
    if num_outliers < 1:
        raise ValueError(
            f"num_outliers is {num_outliers}, but at least 1 is wanted. Pass the number of classes, for example."
        )
    if len(top.values) <= num_outliers:
        raise ValueError(
            f"top holds {len(top.values)} eigenvalues, but {num_outliers} outliers and the edge of the bulk are "
            f"{num_outliers + 1}. Pass top_eigenpairs(operator, {num_outliers + 1})."
        )
    values, residuals = top.values[: num_outliers + 1], top.residuals[: num_outliers + 1]
    if (np.diff(values) > 0).any() or values[-1] < -residuals[-1]:
        raise ValueError(
            f"Eigenvalues 1 and {num_outliers + 1} of top are {values[0]:g} and {values[-1]:g}, but the largest are wanted, in "
            'descending order and not negative. Pass top_eigenpairs(operator, k, which="largest"), not "magnitude"; if fewer '
            "are positive, a smaller num_outliers."
        )
    if values[0] <= residuals[0]:
        raise ValueError(
            f"The largest eigenvalue is {values[0]:g} with a residual of {residuals[0]:.2g}, but a ratio to it wants it "
            "positive. Check that the operator is not 0."
        )
    if bottom is not None and bottom.values.min() > values[-1] + residuals[-1] + bottom.residuals.max():
        raise ValueError(
            f"The smallest value of bottom is {bottom.values.min():g}, but top has a smaller one, {values[-1]:g}. "
            'Pass top_eigenpairs(operator, which="smallest").'
        )
    if not zero >= 0:
        raise ValueError(
            f"zero is {zero!r}, but a part of the largest eigenvalue is wanted: 0.01, say, or 0."
        )
