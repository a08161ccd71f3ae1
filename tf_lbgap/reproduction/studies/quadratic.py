"""SGD on a quadratic whose gradient noise is that of real batches: how far from the minimum does it stay?

Losses of examples are ½ (w - x_i)ᵀ H (w - x_i), H diagonal with curvatures h. So the Hessian is H everywhere,
and one example drawn at random has a gradient of covariance C = H Var(x) H. Examples are drawn so that C = H, as
at the minimum of a likelihood. Direction by direction SGD is a linear recursion, whose stationary variance has a
closed form (`closed_forms`); the diffusion approximation is its limit for small rates.

References:
    Li, Li, Qian & Liu, "Batch size matters: a diffusion approximation framework on nonconvex stochastic gradient
    descent", 2017. Zhang et al., "Which algorithmic choices matter at which batch sizes? Insights from a noisy
    quadratic model", 2019 (C = H).
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import positive, whole
from tf_lbgap.reproduction.studies.closed_forms import (
    diffusion_variance,
    exact_variance,
    independent_variance,
)
from tf_lbgap.reproduction.studies.simulated_arms import settings_of, simulated

SAMPLINGS = ("replacement", "without", "epochs")
SETTINGS = {"batch_size": None, "learning_rate": None, "momentum": 0.0, "sampling": "replacement"}


def stationary_variance(
    seeds, *, arms, curvatures=(0.1, 0.2, 0.5, 1.0), examples=256, walkers=200, updates=2000
):
    """Compare the variance of SGD about the minimum of a quadratic with closed forms.

    A simulation in NumPy: a second for a million updates of a walker, at a batch of 16.

    Args:
        seeds: Seeds of the examples, which the arms of a seed share, and of the draws, which are an arm's own.
        arms: `{name: {batch_size:, learning_rate:, momentum: 0, sampling: replacement}}`; sampling is one of
            `SAMPLINGS`.
        curvatures: h, one per direction.
        examples: N.
        walkers: Independent trainings of an arm and seed.
        updates: Of each walker, after those in which it forgets its start. In shuffled epochs the ends of epochs count.

    Returns:
        `rows` with `variance_over_exact`, what was seen divided by the line of the table in `closed_forms` for these draws, the mean over
        directions; `variance_over_independent`, divided by the first line, whatever the draws; `variance_over_diffusion`,
        divided by the last; `steepest_over_diffusion`, of the largest curvature alone; `excess_loss`, Σ h w² / 2;
        `memory_over_exact`, the correlation time seen at a lag of about 1 / (a h) updates, divided by -1 / log(1 - a h),
        the mean over directions (NaN in epochs, with momentum, or where a h reaches 1; where a lag is not below the updates; and
        where what was seen is no correlation between 0 and 1); and the settings. `curves` with `curvature`, `variance`, `exact`
        and `diffusion`.

    Raises:
        ConfigError: If a setting is out of range, or an arm is unstable.
    """
    h = np.sort([positive(value, "curvatures") for value in curvatures])
    whole(walkers, "walkers"), whole(updates, "updates"), whole(examples, "examples")
    settings = settings_of(arms, SETTINGS, lambda arm, where: _checked(arm, where, h, examples))

    def walk(rng, data, arm):
        return _compared(_walk(rng, data, h, arm, walkers, updates), h, arm, examples)

    return simulated(seeds, settings, lambda rng: _examples(rng, h, examples), walk)


def _checked(arm, where, h, examples):
    whole(arm["batch_size"], f"{where}: batch_size")
    rate, m = positive(arm["learning_rate"], f"{where}: learning_rate"), arm["momentum"]
    if arm["sampling"] not in SAMPLINGS:
        raise ConfigError(f"{where}: sampling: {arm['sampling']!r} is none of {', '.join(SAMPLINGS)}.")
    if isinstance(m, bool) or not isinstance(m, (int, float)) or not 0 <= m < 1:
        raise ConfigError(f"{where}: momentum: {m!r} must be a number from 0 to less than 1.")
    if rate * h.max() >= 2 * (1 + m):
        raise ConfigError(
            f"{where}: learning_rate: {rate:g} is unstable at the curvature {h.max():g}: it has to be below "
            f"{2 * (1 + m) / h.max():g}."
        )
    if arm["sampling"] != "replacement" and arm["batch_size"] >= examples:
        raise ConfigError(f"{where}: batch_size: {arm['batch_size']} of {examples} examples has no noise.")
    if arm["sampling"] == "epochs" and (m or examples % arm["batch_size"]):
        raise ConfigError(
            f"{where}: sampling: epochs has a closed form without momentum, for batches that divide the {examples} examples."
        )
    return {**arm, "learning_rate": rate, "momentum": float(m)}


def _examples(rng, h, examples):
    """Return x, shape (N, directions), whose mean is exactly 0 and whose variance (over N, not N - 1) is exactly 1 / h."""
    x = rng.normal(size=(examples, len(h)))
    x -= x.mean(0)
    return x / (x.std(0) * np.sqrt(h))


def _walk(rng, data, h, arm, walkers, updates):
    """Return w after each update, shape (updates, walkers, directions), once the start is forgotten.

    In epochs: after each epoch.
    """
    a, m, n = arm["learning_rate"], arm["momentum"], len(data) // arm["batch_size"]
    every = n if arm["sampling"] == "epochs" else 1
    slowest = _slowest(h, a, m)
    forgotten = math.ceil(8 / -math.log(slowest)) if slowest else 1
    total = every * math.ceil((forgotten + updates) / every)
    w, v = np.zeros((walkers, len(h))), np.zeros((walkers, len(h)))
    kept = []
    for update, mean in enumerate(_batch_means(rng, data, arm, walkers, total), 1):
        v = m * v - a * h * (w - mean)
        w = w + v
        if update > forgotten and update % every == 0:
            kept.append(w)
    return np.array(kept)


def _slowest(h, a, m):
    """Return the largest modulus of the roots of z² - (1 + m - a h) z + m, by which a start fades in an update."""
    return max(np.abs(np.roots([1, -(1 + m - a * curvature), m])).max() for curvature in h)


def _batch_means(rng, data, arm, walkers, total):
    """Yield the mean example of the next batch of each walker, shape (walkers, directions)."""
    size, examples = arm["batch_size"], len(data)
    order = np.tile(np.arange(examples), (walkers, 1))
    for update in range(total):
        if arm["sampling"] == "replacement":
            chosen = rng.integers(examples, size=(walkers, size))
        elif arm["sampling"] == "without":
            chosen = np.argpartition(rng.random((walkers, examples)), size, axis=1)[:, :size]
        else:
            at = update % (examples // size) * size
            order = rng.permuted(order, axis=1) if at == 0 else order
            chosen = order[:, at : at + size]
        yield data[chosen].mean(1)


def _compared(walk, h, arm, examples):
    variance = (walk**2).mean((0, 1))  # about the minimum, which is at 0
    exact, diffusion = exact_variance(h, arm, examples), diffusion_variance(h, arm)
    row = {
        "variance_over_exact": float((variance / exact).mean()),
        "variance_over_independent": float((variance / independent_variance(h, arm)).mean()),
        "variance_over_diffusion": float((variance / diffusion).mean()),
        "steepest_over_diffusion": float(variance[-1] / diffusion[-1]),
        "excess_loss": float((h * variance).sum() / 2),
        "memory_over_exact": _memory(walk, variance, h, arm),
    }
    named = {"curvature": h, "variance": variance, "exact": exact, "diffusion": diffusion}
    return row, {key: values.tolist() for key, values in named.items()}


def _memory(walk, variance, h, arm):
    step = arm["learning_rate"] * h
    if arm["sampling"] == "epochs" or arm["momentum"] or step.max() >= 1:
        return math.nan
    ratios = []
    for i, lag in enumerate(np.maximum(1, np.round(1 / step).astype(int))):
        if lag >= len(walk):
            return math.nan
        seen = (walk[lag:, :, i] * walk[:-lag, :, i]).mean() / variance[i]
        ratios.append(math.log(1 - step[i]) / (math.log(seen) / lag) if 0 < seen < 1 else math.nan)
    return float(np.mean(ratios))
