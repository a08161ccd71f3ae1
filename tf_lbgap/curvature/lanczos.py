"""Extreme eigenvalues of a symmetric operator, each with a bound on its error.

Lanczos' method looks for eigenvectors in the space spanned by v, Av, A²v, ... for a random v: the eigenvalues θ
of the operator projected on it approach the extreme ones of A fast. Some eigenvalue of a symmetric A lies within
‖Ay - θy‖ of θ, whatever happened before: that residual is the bound. `krylov` holds the space.

References:
    Lanczos, "An iteration method for the solution of the eigenvalue problem", 1950. Parlett, "The Symmetric
    Eigenvalue Problem", 1980, chapters 4 (bounds) and 13 (the method).
"""

import dataclasses
import warnings

import numpy as np

from tf_lbgap.curvature.krylov import Krylov

# Of a warm start, how much is random. Against a unit vector of known directions.
_UNKNOWN = 0.01
_RANK = {"largest": lambda values: values, "smallest": lambda values: -values, "magnitude": np.abs}


@dataclasses.dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenvalues and eigenvectors of a symmetric (n, n) matrix A.

    Attributes:
        values: (k,) float64, descending (by magnitude if that was asked for).
        vectors: (k, n), a unit vector per row.
        residuals: (k,) upper bounds of ‖A vector - value vector‖: an eigenvalue of A lies that close to the
            value.
        converged: (k,) bool, whether the residual met the tolerance.
        num_products: How many products with A it took.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray
    num_products: int


def top_eigenpairs(operator, k=1, *, which="largest", tolerance=1e-3, max_products=None, start=None, seed=0):
    """Find extreme eigenvalues by Lanczos' method, and stop when they are accurate enough.

    A value counts as converged when its residual is at most `tolerance` times its magnitude, or as small as
    the operator's rounding allows (an eigenvalue of 0 has no relative accuracy). Hessians of networks take
    some 10 products for the first eigenvalue to 1e-3, and about 3 per further one. Beside them it keeps a
    basis of num_products x n numbers.

    A residual says that an eigenvalue is there, not that none is missing. Values that coincide, or differ by
    less than the tolerance, may be found once as long as others keep the method busy; they are found as often
    as they occur when it runs out of distinct ones first (then it starts again, orthogonal to what it has).
    A start that is nearly orthogonal to an eigenvector sees it late. So from k = 2 on the value that follows has
    to be as accurate before it stops: of 1,000 runs on Hessians of small classifiers none missed one of the top
    5 (without, 6 did). For k = 1, where that would cost a quarter more, 2 of 3,000 took the second for the top.

    Args:
        operator: Has `shape` (n, n) and `matvec`, mapping shape (n,) to (n,); symmetric. Its `dtype`, if it
            has one, is that of the basis and sets the rounding term of the residuals (else float64).
        k: How many, from 1 to n.
        which: "largest", "smallest" (the most negative), "magnitude", or "both": half of them from each end,
            one more of the largest if k is odd.
        tolerance: Of the residuals, relative to the value.
        max_products: Where to stop in any case; by default max(100, 10 k), and n at most.
        start: `Eigenpairs` of a similar matrix, or vectors of shape (j, n), to begin from instead of a random
            vector. How much that saves depends on how far the matrix has moved: half of the products for k = 1
            after a change of some 0.1 %, little after an epoch at a large rate; a tenth to a third for k = 5.
            A little of a random vector is added, so that an eigenvalue that has overtaken them is seen.
        seed: Of the random start. Equal seeds give equal results.

    Returns:
        `Eigenpairs(values, vectors, residuals, converged, num_products)`.

    Raises:
        ValueError: If k is not from 1 to n, `which` is unknown, `max_products` is below k, `start` has another
            shape, a product is not finite, or the operator is not symmetric.

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
    krylov = Krylov(operator, limit, dtype, rng, _start_vector(start, n, rng))

    while True:
        krylov.step()
        whole = krylov.size == n
        if krylov.size < k or not (krylov.size == limit or krylov.worth_a_look()):
            continue
        values, coefficients, residuals = krylov.ritz()
        best = _best(values, k, which)
        converged = krylov.accurate(values[best], residuals[best], tolerance)
        exhausted = krylov.exhausted(values, residuals, tolerance)
        finished = (
            converged.all()
            and _next_is_known(krylov, values, residuals, best, which, tolerance)
            and _no_copy_is_missing(krylov, values[best], which, tolerance, exhausted)
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


def _start_vector(start, n, rng):
    """The sum of the vectors, and a little of everything: what has overtaken them is then seen."""
    if start is None:
        return None
    vectors = np.atleast_2d(np.asarray(getattr(start, "vectors", start), "float64"))
    if vectors.shape[1] != n or not np.isfinite(vectors).all() or not np.linalg.norm(vectors, axis=1).all():
        raise ValueError(
            f"start has shape {vectors.shape}, but should hold finite vectors other than 0 of shape (j, {n}). Pass the "
            "Eigenpairs of an earlier call on an operator of the same size, or leave start out."
        )
    signs = rng.choice([-1.0, 1.0], len(vectors))
    known = signs @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    unknown = rng.standard_normal(n)
    return known / np.linalg.norm(known) + _UNKNOWN * unknown / np.linalg.norm(unknown)


def _ends(which, k):
    """The parts of the spectrum that are asked for: a ranking, and how many."""
    if which == "both":
        return [(_RANK["largest"], k - k // 2), (_RANK["smallest"], k // 2)]
    return [(_RANK[which], k)]


def _best(values, k, which):
    best = []
    for rank, count in _ends(which, k):
        order = np.argsort(-rank(values), kind="stable")
        best += [i for i in order if i not in best][:count]
    return np.array(best)


def _next_is_known(krylov, values, residuals, best, which, tolerance):
    """Whether the value that follows those found is as accurate.

    The first values to converge need not be the extreme ones: a start that is nearly orthogonal to an
    eigenvector sees it late. While it does so, a Ritz value below those found is on the move.
    """
    done = 0
    for rank, count in _ends(which, len(best)):
        others = np.setdiff1d(np.arange(len(values)), best)
        if count < 2 or not len(
            others
        ):  # for one value it would cost a quarter more; two are asked for instead
            done += count
            continue
        worst = values[best[done + count - 1]]
        done += count
        following = others[np.argmax(rank(values[others]))]
        if residuals[following] > max(tolerance * abs(worst), 2 * krylov.rounding()):
            return False
    return True


def _no_copy_is_missing(krylov, values, which, tolerance, exhausted):
    """Whether nothing points to copies, or the best value in the complement is known not to beat the
    worst of those found, at each end.

    A random start sees one copy of each eigenvalue. Where it is exhausted before n products, there are
    copies (of some eigenvalue), and the complement of its space has to be explored from another start.
    """
    if krylov.block == 0:
        return not exhausted
    others, _, residuals = krylov.ritz(krylov.block)
    done = 0
    for rank, count in _ends(which, len(values)):
        if not count:
            continue
        worst = values[done + count - 1]
        done += count
        best = int(np.argmax(rank(others)))
        slack = tolerance * abs(worst) + krylov.rounding()
        known = krylov.accurate(others[best : best + 1], residuals[best : best + 1], tolerance)[0]
        if not (known and rank(others[best]) <= rank(worst) + slack):
            return False
    return True


def _checked_limit(n, k, which, max_products):
    if which not in (*_RANK, "both"):
        raise ValueError(
            f"which is {which!r}, but should be one of {', '.join(map(repr, (*_RANK, 'both')))}."
        )
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
