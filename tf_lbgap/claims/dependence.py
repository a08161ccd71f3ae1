"""How far the results of several seeds depend on each other: on training examples, and on test examples.

Seeds draw their training sets from one pool, so these overlap, and so may test sets. If two results have the correlation rho, the mean of J
seeds has the variance of one times 1/J + rho/(1 - rho), as the variance between seeds estimates it. A mean over n examples
out of N shares n/N of them with another such mean, in expectation, and is correlated with it by as much: rho = n/N.

* Of what is measured on test examples that are redrawn, too, rho = n_test/N. Where these are all that the training set left over of the pool,
  N = n_train + n_test, and 1/J + n_test/n_train is Nadeau and Bengio's corrected resampled t test.
* Of all else, rho = n_train/N.

Both ascribe all of the spread between seeds to the draw of examples and none to initial weights and order, so intervals are
rather too wide.

Where the test set is one and the same for all seeds it is a sample, too, whose luck does not average out over them. Resampling its
examples gives the variance that comes on top.

References:
    Nadeau and Bengio, "Inference for the generalization error", 2003.
    Efron and Tibshirani, "An introduction to the bootstrap", 1993.
"""

import dataclasses

import numpy as np

RESAMPLES = 400
OF_TEST_EXAMPLES = ("test_accuracy", "test_loss")


@dataclasses.dataclass(frozen=True)
class Dependence:
    """What the variance of one seed is multiplied by for that of the mean of J seeds: 1/J + extra."""

    extra: float
    words: str  # how the seeds depend on each other; may be empty


def dependence(rows, of=""):
    """Return the `Dependence` of seeds whose results are these.

    Args:
        rows: Dicts as in `results.json`; of `num_train`, `num_test`, `pool` and `test_set` those that are there are used.
        of: Key of the quantity; what begins with "test_" or "robust_" is measured on test examples.
    """
    rows = [row for row in rows if row.get("num_train")]
    if not rows:
        return Dependence(0.0, "")
    train, test, pool = (max(row.get(key) or 0 for row in rows) for key in ("num_train", "num_test", "pool"))
    redrawn = len({row.get("test_set") for row in rows}) > 1
    if redrawn and of.startswith(("test_", "robust_")):
        rest = max(train, pool - test)
        return Dependence(test / rest, f"splits redrawn: variance × (1/J + {test}/{rest})")
    if pool > train:
        words = f"{train} of {pool} training examples redrawn: variance × (1/J + {train}/{pool - train})"
        return Dependence(train / (pool - train), words)
    return Dependence(0.0, "one training set: nothing is said of others" if pool else "")


def variance_of_test_set(statistic, by_seed, examples, *, seed=0):
    """Return the variance that the mean of a statistic over seeds has because of the test examples.

    Args:
        statistic: A `Statistic`.
        by_seed: List of `{arm: row}`, one for each seed.
        examples: As many dicts `{arm: {"test_accuracy": array, "test_loss": array}}` of the values of single test examples, in one
            order. An arm that is missing makes the answer 0: nothing is known.
        seed: Of the resamples.

    Returns:
        A float, in the unit of the statistic squared; 0 if it is not of test examples.
    """
    if statistic.of not in OF_TEST_EXAMPLES or not by_seed:
        return 0.0
    arms = statistic.arms or tuple(by_seed[0])
    if any(arm not in each for each in examples for arm in arms):
        return 0.0
    total = len(examples[0][arms[0]][statistic.of])
    counts = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), RESAMPLES) / total
    means = np.zeros(RESAMPLES)
    for rows, values in zip(by_seed, examples, strict=True):
        resampled = {arm: counts @ np.asarray(values[arm][statistic.of], float) for arm in arms}
        for i in range(RESAMPLES):
            changed = {arm: {**rows[arm], statistic.of: resampled[arm][i]} for arm in arms}
            means[i] += statistic(changed) / len(by_seed)
    return float(means.var(ddof=1))
