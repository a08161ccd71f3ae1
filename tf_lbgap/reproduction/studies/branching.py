"""The critical batch size while training, by branches: small at the start, and then?

An arm is trained once more, at the batch and the rate it begins with. At each moment branches of k times its batch go on
from where it stands, and the largest that loses nothing is critical; beside it stands the gradient noise scale of the same
weights, which is said to tell the same.
"""

import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.checks import count, whole
from tf_lbgap.reproduction.studies.rows import rows_of

_SUMMARY = ("doublings", "last_doublings", "decades_over_noise")


def branched(
    run,
    *,
    arms=None,
    seeds=None,
    epochs=(0, 1, 2, 4),
    factors=(1, 2, 4, 8, 16),
    examples=None,
    tolerance=0.01,
    orders=1,
    check_examples=1000,
):
    """Measure the critical batch size of arms at moments of their training, and the noise scale beside it.

    Each moment costs `examples` x factors x `orders` of training, and the training itself is done once more.

    Args:
        run: A `FinishedRun`: arms and data are its own; what was trained is not used.
        arms: Names of arms; None: all.
        seeds: How many of the run's seeds; None: all.
        epochs: The moments, ascending whole numbers.
        factors: k; batches of k times the arm's own are tried.
        examples: What each branch is trained on; None: 16 updates of the largest.
        tolerance: What a loss may be above that of a smaller batch and count as no worse.
        orders: Orders of the examples that each branch is trained in; losses are averaged over them.
        check_examples: Training examples that losses are over.

    Returns:
        `rows` with `critical_batch_at_4` and `noise_scale_at_4`, ..., in examples, for each moment; `doublings`, log2 of the last
        critical batch over the first, and `last_doublings`, over the last but one; and `decades_over_noise`, log10 of the last
        critical batch over the noise scale there. The last two are NaN where the largest factor lost nothing either, so that the
        critical batch is not known; `doublings` is at least what it says then.
        A critical batch is the largest tried that was no worse: from the smallest to the largest size. `curves` with `epochs`,
        `critical`, `critical_low`, `critical_high`, `noise_scale`, `noise_scale_low`, `noise_scale_high` and `loss`. What
        cannot be told is NaN.

    References:
        Merrill et al., "Critical batch size revisited", 2025, sections 2 and 3.
    """
    epochs = [count(epoch, "epochs") for epoch in ([epochs] if np.isscalar(epochs) else epochs)]
    if len(epochs) < 2 or epochs != sorted(set(epochs)):
        raise ConfigError(f"epochs: {epochs} must be two or more, ascending, such as [0, 1, 4].")
    options = {
        "factors": tuple(factors),
        "examples": examples,
        "tolerance": tolerance,
        "seeds": whole(orders, "orders"),
        "check_examples": whole(check_examples, "check_examples"),
    }
    curves = []

    def measure(arm, seed):
        curve = _curve(run.experiment.arms[arm], seed, epochs, options)
        curves.append({"arm": arm, "seed": seed, **curve})
        return _row(curve)

    keys = [f"{key}_at_{epoch}" for key in ("critical_batch", "noise_scale") for epoch in epochs]
    return {
        "rows": rows_of(run, arms, seeds, (*keys, *_SUMMARY), measure),
        "curves": curves,
    }


def _curve(arm, seed, epochs, options):
    from tf_lbgap.pilot.configured import branches_of_arm

    columns = ("epochs", "critical", "critical_low", "critical_high", "loss")
    curve = {key: [] for key in (*columns, "noise_scale", "noise_scale_low", "noise_scale_high")}
    for epoch, found, noise in branches_of_arm(arm, epochs, seed=seed, **options):
        values = epoch, found.value, *found.interval, found.start_loss
        values += (math.nan,) * 3 if noise is None else (noise.noise_scale, noise.low, noise.high)
        for column, value in zip(curve.values(), values, strict=True):
            column.append(float(value))
    return curve


def _row(curve):
    moments = [f"{epoch:g}" for epoch in curve["epochs"]]
    critical, noise = curve["critical"], curve["noise_scale"]
    has_end = np.isfinite(curve["critical_high"])  # else the largest factor lost nothing either
    return {
        **{f"critical_batch_at_{at}": value for at, value in zip(moments, critical, strict=True)},
        **{f"noise_scale_at_{at}": value for at, value in zip(moments, noise, strict=True)},
        "doublings": math.log2(critical[-1] / critical[0]),
        "last_doublings": math.log2(critical[-1] / critical[-2]) if has_end[-2:].all() else math.nan,
        "decades_over_noise": math.log10(critical[-1] / noise[-1])
        if has_end[-1] and 0 < noise[-1] < math.inf
        else math.nan,
    }
