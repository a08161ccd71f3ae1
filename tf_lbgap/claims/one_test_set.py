"""The luck of one test set: the variance that comes on top where all seeds are judged on the same test examples.

Such a set is a sample, too, whose luck does not average out over seeds. Resampling its examples, with replacement and the same for all
arms and seeds, tells the variance of a statistic because of them: of accuracy and loss on them, and of gaps, which move with these
(`MOVES_WITH`). Of what else is measured on test examples single values are not kept; then its luck is not counted, and the verdict says so.

References:
    Efron and Tibshirani, "An introduction to the bootstrap", 1993.
"""

import math

import numpy as np

from tf_lbgap.claims.statistics import Missing

RESAMPLES = 400
MOVES_WITH = {
    "test_accuracy": ("test_accuracy", 1),
    "test_loss": ("test_loss", 1),
    "accuracy_gap": ("test_accuracy", -1),  # training minus test
    "loss_gap": ("test_loss", 1),  # test minus training
    "generalization_gap": ("test_loss", 1),
}
"""Keys of rows, the mean over test examples that each moves with, and its sign there."""

NOT_RESAMPLED = ("test_", "robust_", "input_", "least_input_", "loss_difference", "loss_over_", "gap_over_")
"""What else begins like these is of test examples, too, of which single values are not kept."""


def luck_of_test_set(statistic, by_seed, seeds, lookup):
    """Return the variance that one test set of all seeds adds to that of the mean, and what is to be said of it.

    Args:
        statistic: A `Statistic`.
        by_seed: List of `{arm: row}`, one for each seed.
        seeds: As many seeds.
        lookup: Function (arm, seed) that returns the values of single test examples, or None; see `claim.judge`. Gaps of what lies between
            two arms, `small to large`, are those of the first.

    Returns:
        A float, and a text: (0.0, "") if seeds have several test sets, or the statistic is of none.
    """
    of_test = [key for key in statistic.keys if key in MOVES_WITH or key.startswith(NOT_RESAMPLED)]
    sets = {row.get("test_set") for rows in by_seed for row in _read(statistic, rows).values()}
    if not of_test or len(sets) != 1:
        return 0.0, ""
    found = math.nan
    if lookup is not None:
        each = [_examples(statistic, rows, seed, lookup) for rows, seed in zip(by_seed, seeds, strict=True)]
        found = variance_of_test_set(statistic, by_seed, each)
    is_known = not math.isnan(found)
    words = ["one test set, its examples bootstrapped"] if is_known and MOVES_WITH.keys() & of_test else []
    if sets != {None} and not (is_known and set(of_test) <= MOVES_WITH.keys()):
        words.append(
            "the luck of the one test set is not counted" + (f" for {_unknown(of_test)}" if words else "")
        )
    return (found if is_known else 0.0), "; ".join(words)


def variance_of_test_set(statistic, by_seed, examples, *, seed=0):
    """Return the variance that the mean of a statistic over seeds has because of the test examples.

    Args:
        statistic: A `Statistic`.
        by_seed: List of `{arm: row}`, one for each seed.
        examples: As many dicts `{arm: {"test_accuracy": array, "test_loss": array}}` of the values of single test examples, in one
            order.
        seed: Of the resamples.

    Returns:
        A float, in the unit of the statistic squared; 0 if it reads nothing that moves with them, NaN if nothing is known: an arm is
        missing, or some resample has no statistic, such as a ratio of a gap that is below 0 there.
    """
    moved = [key for key in statistic.keys if key in MOVES_WITH]
    if not moved or not by_seed:
        return 0.0
    if any(_read(statistic, rows).keys() - each for rows, each in zip(by_seed, examples, strict=True)):
        return math.nan
    total = len(next(iter(examples[0].values()))[MOVES_WITH[moved[0]][0]])
    counts = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), RESAMPLES) / total
    means = np.zeros(RESAMPLES)
    for rows, values in zip(by_seed, examples, strict=True):
        rows = _read(statistic, rows)
        changes = {arm: _changes(moved, values[arm], counts) for arm in rows}
        for i in range(RESAMPLES):
            changed = {arm: _moved(row, changes[arm], i) for arm, row in rows.items()}
            try:
                means[i] += statistic(changed) / len(by_seed)
            except Missing:
                return math.nan
    return float(means.var(ddof=1))


def _read(statistic, rows):
    """The rows of one seed that a statistic reads."""
    return rows if statistic.arms is None else {arm: rows[arm] for arm in statistic.arms}


def _examples(statistic, rows, seed, lookup):
    """The test examples of each arm that has them."""
    found = {}
    for arm in _read(statistic, rows):
        values = lookup(arm, seed)
        if values is None and " to " in arm:
            values = lookup(arm.split(" to ")[0], seed)
        if values is not None:
            found[arm] = values
    return found


def _changes(keys, values, counts):
    """By how much resampling moves each key, {key: shape (resamples,)}."""
    found = {}
    for key in keys:
        source, sign = MOVES_WITH[key]
        single = np.asarray(values[source], float)
        found[key] = sign * (counts @ single - single.mean())
    return found


def _moved(row, changes, i):
    """A row as the i-th resample has it."""
    return {
        **row,
        **{key: row[key] + change[i] for key, change in changes.items() if row.get(key) is not None},
    }


def _unknown(keys):
    return ", ".join(key.replace("_", " ") for key in keys if key not in MOVES_WITH)
