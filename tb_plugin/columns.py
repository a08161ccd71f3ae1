"""Columns: from the records of a tag to arrays with one row for each step.

A run may repeat a step, and a resumed run goes back to an earlier one. In both cases what was written last is what
the weights went through, so later rows replace all earlier ones from their step on. (TensorBoard's data server does
that to whole records, its older loader does not; here both come out alike.)
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Columns:
    """One tag of one run.

    `steps` and `walls` have shape (N,), steps increasing; `values` has shape (N, C), `names` length C.
    `problem` is None, or a sentence on records that could not be read.
    """

    steps: np.ndarray
    walls: np.ndarray
    values: np.ndarray
    names: tuple
    problem: str | None = None

    @property
    def nbytes(self):
        return self.steps.nbytes + self.walls.nbytes + self.values.nbytes

    def num_values(self):
        """Return how many of the columns are measured values, the first ones; the rest say how certain they are."""
        return sum(name.startswith("value") for name in self.names)


def from_scalars(data):
    """Return the columns of a scalar, from objects with `step`, `wall_time` and `value`."""
    # A loop over the attributes is most of the time a long series takes: one pass each, no rows in between.
    steps = np.array([d.step for d in data], np.int64)
    walls = np.array([d.wall_time for d in data], np.float64)
    values = np.array([d.value for d in data], np.float64)
    kept = last_written(steps)
    return Columns(steps[kept], walls[kept], values[kept, None], ("value",))


def from_blocks(data):
    """Return the columns of eigenvalues, from objects with `numpy`, an array of shape (R, 2 + 3k) each.

    k may differ; rows with fewer are padded by NaN. Arrays that are no such blocks are left out, and counted.
    """
    blocks = [d.numpy for d in data]
    good = [block for block in blocks if _is_block(block)]
    problem = None
    if len(good) < len(blocks):
        shapes = sorted({f"{b.dtype} {b.shape}" for b in blocks if not _is_block(b)})[:3]
        problem = (
            f"{len(blocks) - len(good)} of {len(blocks)} records are left out: they hold {', '.join(shapes)}, "
            "but rows of eigenvalues are numbers of shape (R, 2 + 3k) with finite steps"
        )
    if not good:
        return Columns(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 0)), (), problem)
    k = max(block.shape[1] for block in good) // 3  # 2 + 3k
    rows = np.concatenate([_padded(block, k) for block in good])
    steps = rows[:, 0].astype(np.int64)
    kept = last_written(steps)
    names = tuple(f"{part}_{i}" for part in ("value", "residual", "converged") for i in range(1, k + 1))
    return Columns(steps[kept], rows[kept, 1], rows[kept, 2:], names, problem)


def last_written(steps):
    """Return which rows hold: those that no later row repeats or goes back behind. Shape (N,), bool.

    Example:
        >>> last_written(np.array([1, 2, 3, 2, 3, 3])).tolist()
        [True, False, False, True, False, True]
    """
    steps = np.asarray(steps)
    if not steps.size:
        return np.zeros(0, bool)
    lowest_from_here = np.minimum.accumulate(steps[::-1])[::-1]
    return np.append(steps[:-1] < lowest_from_here[1:], True)


def _is_block(block):
    return (
        block.ndim == 2
        and block.dtype.kind == "f"
        and block.shape[0] > 0
        and block.shape[1] >= 5
        and block.shape[1] % 3 == 2
        and bool(np.all(np.abs(block[:, 0]) < 2**53))  # NaN compares false, too
    )


def _padded(block, k):
    rows, own = len(block), block.shape[1] // 3
    if own == k:
        return block
    wide = np.full((rows, 2 + 3 * k), np.nan)
    wide[:, :2] = block[:, :2]
    for part in range(3):
        wide[:, 2 + part * k : 2 + part * k + own] = block[:, 2 + part * own : 2 + (part + 1) * own]
    return wide
