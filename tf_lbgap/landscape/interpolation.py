"""The loss between and beyond two weight vectors: Keskar's parametric plots.

The loss drawn is that of the network with these weights. Its width along one line says how sharp a minimum is
along that line only, and depends on the scale of the weights (Dinh et al. 2017): a layer followed by batch
normalization can be scaled without changing the network, yet it moves the end point.
"""

import dataclasses

import numpy as np
from scipy.special import cosdg, sindg

from tf_lbgap.landscape.points import losses_at
from tf_lbgap.landscape.weights import flat_weights

ALPHAS = np.linspace(-1, 2, 25)
"""α from -1 to 2: Keskar et al., figure 3; 25 points as in their code."""
ALPHAS.flags.writeable = False


@dataclasses.dataclass(frozen=True)
class Interpolation:
    """Loss and accuracy on a path through two weight vectors, `start` (α = 0) and `end` (α = 1).

    Attributes:
        path: "line" or "curve".
        alphas: (k,)
        loss: (k,) mean loss over the training examples; infinite or NaN where it is.
        accuracy: (k,) share classified right, NaN if labels are no classes.
        test_loss: (k,), or None without test data.
        test_accuracy: (k,), or None.
        batch_normalization: The statistics it ran with: "recalibrated", "batch" or "inference".
    """

    path: str
    alphas: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    test_loss: np.ndarray | None
    test_accuracy: np.ndarray | None
    batch_normalization: str


def line(
    model,
    loss,
    batches,
    start,
    end,
    *,
    alphas=ALPHAS,
    test_batches=None,
    batch_normalization="recalibrated",
    **options,
):
    """The loss at α end + (1 - α) start: in Keskar's figure 3 start is the small-batch solution, end the large.

    A point costs one pass over the training data, one over the test data, and, recalibrated, L more over the
    training data for L layers of batch normalization; "batch" needs none of these, and is close to it when
    batches are large. A model of 20 such layers: 25 points are 525 passes. A few thousand examples will do
    (Keskar's code takes 5,000).

    Args:
        model: A built Keras model. It is the same to the last bit afterwards, also after an error.
        loss: As for `curvature.LossSurface`; for a compiled model `model.loss`.
        batches: Training data, as for `curvature.LossSurface`.
        start: Weights: another model of the same architecture; the path of a .weights.h5 file; the list
            `model.get_weights()`, or of the trainable arrays only; or a flat vector (n,).
        end: Weights, in any of these forms. Only trainable ones move; all else is the model's.
        alphas: Where, shape (k,), without unit. Defaults to 25 points from -1 to 2.
        test_batches: Test data, evaluated at the same points with the same statistics.
        batch_normalization: "recalibrated": at each point exact statistics of the training data, for the test
            too. "batch": each batch its own, test batches likewise. "inference": the model's present ones.
        **options: `regularization`, `loss_weights`, `chunk_size` of `curvature.LossSurface`.

    Returns:
        `Interpolation`. At α = 0 and 1 the weights are those of start and end, exactly.

    Raises:
        ValueError: If weights have other shapes than the model's or are not finite, `alphas` is no list of finite
            numbers, or batch normalization meets NaN at every point.

    References:
        Keskar et al., "On large-batch training for deep learning", 2017, section 2.2.1 and figure 3.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> data = np.array([[1.0]]), np.array([[0.0]])
        >>> line(model, "mse", data, np.array([1.0]), np.array([3.0]), alphas=[0, 0.5, 1]).loss
        array([1., 4., 9.])
    """
    return _interpolation(
        "line",
        (lambda alpha: alpha, lambda alpha: 1 - alpha),
        (model, loss, batches, start, end),
        alphas,
        {"test_batches": test_batches, "batch_normalization": batch_normalization, **options},
    )


def curve(
    model,
    loss,
    batches,
    start,
    end,
    *,
    alphas=ALPHAS,
    test_batches=None,
    batch_normalization="recalibrated",
    **options,
):
    """The loss at sin(α π/2) end + cos(α π/2) start: a way round that keeps the norm where both have one.

    Sine and cosine are exact at whole α: α = 0 and 1 are start and end, and 2 and -1 are their negatives,
    -start and -end.

    Args:
        model: As for `line`, and so are all others.
        loss: As for `line`.
        batches: As for `line`.
        start: As for `line`.
        end: As for `line`.
        alphas: Where, shape (k,), as for `line`.
        test_batches: As for `line`.
        batch_normalization: As for `line`.
        **options: As for `line`.

    Returns:
        `Interpolation`.

    Raises:
        ValueError: As `line`.

    References:
        Keskar et al., 2017, figure 7.
    """
    return _interpolation(
        "curve",
        (lambda alpha: sindg(90 * alpha), lambda alpha: cosdg(90 * alpha)),
        (model, loss, batches, start, end),
        alphas,
        {"test_batches": test_batches, "batch_normalization": batch_normalization, **options},
    )


def _interpolation(path, factors, arguments, alphas, options):
    model, loss, batches, start, end = arguments
    start, end = (
        flat_weights(model, weights, name).astype("float64")
        for weights, name in ((start, "start"), (end, "end"))
    )
    alphas = np.array(alphas, dtype="float64")
    if alphas.ndim != 1 or not alphas.size or not np.isfinite(alphas).all():
        raise ValueError(
            f"alphas is {alphas!r}, but should be a list of at least one finite number, such as "
            "np.linspace(-1, 2, 25)."
        )
    of_end, of_start = factors
    points = (of_end(alpha) * end + of_start(alpha) * start for alpha in alphas)
    values = losses_at(model, loss, batches, points, **options)
    return Interpolation(path, alphas, **values, batch_normalization=options["batch_normalization"])
