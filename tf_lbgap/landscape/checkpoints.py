"""The plane in which a training run moved: the leading directions of w_t - w_T.

With D the (T, n) matrix of rows w_t - w_T, the directions are its first right singular vectors. The origin is the
final point, where the picture is drawn; a principal component analysis would subtract the mean of the rows (Li
et al. write D, their code centres it), and its plane need not pass through the final weights.

n is millions and T some dozens, so the small matrix D Dᵀ (T, T) is summed up in float64 piece by piece, and no
float64 copy of the checkpoints is made. A singular value below 3e-7 of the first is lost in its rounding.

References:
    Li et al., "Visualizing the loss landscape of neural nets", 2018, section 7.
"""

import dataclasses

import numpy as np

from tf_lbgap.landscape.weights import flat_weights

_PIECE = 2**22  # numbers of D in float64 at a time: 32 MiB


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Weights in the course of training, as seen in the directions in which they moved most.

    Attributes:
        directions: (k, n) orthonormal rows, the direction of most movement first. The first checkpoint has no
            negative coordinate.
        coordinates: (T, k): checkpoint t lies at w_T + coordinates[t] @ directions, plus what the plane
            does not hold. The last row is 0. In units of the weights.
        explained_variance_ratio: (k,) share of Σ_t ‖w_t - w_T‖² along each direction. Random walks reach high
            shares too (Antognini & Sohl-Dickstein 2018): it is no evidence of structure.
        distances: (T,) of each checkpoint from the span of the directions, in units of the weights.
        origin: (n,) float64, the final weights w_T.
    """

    directions: np.ndarray
    coordinates: np.ndarray
    explained_variance_ratio: np.ndarray
    distances: np.ndarray
    origin: np.ndarray

    def span(self, margin=0.2):
        """Return an interval per direction that holds all checkpoints, and `margin` of its length more at each end.

        Args:
            margin: Relative to the extent of the coordinates.

        Returns:
            (k, 2) float64, as `plane` takes it for k = 2.
        """
        low, high = self.coordinates.min(axis=0), self.coordinates.max(axis=0)
        return np.stack([low, high], axis=1) + margin * np.outer(high - low, [-1, 1])


def trajectory(model, weights, *, num_directions=2):
    """Find the plane in which weights moved during training, seen from where they ended.

    Collect checkpoints by `keras.callbacks.ModelCheckpoint("{epoch:02d}.weights.h5", save_weights_only=True)`,
    or in a callback's `on_epoch_end` by `weights.append(self.model.get_weights())`.

    Memory: the T checkpoints as they came (n numbers each), and the directions in float64. Time: T² n.

    Args:
        model: A built Keras model, which says what trains.
        weights: T checkpoints in the order of training, the final one last, each in a form that `line` takes
            (a path, `get_weights()`, the trainable arrays, a vector).
        num_directions: k, from 1 to T - 1.

    Returns:
        `Trajectory(directions, coordinates, explained_variance_ratio, distances, origin)`.

    Raises:
        ValueError: If there are fewer than k + 1 checkpoints, they do not fit the model or are not finite, or
            they move along fewer than k directions.

    Example:
        >>> path = trajectory(model, sorted(glob.glob("*.weights.h5")))
        >>> picture = plane(
        ...     model, loss, sample, directions=path.directions, center=path.origin, span=path.span()
        ... )
    """
    rows = [flat_weights(model, w, f"weights[{t}]") for t, w in enumerate(weights)]
    if not 1 <= num_directions < len(rows):
        raise ValueError(
            f"num_directions is {num_directions!r} with {len(rows)} checkpoints, but T checkpoints move along T - 1 "
            "directions at most. Save weights more often: at least one more than directions."
        )
    size = len(rows[0])
    width = max(1, _PIECE // len(rows))
    pieces = [slice(start, start + width) for start in range(0, size, width)]
    gram = np.zeros((len(rows), len(rows)))
    for piece in pieces:
        moved = _moved(rows, piece)
        gram += moved @ moved.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:num_directions], vectors[:, ::-1][:, :num_directions]
    if not values[-1] > 1e-13 * values[0]:
        raise ValueError(
            f"The {len(rows)} checkpoints move along fewer than {num_directions} directions (they are equal, or lie on "
            "a line). Check that they are of different epochs, or draw the line from first to last by line()."
        )
    directions = np.concatenate([vectors.T @ _moved(rows, piece) for piece in pieces], axis=1)
    # Rounding in the Gram matrix, 1e-16 of its largest entry, tilts the later directions: orthogonal again.
    directions = np.ascontiguousarray(np.linalg.qr(directions.T)[0].T)
    coordinates = sum(_moved(rows, piece) @ directions[:, piece].T for piece in pieces)
    signs = np.where(coordinates[0] < 0, -1.0, 1.0)
    squares, along = np.diag(gram), np.square(coordinates)
    return Trajectory(
        directions=directions * signs[:, None],
        coordinates=coordinates * signs,
        explained_variance_ratio=along.sum(axis=0) / squares.sum(),
        distances=np.sqrt(np.maximum(squares - along.sum(axis=1), 0)),
        origin=rows[-1].astype("float64"),
    )


def _moved(rows, piece):
    final = rows[-1][piece].astype("float64")
    return np.stack([row[piece] - final for row in rows])
