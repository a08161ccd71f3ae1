"""Extreme eigenvalues of a symmetric operator, each with a bound on its error.

Lanczos' method looks for eigenvectors in the space spanned by v, Av, A²v, ... for a random v. With an
orthonormal basis Q of that space (a row per product, so Q has shape (m, n)) the eigenvalues θ of the small
matrix QAQᵀ approach the extreme ones of A fast, and an eigenvector s of it gives the vector y = Qᵀs. Two
decisions:

*Full reorthogonalisation.* Rounding destroys the orthogonality of Q just when an eigenvalue converges, and
then it is found again as a "ghost" (Paige). Each new vector is made orthogonal to all earlier ones, and once
more if that took away much of it (Daniel et al., "DGKS"): m is at most a few hundred, and a product costs far
more than that.

*The bound is measured.* Some eigenvalue of a symmetric A lies within ‖Ay - θy‖ of θ, whatever happened
before. Exact Lanczos makes QAQᵀ tridiagonal; here all of it is kept as computed, so that what rounding (or an
operator that is not quite symmetric) adds to the residual is seen and counted.

References:
    Lanczos, "An iteration method for the solution of the eigenvalue problem", 1950.
    Daniel, Gragg, Kaufman & Stewart, "Reorthogonalization and stable algorithms for updating the Gram-Schmidt
    QR", 1976. Parlett, "The Symmetric Eigenvalue Problem", 1980, chapters 4 and 13.
"""

import dataclasses
import math
import warnings

import numpy as np

# A product rounded to the operator's dtype is off by some units of its last place, relative to the largest
# eigenvalue. That cannot be seen from within, so it is added to each bound. Hessians of four small networks
# in float32 were off by 0.7 to 5 units (spectral norm, against float64; the 5 in a batch of 5,000 examples).
_ROUNDING = 16
# What is left of a product after orthogonalisation and is smaller than this many units is rounding.
_BREAKDOWN = 8

_RANK = {"largest": lambda values: values, "smallest": lambda values: -values, "magnitude": np.abs}


@dataclasses.dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenvalues and eigenvectors of a symmetric (n, n) matrix A.

    Attributes:
        values: (k,) float64, descending (by magnitude if that was asked for).
        vectors: (k, n), a unit vector per row.
        residuals: (k,) upper bounds of ‖A vector - value vector‖: an eigenvalue of A lies that close to the
        value. converged: (k,) bool, whether the residual met the tolerance. num_products: How many products
        with A it took.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray
    num_products: int


def top_eigenpairs(operator, k=1, *, which="largest", tolerance=1e-3, max_products=None, seed=0):
    """Find extreme eigenvalues by Lanczos' method, and stop when they are accurate enough.

    A value counts as converged when its residual is at most `tolerance` times its magnitude, or as small as
    the operator's rounding allows (an eigenvalue of 0 has no relative accuracy). Hessians of networks take
    some 10 products for the first eigenvalue to 1e-3, and about 3 per further one. Beside them it keeps a
    basis of num_products x n numbers.

    A residual says that an eigenvalue is there, not that none is missing. Values that coincide, or differ by
    less than the tolerance, may be found once as long as others keep the method busy; they are found as often
    as they occur when it runs out of distinct ones first (then it starts again, orthogonal to what it has).

    Args:
        operator: Has `shape` (n, n) and `matvec`, mapping shape (n,) to (n,); symmetric. Its `dtype`, if it
            has one, is that of the basis and sets the rounding term of the residuals (else float64).
        k: How many, from 1 to n.
        which: "largest", "smallest" (the most negative), or "magnitude".
        tolerance: Of the residuals, relative to the value.
        max_products: Where to stop in any case; by default max(100, 10 k), and n at most.
        seed: Of the random start. Equal seeds give equal results.

    Returns:
        `Eigenpairs(values, vectors, residuals, converged, num_products)`.

    Raises:
        ValueError: If k is not from 1 to n, `which` is unknown, `max_products` is below k, or a product is
        not finite.

    Warns:
        UserWarning: If some of the values did not converge.

    Example:
        >>> pairs = top_eigenpairs(DenseOperator(np.diag([1.0, 4.0, 2.0])), k=2, tolerance=1e-9)
        >>> pairs.values.round(6), pairs.converged
        (array([4., 2.]), array([ True,  True]))
    """
    n = operator.shape[0]
    limit = _checked_limit(n, k, which, max_products)
    dtype = np.float32 if getattr(operator, "dtype", None) == np.float32 else np.float64
    rng = np.random.default_rng(seed)
    krylov = _Krylov(operator, np.empty((limit, n), dtype), rng)

    while True:
        krylov.step()
        whole = krylov.size == n
        if krylov.size < k or not (krylov.size == limit or krylov.worth_a_look()):
            continue
        values, coefficients, residuals = krylov.ritz()
        best = np.argsort(-_RANK[which](values), kind="stable")[:k]
        converged = krylov.accurate(values[best], residuals[best], tolerance)
        exhausted = krylov.exhausted(values, residuals, tolerance)
        finished = converged.all() and krylov.no_copy_is_missing(
            values[best[-1]], which, tolerance, exhausted
        )
        if finished or whole or krylov.size == limit:
            break

    best = best[np.argsort(-values[best], kind="stable")] if which != "magnitude" else best
    converged = krylov.accurate(values[best], residuals[best], tolerance)
    if not converged.all():
        _warn(values[best], residuals[best], converged, krylov.size, tolerance)
    return Eigenpairs(
        values[best],
        krylov.vectors(coefficients[:, best]),
        residuals[best],
        converged,
        krylov.size,
    )


