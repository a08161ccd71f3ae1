"""Measures of sharpness beside the gap that they are said to tell, at the weights at the end of training.

Whether a number tells how a network generalizes is asked of many networks: rows of this study, one for each arm and
seed, are what `claims.correlation` takes.
"""

from tf_lbgap.experiment.checks import count, positive, whole
from tf_lbgap.reproduction.studies.measured import checked, measured
from tf_lbgap.reproduction.studies.rows import rows_of
from tf_lbgap.reproduction.studies.trained_with import batch_of, rate_of

GAPS = ("loss_gap", "accuracy_gap", "weight_norm", "rate_over_batch")


def measures(run, *, arms=None, measures=None, examples=1000, l2=1.0, num_probes=4, num_steps=20, seeds=None):
    """Measure sharpness in many ways, the evidence, and the generalization gap.

    Batch normalization runs on the statistics of the whole training set, held fixed. All ten measures cost some 250
    gradients over the examples, most of them for the trace and the exact relative flatness of the last layer, and the evidence
    num_probes x num_steps products.

    Args:
        run: A `FinishedRun`.
        arms: Names of arms; None: all.
        measures: Names in `reproduction.studies.measured.NAMES`; None: all.
        examples: Of the training set; 0: all.
        l2: λ, the precision of the prior in the evidence; see `sharpness.negative_log_evidence`. N is the whole training
            set, also where the curvature is that of fewer examples.
        num_probes, num_steps: Of the evidence.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with the measures by their names; `loss_gap`, the test loss minus that of the whole training set, and
        `accuracy_gap`, the accuracy on that minus that on the test set; `weight_norm`, of all trainable weights; and
        `rate_over_batch`, the learning rate trained with divided by the batch size, NaN if one of them is a schedule.

    References:
        Jiang, Neyshabur, Mobahi, Krishnan & Bengio, "Fantastic generalization measures and where to find them", 2020.
        Andriushchenko et al., "A modern look at the relationship between sharpness and generalization", 2023.
    """
    names = checked(measures)
    count(examples, "examples")
    l2 = positive(l2, "l2")
    steps = {"num_probes": whole(num_probes, "num_probes"), "num_steps": whole(num_steps, "num_steps")}

    def measure(arm, seed):
        subject = run.subject(arm, seed, examples)
        evidence = {"l2": l2, "num_examples": len(run.split(arm, seed).y_train), **steps}
        return {**measured(subject, names, seed=seed, evidence=evidence), **_gaps(run, arm, seed)}

    return {"rows": rows_of(run, arms, seeds, (*names, *GAPS), measure), "curves": []}


def _gaps(run, arm, seed):
    import numpy as np

    surface = run.subject(arm, seed, 0).surface  # of all examples
    weights = surface.weights()
    loss, accuracy = surface.value_and_accuracy(weights)
    row = run.row(arm, seed)
    gaps = row["test_loss"] - loss, accuracy - row["test_accuracy"], np.linalg.norm(weights)
    values = *gaps, rate_of(run, arm, seed) / batch_of(run, arm, seed)
    return {key: float(value) for key, value in zip(GAPS, values, strict=True)}
