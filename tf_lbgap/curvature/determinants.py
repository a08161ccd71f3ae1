"""The logarithm of a determinant: the sum of ln(1 + λ_i) over all eigenvalues of a symmetric operator.

ln det(I + A) = tr ln(I + A), and a quadratic form vᵀ ln(I + A) v is an integral over the spectrum, for which m products
with A give Gauss' rule of m nodes (`quadrature`). The mean over n times unit vectors v of random signs is the
determinant's logarithm; its spread is the standard error.

How far the rule is from the form is known, too, if A has no negative eigenvalue: even derivatives of ln(1 + λ) are
negative and odd ones positive, so Gauss' rule is never below the integral, and Gauss and Radau's, with one more node at
0, is never above it (Golub & Meurant; Bai, Fahey & Golub 1996).

References:
    Golub & Meurant, "Matrices, moments and quadrature", 1994, theorems 3.2 and 3.4.
    Bai, Fahey & Golub, "Some large-scale matrix computation problems", 1996 (both bounds, random vectors).
    Ubaru, Chen & Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", 2017.
"""

import dataclasses
import math

import numpy as np

from tf_lbgap.curvature.quadrature import nodes_and_weights, tridiagonal

_ROUNDING = 64  # units of the last place of the largest eigenvalue: how far below 0 one may come by rounding
_BLOCK = 16  # columns of the matrix computed at a time, where it is written down


@dataclasses.dataclass(frozen=True)
class LogDeterminant:
    """An estimate of ln det(I + A), a number without unit.

    Attributes:
        value: The estimate: the middle between `low` and `high`.
        standard_error: Of the value, from the spread over random vectors; NaN for one vector, 0 where exact.
        low, high: Between these is what infinitely many products would give for the same random vectors, if A has
            no negative eigenvalue; both are the value where exact. NaN and Gauss' rule, which is the value then, if any
            vector met some, or if rounding has moved an eigenvalue of 0 below it. Rounding of the products is not in it.
        negative: How many eigenvalues are below 0, beyond rounding: a share of the quadrature's weights, unless exact.
        num_products: How many products with A it took.
    """

    value: float
    standard_error: float
    low: float
    high: float
    negative: float
    num_products: int


def log_determinant(operator, *, num_probes=8, num_steps=30, seed=0):
    """Estimate ln det(I + A) for a positive semidefinite A, or Σ ln(1 + max(λ_i, 0)) for any symmetric A.

    A negative eigenvalue counts as 0 and is reported. With the products of n probes and steps or more the matrix is
    written down instead, n x n numbers of float64, and its eigenvalues computed. Else the basis of num_steps vectors is kept.

    The spread over probes falls as 1/√num_probes, and low and high come together geometrically in num_steps, the
    slower the larger the largest eigenvalue: √λ₁ steps or so bring them close.

    Args:
        operator: Has `shape` (n, n) and `matvec`, mapping shape (n,) to (n,); symmetric. Scale it first: I is what is added.
        num_probes: How many random vectors.
        num_steps: How many products for each of them.
        seed: Of the random vectors. Equal seeds give equal results.

    Returns:
        `LogDeterminant(value, standard_error, low, high, negative, num_products)`.

    Raises:
        ValueError: If a number is below 1, or a product is not finite.

    Example:
        >>> round(log_determinant(DenseOperator([[1.0, 0.0], [0.0, 3.0]])).value, 6)    # ln 2 + ln 4
        2.079442
    """
    for name, number in (("num_probes", num_probes), ("num_steps", num_steps)):
        if number < 1:
            raise ValueError(f"{name} is {number}, but at least 1 is wanted. Pass {name}=10, for example.")
    n = operator.shape[0]
    dtype = np.float32 if getattr(operator, "dtype", None) == np.float32 else np.float64
    if num_probes * num_steps >= n:
        return _exact(np.linalg.eigvalsh(_written_down(operator, n, dtype)), n, dtype)
    rng = np.random.default_rng(seed)
    found, products = [], 0
    for _ in range(num_probes):
        v = (2 * rng.integers(0, 2, n, dtype=np.int8) - 1).astype(dtype) / dtype(math.sqrt(n))
        diagonal, beside = tridiagonal(operator, v, num_steps)
        found.append(_rules(diagonal, beside, n, dtype))
        products += len(diagonal)
    low, high, negative = np.transpose(found)
    middle = high if np.isnan(low).any() else (low + high) / 2  # one rule for all probes
    error = float(middle.std(ddof=1)) / math.sqrt(num_probes) if num_probes > 1 else math.nan
    numbers = middle.mean(), error, low.mean(), high.mean(), negative.mean()
    return LogDeterminant(*map(float, numbers), products)


def _exact(eigenvalues, n, dtype):
    value = float(_logarithm(eigenvalues).sum())
    return LogDeterminant(value, 0.0, value, value, float(_is_negative(eigenvalues, dtype).sum()), n)


def _rules(diagonal, beside, n, dtype):
    """n times both rules for one vector: (low, high, negative eigenvalues); low is NaN if there are any."""
    nodes, weights = nodes_and_weights(diagonal, beside)
    high = n * float(weights @ _logarithm(nodes))
    negative = n * float(weights[_is_negative(nodes, dtype)].sum())
    if beside[-1] == 0.0:  # the space is exhausted: the rule is exact
        return high, high, negative
    if negative or nodes[0] <= 0:  # 0 is among the nodes, by rounding: there is no place for Radau's
        return math.nan, high, negative
    matrix = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
    last = np.zeros(len(diagonal))
    last[-1] = beside[-1] ** 2
    entry = float(np.linalg.solve(matrix, last)[-1])  # that makes 0 an eigenvalue
    nodes, weights = nodes_and_weights(np.append(diagonal, entry), beside)
    low = n * float(weights @ _logarithm(nodes))
    return high - abs(high - low), high, negative  # above it by rounding only, and then by that much in doubt


def _logarithm(eigenvalues):
    return np.log1p(np.maximum(eigenvalues, 0.0))


def _is_negative(eigenvalues, dtype):
    """Whether they are below 0 by more than rounding."""
    return eigenvalues < -_ROUNDING * np.finfo(dtype).eps * np.abs(eigenvalues).max()


def _written_down(operator, n, dtype):
    columns = []
    for start in range(0, n, _BLOCK):
        units = np.eye(n, min(_BLOCK, n - start), -start, dtype)
        if hasattr(operator, "matmat"):
            columns.append(np.asarray(operator.matmat(units), "float64"))
        else:
            columns.append(np.stack([np.asarray(operator.matvec(v), "float64") for v in units.T], axis=1))
    matrix = np.concatenate(columns, axis=1)
    if not np.isfinite(matrix).all():
        raise ValueError(
            "A product with the operator has NaN or infinite entries, so it has no determinant; finite ones are wanted. "
            "Check operator.matvec on a random unit vector."
        )
    return (matrix + matrix.T) / 2
