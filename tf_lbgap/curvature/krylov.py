"""An orthonormal basis that grows by one product per step, and a symmetric operator projected on it.

The basis Q has a row per product, shape (m, n). What the operator makes of it is A Qᵀ = Qᵀ P + (a remainder that
leads out of the space, from the last row). A Ritz pair (θ, s) of P has the residual |s_m| times its norm.
Three decisions:

*Full reorthogonalisation.* Rounding destroys the orthogonality of Q just when an eigenvalue converges, and
then it is found again as a "ghost" (Paige). Each new vector is made orthogonal to all earlier ones, and once
more if that took away much of it (Daniel et al., "DGKS"): m is at most a few hundred, and a product costs far
more than that.

*The bound is measured.* Exact Lanczos makes P tridiagonal; here all of it is kept as computed, so that what
rounding adds to the residual is seen and counted.

*Asymmetry is seen.* By symmetry P is fixed twice, by the product with the row and by that with the column. Their
difference is the rounding of the products, where that is larger than usual (a loss close to 0 is the small
difference of large terms). If it is no rounding any more, the operator is not symmetric, and it is refused.

References:
    Daniel, Gragg, Kaufman & Stewart, "Reorthogonalization and stable algorithms for updating the Gram-Schmidt
    QR", 1976. Parlett, "The Symmetric Eigenvalue Problem", 1980, chapter 13.
"""

import math

import numpy as np

# A product rounded to the operator's dtype is off by some units of its last place, relative to the largest
# eigenvalue. That cannot be seen from within, so it is added to each bound. Hessians of four small networks
# in float32 were off by 0.7 to 5 units (spectral norm, against float64; the 5 in a batch of 5,000 examples).
_ROUNDING = 16
# What is left of a product after orthogonalisation and is smaller than this many units is rounding.
_BREAKDOWN = 8
# An operator is refused if its two halves differ by more than this part of the largest eigenvalue.
_ASYMMETRY = 0.2


def rounding(dtype):
    """What to add to a residual, relative to the largest eigenvalue, for products rounded to `dtype`."""
    return _ROUNDING * float(np.finfo(dtype).eps)


class Krylov:
    """A growing space and the operator on it.

    Args:
        operator: Has `shape` and `matvec`.
        limit: How many rows the basis may get.
        dtype: Of the basis, float32 or float64.
        rng: For random starts.
        start: Direction of the first row, shape (n,); None: a random one.

    Attributes:
        size: m, the number of rows, and of products so far.
        block: The row of the last random start.
        closed: Whether products lead no further, so that the next row is a random one.
    """

    def __init__(self, operator, limit, dtype, rng, start=None):
        n = operator.shape[0]
        self._operator, self._rng, self._start = operator, rng, start
        self._rows = np.empty((limit, n), dtype)
        self._epsilon = np.finfo(dtype).eps
        self._projected = np.zeros((limit, limit))  # entry i, j: row i times A times row j
        self._dropped = np.zeros(
            limit
        )  # norm of what A times row j has outside the space, where it was closed
        self._ends = np.array([], int)  # columns with something dropped
        self._asymmetry = 0.0  # the largest |uᵀAv - vᵀAu| of two rows
        self._scale = 0.0  # the largest ‖A row‖, at most the largest eigenvalue in magnitude
        self._remainder, self._beta = None, 0.0  # what leads out of the present space, and its norm
        self._next_look = 0
        self.closed = True
        self.block = 0
        self.size = 0

    def step(self):
        """One product: append the direction that leads out of the space, or a random one if it is closed."""
        m = self.size
        if not self.closed:
            self._rows[m] = self._remainder / self._beta
            self._projected[m, m - 1] = self._beta
        elif m == 0 and self._start is not None:
            self._rows[0] = self._start / _norm(self._start)
        else:
            self._dropped[max(m - 1, 0)] = self._beta
            self._ends = np.flatnonzero(self._dropped)
            self._rows[m] = self._random_direction()
            self.block = m
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
        self.closed = self._beta <= _BREAKDOWN * self._epsilon * self._scale

    def worth_a_look(self):
        """Whether to spend m³ on the small eigenproblem: at each step first, then at some 3 % of m."""
        if self.size < self._next_look and not self.closed:
            return False
        self._next_look = self.size + 1 + self.size // 32
        return True

    def ritz(self, first=0):
        """Of the operator projected on the rows from `first` on: eigenvalues, eigenvectors, residual bounds."""
        m = self.size
        projected = self._projected[first:m, first:m]
        self._measure_asymmetry(projected)
        values, s = np.linalg.eigh((projected + projected.T) / 2)
        inside = np.linalg.norm(projected @ s - values * s, axis=0)
        dropped = self._dropped[first:m] @ np.abs(s)
        outside = np.hypot(inside, self._beta * np.abs(s[-1]))
        return values, s, outside + dropped + self.rounding()

    def accurate(self, values, residuals, tolerance, floor=2):
        """Which residuals meet the relative tolerance, or are too small for rounding to allow less."""
        usual = rounding(self._rows.dtype) * self._scale  # more than that is no excuse
        return residuals <= np.maximum(tolerance * np.abs(values), floor * usual)

    def exhausted(self, values, residuals, tolerance):
        """Whether the present start has told all it knows; if beyond doubt, the next row is a random one."""
        if self.accurate(values, residuals, tolerance / 10, floor=1.5).all():
            self.closed = True
        return self.closed or bool(self.accurate(values, residuals, tolerance).all())

    def vectors(self, coefficients):
        """Unit vectors of shape (k, n) from coefficients of shape (m, k)."""
        vectors = coefficients.T.astype(self._rows.dtype) @ self._rows[: self.size]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def rounding(self):
        """What rounding of the products may add to a residual: as usual, or as seen."""
        return max(rounding(self._rows.dtype) * self._scale, self._asymmetry)

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

    def _measure_asymmetry(self, projected):
        self._asymmetry = max(self._asymmetry, float(np.abs(projected - projected.T).max()))
        if self._asymmetry > _ASYMMETRY * self._scale:
            raise ValueError(
                f"The operator is not symmetric: uᵀAv and vᵀAu differ by {self._asymmetry:.2g}, with ‖A‖ at least "
                f"{self._scale:.2g}. Eigenvalues are sought for symmetric matrices only: check operator.matvec, "
                "or pass (A + Aᵀ) / 2."
            )


def _norm(v):
    return math.sqrt(float(np.dot(v, v)))