def rounding(dtype):
    """What to add to a residual, relative to the largest eigenvalue, for products rounded to `dtype`."""
    return _ROUNDING * float(np.finfo(dtype).eps)


class _Krylov:
    """An orthonormal basis that grows by one product per step, and the operator projected on it."""

    def __init__(self, operator, rows, rng):
        self._operator = operator
        self._rows = rows
        self._rng = rng
        self._epsilon = np.finfo(rows.dtype).eps
        limit = len(rows)
        self._projected = np.zeros((limit, limit))  # entry i, j: row i times A times row j
        self._dropped = np.zeros(
            limit
        )  # norm of what A times row j has outside the space, where it was closed
        self._scale = 0.0  # the largest ‖A row‖, at most the largest eigenvalue in magnitude
        self._beta = 0.0  # the norm of what leads out of the present space
        self._block = 0  # row of the last random start
        self._closed = True  # whether products lead no further, so that the next row is a random one
        self._next_look = 0
        self._remainder = None
        self._ends = np.array([], int)  # columns with something dropped
        self.size = 0

    def step(self):
        """One product: append the direction that leads out of the space, or a random one if it is closed."""
        m = self.size
        if self._closed:
            self._dropped[max(m - 1, 0)] = self._beta
            self._ends = np.flatnonzero(self._dropped)
            self._rows[m] = self._random_direction()
            self._block = m
        else:
            self._rows[m] = self._remainder / self._beta
            self._projected[m, m - 1] = self._beta
        product = np.asarray(self._operator.matvec(self._rows[m])).astype(self._rows.dtype)
        norm = _norm(product)
        if not math.isfinite(norm):
            raise ValueError(
                f"Product number {m + 1} with the operator has NaN or infinite entries, so it has no eigenvalues to find. "
                "Check operator.matvec on a random unit vector."
            )
        self._scale = max(self._scale, norm)
        self.size = m + 1
        self._remainder, self._projected[: m + 1, m] = self._orthogonalized(product)
        # By symmetry this is what row m picks up of what was dropped.
        found = self._projected[self._ends, m]
        self._projected[m, self._ends] = found
        self._dropped[self._ends] = np.sqrt(np.maximum(self._dropped[self._ends] ** 2 - found**2, 0))
        self._beta = _norm(self._remainder)
        self._closed = self._beta <= _BREAKDOWN * self._epsilon * self._scale

    def worth_a_look(self):
        """Whether to spend m³ on the small eigenproblem: at each step first, then at some 3 % of m."""
        if self.size < self._next_look and not self._closed:
            return False
        self._next_look = self.size + 1 + self.size // 32
        return True

    def ritz(self, first=0):
        """Of the operator projected on the rows from `first` on: eigenvalues, eigenvectors, residual bounds."""
        m = self.size
        projected = self._projected[first:m, first:m]
        values, s = np.linalg.eigh((projected + projected.T) / 2)
        inside = np.linalg.norm(projected @ s - values * s, axis=0)
        dropped = self._dropped[first:m] @ np.abs(s)
        outside = np.hypot(inside, self._beta * np.abs(s[-1]))
        return values, s, outside + dropped + self._rounding()

    def accurate(self, values, residuals, tolerance, floor=2):
        """Which residuals meet the relative tolerance, or are too small for rounding to allow less."""
        return residuals <= np.maximum(tolerance * np.abs(values), floor * self._rounding())

    def exhausted(self, values, residuals, tolerance):
        """Whether the present start has told all it knows; if beyond doubt, the next row is a random one."""
        if self.accurate(values, residuals, tolerance / 10, floor=1.5).all():
            self._closed = True
        return self._closed or self.accurate(values, residuals, tolerance).all()

    def no_copy_is_missing(self, worst, which, tolerance, exhausted):
        """Whether nothing points to copies, or the best value in the complement is known not to beat the
        worst of the k.

        A random start sees one copy of each eigenvalue. Where it is exhausted before n products, there are
        copies (of some eigenvalue), and the complement of its space has to be explored from another start.
        """
        if self._block == 0:
            return not exhausted
        values, _, residuals = self.ritz(self._block)
        rank = _RANK[which]
        best = int(np.argmax(rank(values)))
        slack = tolerance * abs(worst) + self._rounding()
        known = self.accurate(values[best : best + 1], residuals[best : best + 1], tolerance)[0]
        return bool(known and rank(values[best]) <= rank(worst) + slack)

    def vectors(self, coefficients):
        """Unit vectors of shape (k, n) from coefficients of shape (m, k)."""
        vectors = coefficients.T.astype(self._rows.dtype) @ self._rows[: self.size]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _rounding(self):
        return _ROUNDING * self._epsilon * self._scale

    def _orthogonalized(self, w):
        """What of w is orthogonal to all rows, and the coefficients (float64) of the rest."""
        m = self.size
        coefficients = np.zeros(m)
        for i in range(max(m - 2, 0), m):  # the two that Lanczos' recurrence names take most of w away
            part = float(self._rows[i] @ w)
            w = w - self._rows.dtype.type(part) * self._rows[i]
            coefficients[i] += part
        while True:
            before = _norm(w)
            parts = self._rows[:m] @ w
            w = w - parts @ self._rows[:m]
            coefficients += parts
            if _norm(w) >= before / math.sqrt(2) or _norm(w) <= self._epsilon * self._scale:
                return w, coefficients

    def _random_direction(self):
        v = self._rng.standard_normal(self._rows.shape[1]).astype(self._rows.dtype)
        for _ in range(3):  # nearly all of v may lie in the space when m is close to n
            v = v - (self._rows[: self.size] @ v) @ self._rows[: self.size]
            v /= _norm(v)
        return v


def _norm(v):
    return math.sqrt(float(np.dot(v, v)))


def _checked_limit(n, k, which, max_products):
    if which not in _RANK:
        raise ValueError(f"which is {which!r}, but should be one of {', '.join(map(repr, _RANK))}.")
    if not 1 <= k <= n:
        raise ValueError(
            f"k is {k}, but a matrix of shape ({n}, {n}) has 1 to {n} eigenvalues. Pass k={min(max(k, 1), n)}."
        )
    limit = max(100, 10 * k) if max_products is None else max_products
    if limit < k:
        raise ValueError(
            f"max_products is {limit}, but k={k} eigenvalues take at least {k} products; 3 k is typical."
        )
    return min(limit, n)


def _warn(values, residuals, converged, num_products, tolerance):
    worst = int(np.argmax(np.where(converged, -np.inf, residuals)))
    warnings.warn(
        f"{int((~converged).sum())} of {len(values)} eigenvalues did not converge in {num_products} products: {values[worst]:.6g} "
        f"has a residual of {residuals[worst]:.2g}, wanted {tolerance:g} of the value. Pass a larger max_products or "
        "tolerance, and do not report a value whose `converged` is False.",
        stacklevel=3,
    )
