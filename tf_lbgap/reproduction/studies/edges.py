"""Where training is held against the edge of stability: by the top eigenvalue, and batch by batch.

Full-batch gradient descent sharpens until the top eigenvalue of the Hessian hovers at 2 / rate, or (2 + 2 m) / rate with
momentum m (Cohen et al.). A step on a batch does not lower the loss of that batch where the batch sharpness, the mean over
batches of gᵀHg / |g|², g and H those of the batch, is beyond 2 / rate; there small batches are said to settle, with
momentum at 2 (1 - m) / rate, and large ones at 2 (1 + m) / rate (Andreyev & Beneventano). For a batch of all examples the
batch sharpness is a Rayleigh quotient of the Hessian, and so at most its top eigenvalue.

References:
    Cohen, Kaur, Li, Kolter & Talwalkar, "Gradient descent on neural networks typically occurs at the edge of
    stability", 2021. Andreyev & Beneventano, "Edge of stochastic stability: revisiting the edge of stability for SGD",
    2024, and the abstract of arXiv 2604.14108, 2026 (momentum).
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import count, positive, whole
from tf_lbgap.reproduction.studies.rows import rows_of

BATCH_KEYS = ("batch_sharpness", "batch_sharpness_error", "over_edge", "over_small_edge", "over_large_edge")


def hovering(run, *, arms=None, part=0.25, after=0, seeds=None):
    """Read from the monitors' histories where the top eigenvalue is, in units of the edge of stability.

    Costs nothing: files are read.

    Args:
        run: A `FinishedRun` of an experiment with `measure: {monitor: ...}`, with optimizers that
            `callbacks.edge_of_stability` knows.
        arms: Names of arms; None: all.
        part: The last share of the updates over which is averaged, above 0 and up to 1.
        after: The update from which on sharpening is told, such as one past the first large steps.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `top_over_edge`, the mean over the last part of the top eigenvalue divided by the edge; `late_eigenvalue`,
        the mean of the eigenvalue itself there; `early_eigenvalue`, that at the first measurement from `after` on; and
        `sharpening`, the one divided by the other. NaN where nothing was measured, or training diverged. `curves` with `update`,
        `top_eigenvalue` and `over_edge`.

    Raises:
        ConfigError: If `part` is out of range, or the arm was not monitored.

    References:
        Cohen et al., 2021, section 3 and figure 1.
    """
    if positive(part, "part") > 1:
        raise ConfigError(f"part: {part!r} is a share of the updates: at most 1.")
    count(after, "after")
    rows, curves = [], []
    for arm, seed in run.finished(arms, seeds):
        measured = [_measured(row) for row in run.history(arm, seed)]
        update, values, edges = np.array([row for row in measured if row is not None]).reshape(-1, 3).T
        rows.append({"arm": arm, "seed": seed, **_row(update, values, edges, part, after)})
        curve = {"update": update, "top_eigenvalue": values, "over_edge": values / edges}
        curves.append({"arm": arm, "seed": seed, **{key: each.tolist() for key, each in curve.items()}})
    return {"rows": rows, "curves": curves}


def _measured(row):
    """Return update, eigenvalue and edge of a row of a history; None if the eigenvalue is not to be trusted."""
    if not any(row.get("converged", ())[:1]) or row.get("edge_of_stability") is None:
        return None
    return row["update"], row["values"][0], row["edge_of_stability"]


def _row(update, values, edges, part, after):
    late = update > (1 - part) * update.max(initial=0)
    early = np.flatnonzero(update >= after)[:1]
    mean = values[late].mean() if late.any() else math.nan
    first = values[early[0]] if early.size else math.nan
    found = {
        "top_over_edge": (values / edges)[late].mean() if late.any() else math.nan,
        "late_eigenvalue": mean,
        "early_eigenvalue": first,
        "sharpening": mean / first,
    }
    return {key: float(value) for key, value in found.items()}


def batch_sharpness(run, *, arms=None, batches=100, seeds=None):
    """Measure the mean of gᵀHg / |g|² over batches of an arm's own size, at the final weights.

    Batches are drawn from the training set without replacement, each anew. A gradient and a product on a batch, `batches` times,
    for an arm and seed. Batch normalization runs on the statistics of the whole training set, held fixed.

    Args:
        run: A `FinishedRun`.
        arms: Names of arms, whose batch and rate are numbers and whose optimizer is SGD; None: all.
        batches: How many.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `batch_sharpness`, in loss / weight², and its standard error over batches `batch_sharpness_error`;
        `over_edge`, times rate / 2; with momentum m `over_small_edge`, times rate / (2 (1 - m)), and `over_large_edge`,
        times rate / (2 (1 + m)).

    Raises:
        ConfigError: If an arm has a schedule, or another optimizer.
    """
    whole(batches, "batches")
    known = {arm: _checked(run.experiment.arms[arm], arm) for arm in run.arms(arms)}

    def measure(arm, seed):
        size, rate, momentum = known[arm]
        values = _quotients(run, arm, seed, size, batches)
        mean = values.mean()
        found = mean, values.std(ddof=1) / math.sqrt(batches) if batches > 1 else math.nan, mean * rate / 2
        found += mean * rate / (2 * (1 - momentum)), mean * rate / (2 * (1 + momentum))
        return {key: float(value) for key, value in zip(BATCH_KEYS, found, strict=True)}

    return {"rows": rows_of(run, arms, seeds, BATCH_KEYS, measure), "curves": []}


def _checked(config, arm):
    """Return batch, rate and momentum of an arm."""
    optimizer = config["optimizer"]
    rate = config["learning_rate"] or optimizer.get("learning_rate")
    is_known = optimizer["call"] == "keras.optimizers.SGD" and not optimizer.get("nesterov")
    if not is_known or not isinstance(config["batch_size"], int) or not isinstance(rate, (int, float)):
        raise ConfigError(
            f"arms: {arm}: batch sharpness is for SGD with a batch_size and a learning_rate that are numbers."
        )
    return config["batch_size"], rate, optimizer.get("momentum", 0.0)


def _quotients(run, arm, seed, size, batches):
    """Return gᵀHg / |g|² of random batches, shape (batches,)."""
    subject, (x, y) = run.subject(arm, seed, 0), run.sample(arm, seed, 0)
    rng, weights, values = np.random.default_rng(seed), subject.surface.weights(), []
    try:
        for _ in range(batches):
            chosen = rng.choice(len(y), min(size, len(y)), replace=False)
            subject.batches = x[chosen], y[chosen]
            gradient = subject.surface.value_and_gradient(weights)[1]
            direction = gradient / np.linalg.norm(gradient)
            values.append(direction @ subject.hessian.matvec(direction))
    finally:
        subject.batches = x, y
    return np.array(values)
