"""Keskar's sharpness: how far the loss rises within a small box around the weights, in percent.

    φ(ε, A) = 100 (max f(x + A y) - f(x)) / (1 + f(x)),    |y_i| ≤ ε (|(A⁺x)_i| + 1),

with f the mean loss over the data, x the weights, and A the identity, or n x 100 random numbers. The maximum is
searched by a few iterations of L-BFGS-B. That search is local, so φ is a lower bound of the maximum it stands for.

What the paper leaves open, and what is done here:

- *Start.* A minimiser is a stationary point, where a search may end as it starts. So it starts from a random point
  within 1 % of the box: near enough to follow the gradient, where there is one, rather than the random direction.
- *Scale.* L-BFGS-B takes its first step along the gradient as it is, so how far it comes in ten iterations depends
  on the units of f and of y. Here y is measured in half-widths of the box, and f times a constant that lets the
  first step reach its walls. In three networks of 13,130 weights (digits; ε from 1e-4 to 5e-3) ten iterations came
  within 0.6 % of the best that was found by any setting, in 5 to 15 gradients.
- *A.* Independent N(0, 1) entries, columns not normalised: in 100 dimensions a weight then moves by some √100 ε, ten
  times as far as in the full space. Numbers depend on this choice, and compare only with others made with it.

References:
    Keskar et al., "On large-batch training for deep learning: Generalization gap and sharp minima", 2017 (arXiv
    1609.04836), metric 2.1. Byrd, Lu, Nocedal & Zhu, "A limited memory algorithm for bound constrained
    optimization", 1995.
"""

import math

import numpy as np
import scipy.optimize

from tf_lbgap.sharpness.increases import centre, for_each, length
from tf_lbgap.sharpness.subject import subject

_START = 0.01  # of the half-width of the box
_REACH = 100  # the first step, as a root mean square in half-widths, were there no walls
_ENOUGH = 1e-4  # of the rise so far: an iteration that adds less is the last
_BLOCK = 1 << 16  # rows of A drawn at a time


def epsilon_sharpness(
    model, loss=None, batches=None, *, epsilon=1e-3, subspace=None, iterations=10, seed=0, **options
):
    """The largest rise of the loss in a box around the weights, relative to one plus the loss, in percent.

    Costs one gradient over the data for f(x), and for each ε one per evaluation of L-BFGS-B: 4 to 14 in practice for
    10 iterations. Keeps some 25 float64 vectors of the length of y, and in a subspace A itself: 100 vectors of n
    numbers in the type of the weights.

    The box has a part that does not scale with the weights, so rescaling a ReLU network changes φ. Where the gradient
    is not small φ measures that rather than curvature: early in training a *small* batch may well be the sharper one.

    Args:
        model: A built Keras model; or a `Subject`, alone.
        loss: As for `curvature.HessianOperator`. Its mean over the data is f.
        batches: As for `curvature.HessianOperator`.
        epsilon: ε, or several of them; 1e-3 and 5e-4 in the paper. Values that suit a network are those that
            separate what is compared: report several.
        subspace: None for the full space, A = I; or the number of columns of a random A, 100 in the paper.
        iterations: The most that L-BFGS-B makes; 10 in the paper. It stops earlier if one adds less than 1e-4 of
            the rise.
        seed: Of A and of the start. Equal seeds give equal results, and several ε share A.
        **options: Of `Subject`.

    Returns:
        A float, in percent, never below 0; a list of floats if `epsilon` is a sequence, in its order. Infinite, or
        NaN, if the loss is so anywhere the search went in the box.

    Raises:
        ValueError: If the loss is not finite at the weights, or -1 or less, or if an argument is out of range.

    Warns:
        UserWarning: If a result is not finite.

    References:
        Keskar et al. 2017, metric 2.1; section 2.2.2 for ε, A and the iterations.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[1.0]])])
        >>> data = np.array([[1.0]]), np.array([[0.0]])
        >>> round(epsilon_sharpness(model, "mse", data, epsilon=0.1), 4)    # f(x) = x²: 100 (1.2² - 1) / 2
        22.0
    """
    surface = subject(model, loss, batches, options).surface
    if not (isinstance(iterations, int) and iterations >= 1):
        raise ValueError(
            f"iterations is {iterations!r}, but should be a whole number of at least 1, such as 10."
        )
    weights, value, _ = centre(surface)
    if value <= -1:
        raise ValueError(
            f"The loss is {value:g}, but this measure divides by 1 + loss: one above -1 is wanted. Add a constant to the loss."
        )
    rng = np.random.default_rng(seed)
    plane = (
        _Whole(weights) if subspace is None else _Subspace(weights, subspace, rng, surface.parameters.dtype)
    )
    start = _START * rng.uniform(-1, 1, len(plane.coordinates))

    def sharpness(size):
        box = size * (np.abs(plane.coordinates) + 1)
        return 100 * _rise(surface, weights, value, plane, box, start, iterations) / (1 + value)

    return for_each(epsilon, "epsilon", sharpness)


class _NotFiniteError(Exception):
    """Carries what the loss was instead of a number."""


def _rise(surface, weights, value, plane, box, start, iterations):
    """The largest f(x + A y) - f(x) met by L-BFGS-B, which minimises, so it is given the negative."""
    rises, scale = [0.0], None

    def negative(u):
        nonlocal scale
        there, gradient = surface.value_and_gradient(weights + plane.out(box * u))
        gradient = box * plane.back(gradient)
        if not (math.isfinite(there) and np.isfinite(gradient).all()):
            raise _NotFiniteError(math.inf if there == math.inf else math.nan)
        rises.append(there - value)
        if scale is None:
            slope = length(gradient)
            scale = _REACH * math.sqrt(len(u)) / slope if slope > 0 else 1.0
        return -scale * rises[-1], -scale * gradient

    bounds = scipy.optimize.Bounds(-np.ones(len(box)), np.ones(len(box)))
    stops = {"maxiter": iterations, "ftol": _ENOUGH, "gtol": 0.0, "maxls": 5}
    try:
        scipy.optimize.minimize(negative, start, jac=True, method="L-BFGS-B", bounds=bounds, options=stops)
    except _NotFiniteError as error:
        return error.args[0]
    return max(rises)


class _Whole:
    """A = I: y is a change of the weights itself."""

    def __init__(self, weights):
        self.coordinates = weights

    def out(self, y):
        return y

    def back(self, gradient):
        return gradient


class _Subspace:
    """The span of random columns: A (n, p), and A⁺x (p,) by least squares."""

    def __init__(self, weights, dimensions, rng, dtype):
        n = len(weights)
        if not (isinstance(dimensions, int) and 1 <= dimensions <= n):
            raise ValueError(
                f"subspace is {dimensions!r}, but should be a number of dimensions from 1 to {n}, the number of weights; "
                "or None for the full space."
            )
        self._columns = np.empty((n, dimensions), dtype)
        gram, right = np.zeros((dimensions, dimensions)), np.zeros(dimensions)
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            self._columns[rows] = rng.standard_normal((rows.stop - start, dimensions))
            block = self._columns[rows].astype("float64")
            gram += block.T @ block
            right += block.T @ weights[rows]
        # Normal equations lose half of the digits, and the box is given to three.
        self.coordinates = np.linalg.lstsq(gram, right)[0]

    def out(self, y):
        return (self._columns @ y.astype(self._columns.dtype)).astype("float64")

    def back(self, gradient):
        return (gradient.astype(self._columns.dtype) @ self._columns).astype("float64")
