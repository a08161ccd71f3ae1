"""The gradient noise scale of finished runs, at the end and while they trained: how many examples drown the noise?"""

from tf_lbgap.experiment.checks import count, whole
from tf_lbgap.reproduction.studies.rows import rows_of

TAG = "schedule/gradient_noise_scale"  # of `callbacks.GradientNoiseMonitor`
KEYS = ("noise_scale", "noise_scale_low", "noise_scale_high", "noise_trace", "squared_gradient")


def noise_scale(run, *, arms=None, examples=1000, micro_batch_size=32, seeds=None):
    """Measure tr(Σ) / |G|² at the weights at the end of training, G the gradient over the training set.

    A network that fits its training set has hardly a gradient left: then a sample cannot tell |G|² from 0,
    and the value or its upper end is infinite. So compare arms by `noise_trace` too, which is never so. One
    gradient of each example for an arm and seed. Batch normalization runs on the statistics of the whole
    training set, held fixed.

    Args:
        run: A `FinishedRun`.
        arms: Names of arms; None: all.
        examples: Of the training set; 0: all, for which G is exact.
        micro_batch_size: Examples whose mean gradient is taken at a time: see `gradient_noise.measure`.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `noise_scale`, in examples, and the ends of its 95 % interval `noise_scale_low` and
        `noise_scale_high`; `noise_trace` tr(Σ) and `squared_gradient` |G|², in loss² / weight². `curves` with
        `update` and these three while training, of arms that had a `callbacks.GradientNoiseMonitor` or an
        `AdaptiveBatchSize` that measures it.

    References:
        McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018, equation 2.9.
    """
    count(examples, "examples")
    whole(micro_batch_size, "micro_batch_size")

    def measure(arm, seed):
        from tf_lbgap import gradient_noise

        found = gradient_noise.measure(
            run.subject(arm, seed, examples),
            micro_batch_size=micro_batch_size,
            num_examples=len(run.split(arm, seed).y_train),
        )
        values = found.value, found.low, found.high, found.trace, found.squared_norm
        return {key: float(value) for key, value in zip(KEYS, values, strict=True)}

    rows = rows_of(run, arms, seeds, KEYS, measure)
    curves = [_while_training(run, arm, seed) for arm, seed in run.finished(arms, seeds)]
    return {"rows": rows, "curves": [curve for curve in curves if curve["update"]]}


def _while_training(run, arm, seed):
    curve = {"arm": arm, "seed": seed}
    for suffix in ("", "_low", "_high"):
        curve["update"], curve[f"noise_scale{suffix}"] = run.series(arm, seed, TAG + suffix)
    return curve
