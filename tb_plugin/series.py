"""Series: columns as a chart needs them, thinned to a number of points, with every x axis that is known.

Thinning keeps, in each bucket of steps, the rows that hold the least and the greatest value of each column, and the
first that is not finite: a spike at the edge of stability is the message, and must survive at any zoom. It is never
random and never every n-th.
"""

import numpy as np


def thinned(steps, values, points):
    """Return indices of at most `points` rows that show the same minima and maxima.

    Args:
        steps: Increasing, shape (N,).
        values: Shape (N, C).
        points: Wanted number of rows; below 3 + 3C a few more may come.

    Returns:
        Increasing indices, the first and the last row among them.
    """
    n, num_columns = values.shape
    if n <= points:
        return np.arange(n)
    finite = np.isfinite(values)
    has_bad = not finite.all()
    picks = 2 * num_columns + (int((~finite).any(axis=0).sum()) if has_bad else 0)
    num_buckets = max((points - 2) // picks, 1)
    edges = np.linspace(steps[0], steps[-1], num_buckets + 1)[1:-1]
    bucket = np.searchsorted(edges, steps, side="right")
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    sizes = np.diff(starts, append=n)
    kept = [np.array([0, n - 1])]
    for reduceat, worst in ((np.maximum.reduceat, -np.inf), (np.minimum.reduceat, np.inf)):
        comparable = np.where(finite, values, worst) if has_bad else values
        extreme = np.repeat(reduceat(comparable, starts, axis=0), sizes, axis=0)
        kept += [_first_of_each(bucket, column) for column in ((comparable == extreme) & finite).T]
    if has_bad:
        kept += [_first_of_each(bucket, column) for column in ~finite.T]
    return np.unique(np.concatenate(kept))


def _first_of_each(bucket, mask):
    """Return the index of the first true entry in each bucket that has one."""
    found = np.flatnonzero(mask)
    return found[np.diff(bucket[found], prepend=-1) > 0]


def within(steps, bounds):
    """Return the slice of rows with steps in bounds, and one neighbour at each side, so that lines reach the edges."""
    first = max(np.searchsorted(steps, bounds[0]) - 1, 0)
    last = min(np.searchsorted(steps, bounds[1], side="right") + 1, steps.size)
    return slice(int(first), int(last))


def interpolated(at, x, y, *, beyond):
    """Return y at given x by straight lines.

    Args:
        at: Where, shape (N,).
        x: Shape (M,), any order; of equal ones the last counts.
        y: Shape (M,). Points that are not finite are left out.
        beyond: Whether the first and last lines go on; otherwise there is NaN. A single point is joined to the origin.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = np.asarray(x, np.float64)[good], np.asarray(y, np.float64)[good]
    x, last = np.unique(x[::-1], return_index=True)
    y = y[::-1][last]
    at = np.asarray(at, np.float64)
    if not x.size:
        return np.full(at.shape, np.nan)
    if not beyond:
        return np.interp(at, x, y, left=np.nan, right=np.nan)
    if x.size == 1:
        return at * (y[0] / x[0]) if x[0] else np.where(at == 0, y[0], np.nan)
    i = np.clip(np.searchsorted(x, at) - 1, 0, x.size - 2)
    return y[i] + (at - x[i]) * ((y[i + 1] - y[i]) / (x[i + 1] - x[i]))


def axes(steps, walls, *, start, epochs=None, examples=None, train_loss=None, steps_are_epochs=False):
    """Return the x axes of some rows, a dict from name to array of shape (N,); those that are unknown are left out.

    Args:
        steps: Shape (N,).
        walls: Seconds since 1970, shape (N,).
        start: That of the run's first event, None if unknown.
        epochs: Pair of steps and epochs seen at them.
        examples: Pair of steps and examples seen at them.
        train_loss: Pair of steps and losses; not continued beyond its ends.
        steps_are_epochs: Whether the steps are not updates but epochs counted from 0, as Keras does.
    """
    x = {}
    if steps_are_epochs:
        x["epochs"] = np.asarray(steps, np.float64) + 1
        if epochs is not None:
            x["updates"] = interpolated(x["epochs"], epochs[1], epochs[0], beyond=True)
    else:
        x["updates"] = np.asarray(steps)
        if epochs is not None:
            x["epochs"] = interpolated(steps, *epochs, beyond=True)
    updates = x.get("updates")
    if examples is not None and updates is not None:
        x["examples"] = interpolated(updates, *examples, beyond=True)
    if start is not None or walls.size:
        x["seconds"] = walls - (walls[0] if start is None else start)
    if train_loss is not None and updates is not None:
        x["train_loss"] = interpolated(updates, *train_loss, beyond=False)
    return x
