"""Where full-batch training is held against the edge of stability.

Full-batch gradient descent sharpens until the top eigenvalue of the Hessian hovers at 2 / rate, or (2 + 2 m) / rate with
momentum m. What small batches do is in `batch_edges`.

References:
    Cohen, Kaur, Li, Kolter & Talwalkar, "Gradient descent on neural networks typically occurs at the edge of
    stability", 2021.
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import count, positive
from tf_lbgap.reproduction.studies.rows import rows_of

KEYS = ("top_over_edge", "late_eigenvalue", "early_eigenvalue", "sharpening")


def hovering(run, *, arms=None, part=0.25, after=0, seeds=None):
    """Read from the monitors' histories where the top eigenvalue is, in units of the edge of stability.

    Costs nothing: files are read.

    Args:
        run: A `FinishedRun` of an experiment with `measure: {monitor: ...}`, with optimizers that
            `callbacks.edge_of_stability` knows.
        arms: Names of arms; None: all.
        part: The last share of the updates that were made, over which is averaged, above 0 and up to 1.
        after: The update from which on sharpening is told, such as one past the first large steps.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `top_over_edge`, the mean over the last part of the top eigenvalue divided by the edge; `late_eigenvalue`,
        the mean of the eigenvalue itself there; `early_eigenvalue`, that at the first measurement from `after` on; and
        `sharpening`, the one divided by the other. NaN where no eigenvalue converged in that part, or training
        diverged. `curves`, of what did not diverge, with `update`, `top_eigenvalue` and `over_edge`, of measurements that converged.

    Raises:
        ConfigError: If `part` is out of range, or the arm was not monitored.

    References:
        Cohen et al., 2021, section 3 and figure 1.
    """
    if positive(part, "part") > 1:
        raise ConfigError(f"part: {part!r} is a share of the updates. Give at most 1, such as 0.25.")
    count(after, "after")
    curves = []

    def measure(arm, seed):
        measured = [_measured(row) for row in run.history(arm, seed)]
        update, values, edges = np.array([row for row in measured if row is not None]).reshape(-1, 3).T
        curve = {"update": update, "top_eigenvalue": values, "over_edge": values / edges}
        curves.append({"arm": arm, "seed": seed, **{key: each.tolist() for key, each in curve.items()}})
        late = update > (1 - part) * run.row(arm, seed)["updates"]
        return _found(values, edges, late, update >= after)

    return {"rows": rows_of(run, arms, seeds, KEYS, measure), "curves": curves}


def _measured(row):
    """Return update, eigenvalue and edge of a row of a history; None if the eigenvalue is not to be trusted."""
    if not any(row.get("converged", ())[:1]) or row.get("edge_of_stability") is None:
        return None
    return row["update"], row["values"][0], row["edge_of_stability"]


def _found(values, edges, late, early):
    """Return a row; `late` and `early` say of each measurement whether it is one of those."""
    mean = values[late].mean() if late.any() else math.nan
    first = values[early][0] if early.any() else math.nan
    over_edge = (values / edges)[late].mean() if late.any() else math.nan
    return {
        key: float(value) for key, value in zip(KEYS, (over_edge, mean, first, mean / first), strict=True)
    }
