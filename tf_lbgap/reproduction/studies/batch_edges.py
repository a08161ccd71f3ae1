"""Where training on batches is held against the edge of stability: the curvature of each batch along its own gradient.

A step on a batch does not lower the loss of that batch where the batch sharpness, the mean over batches of gᵀHg / |g|², g and H
those of the batch, is beyond 2 / rate; there small batches are said to settle, with momentum m at 2 (1 - m) / rate, and large
ones at 2 (1 + m) / rate. For a batch of all examples the batch sharpness is a Rayleigh quotient of the Hessian, and so at most its
top eigenvalue, of which `edges` tells.

References:
    Andreyev & Beneventano, "Edge of stochastic stability: revisiting the edge of stability for SGD", 2024, and the abstract
    of arXiv 2604.14108, 2026 (momentum).
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import whole
from tf_lbgap.reproduction.studies.rows import rows_of
from tf_lbgap.reproduction.studies.trained_with import batch_of, rate_of

KEYS = ("batch_sharpness", "batch_sharpness_error", "over_edge", "over_small_edge", "over_large_edge")
_STREAM = 0xBA7C4ED6E  # beside a seed: batches are not drawn by the stream that drew the training set


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
        times rate / (2 (1 + m)). The rate is the one trained with, of tuned arms, too.

    Raises:
        ConfigError: If an arm has a schedule, or another optimizer.
    """
    whole(batches, "batches")
    known = {(arm, seed): _checked(run, arm, seed) for arm, seed in run.finished(arms, seeds)}

    def measure(arm, seed):
        size, rate, momentum = known[arm, seed]
        values = _quotients(run, arm, seed, size, batches)
        mean = values.mean()
        found = mean, values.std(ddof=1) / math.sqrt(batches) if batches > 1 else math.nan, mean * rate / 2
        found += mean * rate / (2 * (1 - momentum)), mean * rate / (2 * (1 + momentum))
        return {key: float(value) for key, value in zip(KEYS, found, strict=True)}

    return {"rows": rows_of(run, arms, seeds, KEYS, measure), "curves": []}


def _checked(run, arm, seed):
    """Return batch, rate and momentum of an arm."""
    optimizer = run.experiment.arms[arm]["optimizer"]
    size, rate = batch_of(run, arm, seed), rate_of(run, arm, seed)
    is_known = optimizer["call"] == "keras.optimizers.SGD" and not optimizer.get("nesterov")
    if not is_known or math.isnan(size) or math.isnan(rate):
        raise ConfigError(
            f"arms: {arm}: batch sharpness is for SGD with a batch_size and a learning_rate that are numbers, not for "
            f"{optimizer['call']} with {size} and {rate}. Name the arms that have them: arms: [...]."
        )
    return size, rate, optimizer.get("momentum", 0.0)


def _quotients(run, arm, seed, size, batches):
    """Return gᵀHg / |g|² of random batches, shape (batches,)."""
    subject, (x, y) = run.subject(arm, seed, 0), run.sample(arm, seed, 0)
    rng, weights, values = np.random.default_rng([seed, _STREAM]), subject.surface.weights(), []
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
