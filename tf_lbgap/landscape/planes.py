"""The loss on a plane through weight space: random directions, or those of a training trajectory."""

import dataclasses

import numpy as np

from tf_lbgap.curvature.parameters import Parameters
from tf_lbgap.landscape.filters import filter_normalized_direction
from tf_lbgap.landscape.points import losses_at
from tf_lbgap.landscape.weights import flat_weights


@dataclasses.dataclass(frozen=True)
class Plane:
    """Loss and accuracy at center + alphas[i] directions[0] + betas[j] directions[1].

    Attributes:
        alphas: (a,), in units of the first direction.
        betas: (b,), in units of the second.
        loss: (a, b) mean loss over the training examples; infinite or NaN where it is.
        accuracy: (a, b) share classified right, NaN if labels are no classes.
        test_loss: (a, b), or None without test data.
        test_accuracy: (a, b), or None.
        lengths: (2,) norms of the directions: times `alphas` or `betas` it is distance in weight space.
        cosine: Between the directions: 0 if axes at a right angle do not deceive.
        batch_normalization: The statistics it ran with: "recalibrated", "batch" or "inference".
    """

    alphas: np.ndarray
    betas: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    test_loss: np.ndarray | None
    test_accuracy: np.ndarray | None
    lengths: np.ndarray
    cosine: float
    batch_normalization: str


def plane(
    model,
    loss,
    batches,
    *,
    directions=None,
    center=None,
    span=(-1, 1),
    points=25,
    seed=0,
    test_batches=None,
    batch_normalization="recalibrated",
    **options,
):
    """The loss at center + α d₁ + β d₂, on a grid.

    A point costs what a point of `line` does, and 25 x 25 are many: with L layers of batch normalization 625
    (L + 1) passes over the training data. Take few examples, or batch_normalization="batch".

    Args:
        model: A built Keras model. It is the same to the last bit afterwards, also after an error.
        loss: As for `line`.
        batches: As for `line`.
        directions: Two vectors (n,), such as `Trajectory.directions`. None for two random ones scaled as the
            filters of the center: `filter_normalized_direction(model, seed=(seed, i), like=center)`, i = 0, 1.
        center: Weights in any form `line` takes; None for the model's own.
        span: (low, high) of α and β, or a pair of these, such as `Trajectory.span()`. Defaults to (-1, 1), as
            in Li et al.: a step of 1 is as long as the weights.
        points: Points per axis, or a pair. An odd number has the center among them if the span is symmetric.
        seed: Of random directions.
        test_batches: As for `line`.
        batch_normalization: As for `line`.
        **options: As for `line`.

    Returns:
        `Plane`.

    Raises:
        ValueError: If directions or center do not fit the model or are not finite, a direction is 0, a span is
            empty, or `points` is below 2.

    References:
        Li et al., "Visualizing the loss landscape of neural nets", 2018, sections 3 and 4.
    """
    center = Parameters(model).values() if center is None else flat_weights(model, center, "center")
    center = center.astype("float64")
    if directions is None:
        directions = [
            filter_normalized_direction(model, seed=[*np.atleast_1d(seed), i], like=center) for i in (0, 1)
        ]
    first, second = directions = _checked_directions(directions, center.size)
    alphas, betas = (
        np.linspace(*interval, count)
        for interval, count in zip(_checked_span(span), _checked_points(points), strict=True)
    )
    rows = (center + alpha * first for alpha in alphas)
    weights = (row + beta * second for row in rows for beta in betas)
    values = losses_at(
        model,
        loss,
        batches,
        weights,
        test_batches=test_batches,
        batch_normalization=batch_normalization,
        **options,
    )
    shape = len(alphas), len(betas)
    values = {name: v if v is None else v.reshape(shape) for name, v in values.items()}
    lengths = np.linalg.norm(directions, axis=1)
    cosine = float(first @ second / lengths.prod())
    return Plane(
        alphas, betas, **values, lengths=lengths, cosine=cosine, batch_normalization=batch_normalization
    )


def _checked_directions(directions, size):
    directions = np.stack([np.asarray(d, dtype="float64") for d in directions])
    if directions.shape != (2, size):
        raise ValueError(
            f"directions has shape {directions.shape}, but should be two flat vectors of the {size} trainable weights, "
            f"shape (2, {size}). Make them by filter_normalized_direction or trajectory."
        )
    if not (np.isfinite(directions).all() and directions.any(axis=1).all()):
        raise ValueError(
            "A direction is 0 everywhere, or not finite. (A filter-normalized one is 0 where weights are; biases, "
            "scales and shifts count only with ignore_vectors=False.) Pass two others."
        )
    return directions


def _checked_span(span):
    intervals = np.array(span, dtype="float64")
    if intervals.shape == (2,):
        intervals = np.stack([intervals, intervals])
    if (
        intervals.shape != (2, 2)
        or not np.isfinite(intervals).all()
        or (intervals[:, 0] >= intervals[:, 1]).any()
    ):
        raise ValueError(
            f"span is {span!r}, but should be (low, high) with low < high, or one such pair per axis: (-1, 1), or "
            "((-1, 1), (0, 2))."
        )
    return intervals


def _checked_points(points):
    counts = list(points) if isinstance(points, (list, tuple)) else [points, points]
    if len(counts) != 2 or any(not isinstance(n, (int, np.integer)) or n < 2 for n in counts):
        raise ValueError(
            f"points is {points!r}, but should be a number of at least 2, or one per axis: 25, or (25, 11)."
        )
    return counts
