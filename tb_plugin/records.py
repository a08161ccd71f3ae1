"""Records: from what a user measured to the array and the content of one summary.

The two ways of writing, `summary` (through `tf.summary`) and `writer` (without TensorFlow), share these functions,
so that they check alike and write the same bytes. Layouts are in `metadata`.
"""

from dataclasses import dataclass

import numpy as np

from tb_plugin import metadata

EIGENVALUE_UNIT = "loss / weight²"


@dataclass(frozen=True)
class Record:
    """One summary: its array (of one of the layouts in `metadata`), its content bytes and its description."""

    tensor: np.ndarray
    content: bytes
    description: str = ""

    def summary_metadata(self):
        """Return the proto that goes with the array."""
        return metadata.summary_metadata(
            self.content, description=self.description, scalar=self.tensor.ndim == 0
        )


def scalar(value, *, unit="", description="", measured=None):
    """Return the record of one number, or raise ValueError if it is not one."""
    value = _numbers(value, "A scalar", np.float32)
    if value.ndim:
        raise ValueError(
            f"A scalar is one number, but the value has shape {value.shape}. "
            "Write its mean, or one scalar for each entry under a name of its own."
        )
    return Record(
        value, metadata.content("scalar", columns=["value"], unit=unit, measured=measured), description
    )


def eigenvalues(
    values, steps, walls, *, residuals=None, converged=None, which="largest", unit=EIGENVALUE_UNIT,
    description="", measured=None,
):  # fmt: skip
    """Return the record of a block of eigenvalues.

    Args:
        values: Shape (k,), or (R, k) for R moments.
        steps: Number of updates, a number or shape (R,).
        walls: Seconds since 1970, a number or shape (R,).
        residuals: ‖Av - λv‖ of each value, in its shape; None if unknown.
        converged: Whether each value is what it claims to be, in its shape; None if unknown.
        which: Which end of the spectrum: "largest", "smallest" or "magnitude".
        unit: Unit of the values.
        description: Longer text, shown on demand.
        measured: What was measured, see `metadata.content`.

    Raises:
        ValueError: If shapes do not fit, or the block is larger than 4 MB.
    """
    values = np.atleast_2d(_numbers(values, "values="))
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"Eigenvalues have shape (k,), or (R, k) for R steps, but these have {values.shape}."
        )
    rows, k = values.shape
    steps = np.atleast_1d(_numbers(steps, "step="))
    if steps.shape != (rows,):
        raise ValueError(
            f"There are {rows} rows of eigenvalues for steps of shape {steps.shape}. "
            f"Pass step= as {'one number' if rows == 1 else f'{rows} numbers'}."
        )
    walls = np.broadcast_to(np.asarray(walls, np.float64), (rows,))
    tensor = np.column_stack(
        [
            steps,
            walls,
            values,
            _beside(values, residuals, "residuals"),
            _beside(values, converged, "converged"),
        ]
    )
    names = [f"{part}_{i}" for part in ("value", "residual", "converged") for i in range(1, k + 1)]
    encoded = metadata.content(
        "eigenvalues",
        columns=["step", "wall", *names] if k <= 50 else [],
        unit=unit,
        which=which,
        measured=measured,
    )
    return Record(_capped(tensor, "Write fewer rows or fewer eigenvalues at a time."), encoded, description)


def _beside(values, given, name):
    """Return what is known of each value, in the shape of the values; NaN where nothing is."""
    if given is None:
        return np.full_like(values, np.nan)
    given = np.atleast_2d(_numbers(given, f"{name}="))
    if given.shape != values.shape:
        raise ValueError(
            f"{name}= has shape {given.shape} but the eigenvalues have {values.shape}. Pass one for each value."
        )
    return given


def density(grid, density, *, unit="1 / (loss / weight²)", description="", measured=None):
    """Return the record of a spectral density.

    Args:
        grid: Eigenvalues in increasing order, shape (G,).
        density: Share of the spectrum per unit of eigenvalue at each of them, shape (G,).
        unit: Unit of the density.
        description: Longer text.
        measured: What was measured.
    """
    grid, density = _vector(grid, "grid"), _vector(density, "density")
    if grid.shape != density.shape:
        raise ValueError(
            f"The grid has {grid.size} points and the density {density.size}. Pass the density at each grid point."
        )
    _increasing(grid, "grid")
    encoded = metadata.content("density", columns=["grid", "density"], unit=unit, measured=measured)
    return Record(_capped(np.stack([grid, density]), "Use a coarser grid."), encoded, description)


