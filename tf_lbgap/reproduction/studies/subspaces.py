"""Sharpness where the box has few dimensions: how steep is a random direction, not the steepest?

The largest rise in the full space is found along few directions; a random manifold of 100 dimensions holds
little of them. That large batches are sharper there too says that sharpness is not the matter of one
direction.
"""

from tf_lbgap.experiment.checks import count, positive, whole
from tf_lbgap.reproduction.studies.rows import rows_of


def subspace_sharpness(run, *, arms=None, dimensions=100, epsilon=1e-3, examples=1000, seeds=None):
    """Keskar et al.'s sharpness φ in a random manifold, at the weights at the end of training.

    The manifold is drawn with the seed of the run: arms of a seed have the same one, seeds have others. Batch
    normalization runs on the statistics of the whole training set, held fixed. Some ten gradients over the
    examples for each arm and seed, and the memory of `dimensions` vectors of the weights.

    Args:
        run: A `FinishedRun`.
        arms: Names of arms; None: all.
        dimensions: Columns of A, independent N(0, 1) entries: see `sharpness.epsilon_sharpness`.
        epsilon: ε.
        examples: Of the training set; 0: all.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `sharpness_100` (the number is `dimensions`), in percent.

    References:
        Keskar et al., "On large-batch training for deep learning", 2017, metric 2.1 and Table 4.
    """
    dimensions, epsilon = whole(dimensions, "dimensions"), positive(epsilon, "epsilon")
    count(examples, "examples")
    key = f"sharpness_{dimensions}"

    def measure(arm, seed):
        from tf_lbgap import sharpness

        subject = run.subject(arm, seed, examples)
        value = sharpness.epsilon_sharpness(subject, epsilon=epsilon, subspace=dimensions, seed=seed)
        return {key: float(value)}

    return {"rows": rows_of(run, arms, seeds, [key], measure), "curves": []}
