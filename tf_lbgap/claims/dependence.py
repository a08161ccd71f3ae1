"""How far the results of several seeds depend on each other: on training examples, and on test examples.

Seeds draw their training sets from one pool, so these overlap, and so may test sets. If two results have the correlation rho, the mean of J
seeds has the variance of one times 1/J + rho/(1 - rho), as the variance between seeds estimates it. A mean over n examples
out of N shares n/N of them with another such mean, in expectation, and is correlated with it by as much: rho = n/N.

* Of what is measured on test examples that are redrawn, too, rho = n_test/N. Where these are all that the training set left over of the pool,
  N = n_train + n_test, and 1/J + n_test/n_train is Nadeau and Bengio's corrected resampled t test.
* Of all else, rho = n_train/N.

Both ascribe all of the spread between seeds to the draw of examples and none to initial weights and order, so intervals are
rather too wide.

Where the test set is one and the same for all seeds its luck comes on top: see `one_test_set`.

References:
    Nadeau and Bengio, "Inference for the generalization error", 2003.
"""

import dataclasses


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
