"""The trace of a symmetric operator, the sum of its eigenvalues, with a standard error.

For v of independent ±1 entries the mean of vᵀAv is the trace: each product with A gives one sample, in the
unit of the matrix entries. Their spread comes from what is off the diagonal, in a network's Hessian mostly
from a few large eigenvalues. Hutch++ takes these out first: with Q an orthonormal basis of the span of AS, S
a few random columns, and P = I - QQᵀ,

    tr A = tr QᵀAQ + tr PAP,

where the first part is computed as it stands and only the second, small one is sampled. The samples are
independent given Q, so their spread is an honest error of the whole, however good or bad the basis is.

References:
    Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines",
    1989. Meyer, Musco, Musco & Woodruff, "Hutch++: Optimal stochastic trace estimation", 2021 (arXiv
    2010.09649), algorithm 1.
"""

import dataclasses
import math

import numpy as np
import scipy.stats

# Vectors multiplied at a time: enough for `matmat` to pay, few enough to fit beside a large network.
_BLOCK = 8

_FEWEST = {"hutchinson": 1, "hutch++": 6}  # 6: a basis of two, and two samples to have a spread


@dataclasses.dataclass(frozen=True)
class Trace:
    """An estimate of a trace.

    Attributes:
        value: The estimate.
        standard_error: Of the value, from the spread of the samples; NaN for a single one, 0 where the trace
            was computed exactly. Rounding of the products is not in it.
        degrees_of_freedom: Of the standard error: one less than there were samples; infinite where exact.
        num_products: How many products with the operator it took.
    """

    value: float
    standard_error: float
    degrees_of_freedom: float
    num_products: int

    def interval(self, level=0.95):
        """The interval that covers the trace with probability `level`, by Student's t distribution.

        Student's t wants normal samples, and those of a spectrum with few large eigenvalues are skewed: of
        1000 intervals of 95 % for such a matrix, 90 to 96 % covered the trace (6 to 61 products, both methods); of
        200 for the Hessian of a small classifier, 91 to 97 %.

        Args:
            level: From 0 to 1, both excluded.

        Returns:
            `(low, high)`, two floats; NaN if the standard error is.

        Raises:
            ValueError: If `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level is {level!r}, but a probability between 0 and 1 is wanted, as in 0.95.")
        reach = float(scipy.stats.t.ppf((1 + level) / 2, self.degrees_of_freedom)) * self.standard_error
        return self.value - reach, self.value + reach


def trace(operator, *, num_products=60, method="hutch++", seed=0):
    """Estimate the trace of a symmetric matrix from products with random sign vectors.

    Both methods are unbiased. The standard error of "hutchinson" is √2 ‖A - diag(A)‖_F / √num_products, so a
    diagonal matrix needs one product. "hutch++" spends a third of the products on finding a basis, a third on
    the trace within it, and the rest (one or two more, if three does not divide the number) on samples outside
    it; a matrix of rank num_products / 3 or less comes out exactly. On the Hessian of a small classifier (970
    weights) the error of 60 products was 5.9 % ("hutchinson") and 0.61 % ("hutch++"), of 12 products 12.8 % and
    11.6 %. Below some 12 products, or where no few eigenvalues stand out, "hutchinson" is the better one, by up
    to √3.

    If `num_products` is n or more, n products with the unit vectors give the exact trace instead.

    Beside the block of 8 vectors that is multiplied at a time, "hutch++" keeps num_products / 3 vectors, and a
    second time while it orthogonalises them.

    Args:
        operator: Has `shape` (n, n) and `matvec`, mapping shape (n,) to (n,); symmetric. If it has `matmat`,
            mapping (n, k) to (n, k), that is called instead. Its `dtype`, if it has one, is that of the
            vectors (else float64); sums are in float64.
        num_products: How many products with the operator to spend, each a pass over the data for a Hessian.
        method: "hutch++" or "hutchinson".
        seed: Of the random signs. Equal seeds give equal estimates.

    Returns:
        `Trace(value, standard_error, degrees_of_freedom, num_products)`, in the unit of the matrix entries:
        loss / weight² for a Hessian.

    Raises:
        ValueError: If `method` is unknown, `num_products` is below 1 (below 6 for "hutch++"), or a product is
        not finite.

    References:
        Hutchinson 1989; Meyer et al. 2021, algorithm 1 (signs both for S and for the samples).

    Example:
        >>> matrix = np.diag([2.0, 3.0] + 98 * [0.0])
        >>> trace(DenseOperator(matrix), method="hutchinson", num_products=1).value
        5.0
        >>> estimate = trace(DenseOperator(matrix + 0.01), num_products=12)
        >>> abs(estimate.value - 6) < 1e-9, estimate.degrees_of_freedom
        (True, 3)
    """
    _check(num_products, method)
    n = operator.shape[0]
    dtype = np.float32 if getattr(operator, "dtype", None) == np.float32 else np.float64
    if num_products >= n:
        units = (np.eye(n, width, -start, dtype) for start, width in _blocks(n))
        return Trace(float(_forms(operator, units).sum()), 0.0, math.inf, n)

    rng = np.random.default_rng(seed)
    size = num_products // 3 if method == "hutch++" else 0
    basis = _basis_of_range(operator, size, rng, dtype)
    inside = float(_forms(operator, (basis[:, i : i + width] for i, width in _blocks(size))).sum())
    num_samples = num_products - 2 * size
    probes = (_without(basis, _signs(rng, n, width, dtype)) for _, width in _blocks(num_samples))
    samples = _forms(operator, probes)

    error = float(samples.std(ddof=1)) / math.sqrt(num_samples) if num_samples > 1 else math.nan
    return Trace(inside + float(samples.mean()), error, num_samples - 1, num_products)


def _basis_of_range(operator, size, rng, dtype):
    """Orthonormal columns (n, size) that span A times as many random sign vectors."""
    n = operator.shape[0]
    images = np.empty((n, size), dtype)
    for start, width in _blocks(size):
        images[:, start : start + width] = _products(operator, _signs(rng, n, width, dtype))
    return np.linalg.qr(images)[0]


def _without(basis, vectors):
    """The vectors, less their part in the span of the basis."""
    return vectors - basis @ (basis.T @ vectors)


def _forms(operator, blocks):
    """vᵀAv of each column v of each block, in float64."""
    forms = [np.einsum("ij,ij->j", V, _products(operator, V), dtype=np.float64) for V in blocks]
    return np.concatenate([np.zeros(0), *forms])


def _products(operator, vectors):
    """A times the columns, of which there are few."""
    if hasattr(operator, "matmat"):
        products = np.asarray(operator.matmat(vectors))
    else:
        products = np.stack([np.asarray(operator.matvec(v)) for v in vectors.T], axis=1)
    if not np.isfinite(products).all():
        raise ValueError(
            "A product with the operator has NaN or infinite entries, so its trace cannot be estimated; finite ones are "
            "wanted. Check operator.matvec on a random vector of ±1."
        )
    return products


def _signs(rng, n, k, dtype):
    return (2 * rng.integers(0, 2, (n, k), dtype=np.int8) - 1).astype(dtype)


def _blocks(total):
    """Start and width of each block of at most _BLOCK columns."""
    return [(start, min(_BLOCK, total - start)) for start in range(0, total, _BLOCK)]


def _check(num_products, method):
    if method not in _FEWEST:
        raise ValueError(f"method is {method!r}, but should be one of {', '.join(map(repr, _FEWEST))}.")
    if num_products != int(num_products) or num_products < _FEWEST[method]:
        advice = ' or method="hutchinson"' if method == "hutch++" and num_products >= 1 else ""
        raise ValueError(
            f"num_products is {num_products}, but {method!r} takes {_FEWEST[method]} or more. "
            f"Pass num_products=60 (the default){advice}."
        )
