"""Neighbouring training sets, which differ in a single example: how far apart do they lead a training?

An algorithm is uniformly stable if its result hardly depends on any one example, and what is stable
generalizes (Bousquet & Elisseeff). Two arms of an experiment, one on a data set and one on its neighbour, have the
same initial weights and the same order of examples, which depend on the seed alone; so all that differs between
their weights comes from that example.

References:
    Bousquet & Elisseeff, "Stability and generalization", 2002. Hardt, Recht & Singer, "Train faster, generalize
    better: stability of stochastic gradient descent", 2016, section 2.
"""

import dataclasses
import numbers

import numpy as np

from tf_lbgap.data.splits import as_split

_STREAM = 0x7E19B0  # beside a seed: its draws are not those by which the data of that seed were chosen


def one_example_replaced(data, *, index=None, by=None, seed=0):
    """Exchange one example of the training set for one of the test set.

    Both sets keep their sizes, and no example is in both. Which examples they are is drawn: where all seeds of an experiment
    have the same test set, a fixed one would be in each of them. Costs a copy of both sets.

    Usage: `one_example_replaced(lb.data.datasets.digits())`; in a configuration
    `data: {call: data.neighbours.one_example_replaced, data: {call: data.datasets.digits}}`.

    Args:
        data: A `Split`, or `((x_train, y_train), (x_test, y_test))`.
        index: Position in the training set; None: drawn.
        by: Position in the test set; None: drawn, and for test sets of equal size the same, whatever the training set.
        seed: Seed of what is drawn; an experiment gives that of the data. Equal seeds exchange equal positions.

    Returns:
        `Split`.

    Raises:
        ValueError: If a set has no such position, or x or y is not a single array.

    Example:
        >>> a, b = datasets.digits(seed=1), one_example_replaced(datasets.digits(seed=1), index=7)
        >>> np.flatnonzero((a.x_train != b.x_train).any(axis=1))
        array([7])
    """
    split = as_split(data, "data")
    parts = split.x_train, split.y_train, split.x_test, split.y_test
    if any(isinstance(part, (tuple, list, dict)) for part in parts):
        raise ValueError("x or y consists of several arrays, but one example of single arrays is replaced.")
    x_train, y_train, x_test, y_test = (np.array(part) for part in parts)
    rng = np.random.default_rng([seed, _STREAM])
    drawn_by, drawn_index = rng.integers(len(y_test)), rng.integers(len(y_train))
    by, index = drawn_by if by is None else by, drawn_index if index is None else index
    for name, at, size in (("index", index, len(y_train)), ("by", by, len(y_test))):
        if isinstance(at, bool) or not isinstance(at, numbers.Integral) or not 0 <= at < size:
            raise ValueError(f"{name}={at!r} must be a position from 0 to {size - 1}.")
    for train, test in ((x_train, x_test), (y_train, y_test)):
        train[index], test[by] = test[by].copy(), train[index].copy()
    name = f"{split.name}, example {index} replaced"
    return dataclasses.replace(
        split, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, name=name
    )