def line(
    alpha, *, train_loss=None, test_loss=None, train_accuracy=None, test_accuracy=None, unit="loss",
    description="", measured=None,
):  # fmt: skip
    """Return the record of losses and accuracies on a line through weight space.

    Args:
        alpha: Position on the line, shape (N,).
        train_loss: Of each position, shape (N,); likewise the three others. At least one is given.
        test_loss: Of each position.
        train_accuracy: Of each position.
        test_accuracy: Of each position.
        unit: Unit of the losses.
        description: Longer text.
        measured: What was measured.
    """
    given = zip(metadata.LINE_COLUMNS, (train_loss, test_loss, train_accuracy, test_accuracy), strict=True)
    columns = {"alpha": alpha} | {name: column for name, column in given if column is not None}
    if len(columns) == 1:
        raise ValueError(f"Nothing is given along the line. Pass one of {', '.join(metadata.LINE_COLUMNS)}.")
    vectors = {name: _vector(column, name) for name, column in columns.items()}
    for name, vector in vectors.items():
        if vector.shape != vectors["alpha"].shape:
            raise ValueError(
                f"alpha has {vectors['alpha'].size} points and {name} {vector.size}. Pass one value for each point."
            )
    encoded = metadata.content("line", columns=list(vectors), unit=unit, measured=measured)
    return Record(_capped(np.column_stack(list(vectors.values())), "Use fewer points."), encoded, description)


def plane(a, b, loss, center=None, *, unit="loss", description="", measured=None):
    """Return the record of the loss on a plane through weight space.

    Args:
        a: Coordinates on the horizontal axis, increasing, shape (W,).
        b: Coordinates on the vertical axis, increasing, shape (H,).
        loss: Shape (H, W): `loss[i, j]` is the loss at `(a[j], b[i])`.
        center: Loss at the origin, if known.
        unit: Unit of the loss.
        description: Longer text.
        measured: What was measured.
    """
    a, b, loss = _vector(a, "a"), _vector(b, "b"), _numbers(loss, "loss=")
    if loss.shape != (b.size, a.size):
        raise ValueError(
            f"A loss for {b.size} values of b and {a.size} of a has shape ({b.size}, {a.size}), "
            f"but this one has {loss.shape}. "
            + ("Pass loss.T." if loss.shape == (a.size, b.size) else "Pass one row for each b.")
        )
    _increasing(a, "a")
    _increasing(b, "b")
    tensor = np.full((b.size + 1, a.size + 1), np.nan if center is None else float(center))
    tensor[0, 1:], tensor[1:, 0], tensor[1:, 1:] = a, b, loss
    encoded = metadata.content("plane", columns=["a", "b", "loss"], unit=unit, measured=measured)
    return Record(_capped(tensor, "Use a coarser grid; 512 x 512 fits."), encoded, description)


def trajectory(steps, points, explained=None, *, unit="weight", description="", measured=None):
    """Return the record of a path through weight space, projected on the axes of a plane.

    Args:
        steps: Number of updates at each point, shape (N,).
        points: Coordinates a and b of each, shape (N, 2).
        explained: Shares of the path's variance along a and b, two numbers; None if unknown.
        unit: Unit of the coordinates.
        description: Longer text.
        measured: What was measured.
    """
    steps, points = _vector(steps, "steps"), _numbers(points, "points=")
    if points.shape != (steps.size, 2):
        raise ValueError(
            f"A trajectory over {steps.size} steps has points of shape ({steps.size}, 2), not {points.shape}."
        )
    explained = np.full(2, np.nan) if explained is None else _numbers(explained, "explained=")
    if explained.shape != (2,):
        raise ValueError(
            f"explained= holds two shares, one for each axis, but it has shape {explained.shape}."
        )
    tensor = np.column_stack([steps, points, np.broadcast_to(explained, points.shape)])
    columns = ["step", "a", "b", "explained_a", "explained_b"]
    encoded = metadata.content("trajectory", columns=columns, unit=unit, measured=measured)
    return Record(_capped(tensor, "Use fewer points."), encoded, description)


def _numbers(given, name, dtype=np.float64):
    try:
        return np.asarray(given, dtype)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} should be numbers, but {given!r:.80} is not. Pass a number, a list or an array."
        ) from None


def _vector(values, name):
    values = _numbers(values, name)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"{name} is a list of numbers, but it has shape {values.shape}.")
    return values


def _increasing(values, name):
    if not np.all(np.diff(values) > 0):
        raise ValueError(
            f"{name} must increase from value to value, since it becomes an axis. Sort it first."
        )


def _capped(tensor, remedy):
    """Return the tensor, or raise ValueError if it is larger than TensorBoard can be trusted to serve."""
    if tensor.nbytes > metadata.MAX_TENSOR_BYTES:
        raise ValueError(
            f"This summary holds {tensor.nbytes / 2**20:.1f} MB (shape {tensor.shape}), and the cap is "
            f"{metadata.MAX_TENSOR_BYTES / 2**20:.0f} MB: TensorBoard answers with at most 256 MB at once. {remedy}"
        )
    return tensor
