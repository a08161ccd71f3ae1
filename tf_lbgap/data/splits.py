"""What a function of data gave as a `Split`, and a part of its training set that is held out."""

import dataclasses
import math
import numbers

import numpy as np

from tf_lbgap.data.datasets import Split

_FIELDS = ("x_train", "y_train", "x_test", "y_test", "name", "pool")


def held_out(split, *, share=0.2, seed=0):
    """Cuts a training set in two, at random: what is held out takes the place of the test set, which is dropped.

    What is chosen by the part held out has not seen the test set.

    Args:
        split: A `Split`, or `((x_train, y_train), (x_test, y_test))`.
        share: Of the training set that is held out, above 0 and below 1; rounded up to whole examples.
        seed: Seed of the permutation whose last examples are held out.

    Returns:
        `Split`, of the class that came: what belongs to an example goes with it, and `num_classes` of a vocabulary stay.

    Raises:
        ValueError: If the share is out of range, or nothing would remain to train on.

    Example:
        >>> held_out(datasets.digits(num_train=1001)).x_test.shape
        (201, 64)
    """
    import keras

    split = as_split(split, "data")
    if not isinstance(split, Split):  # only like one
        split = Split(*(getattr(split, name) for name in _FIELDS))
    if isinstance(share, bool) or not isinstance(share, numbers.Real) or not 0 < share < 1:
        raise ValueError(
            f"share={share!r} of the training set cannot be held out; it is above 0 and below 1."
        )
    total = len(keras.tree.flatten(split.y_train)[0])
    train = total - math.ceil(round(share * total, 9))
    if train < 1:
        raise ValueError(f"{total} examples are too few to hold out {share} of them. Pass a smaller share.")
    order = np.random.default_rng(seed).permutation(total)
    sides = {"train": order[:train], "test": order[train:]}
    parts = {
        f"{name}_{side}": part
        for side, chosen in sides.items()
        for name, part in split.training_examples(chosen).items()
    }
    drawn = split.num_drawn and min(split.num_drawn, train)
    return dataclasses.replace(split, **parts, name=f"{split.name}, held out", num_drawn=drawn)


def as_split(value, name):
    """Returns a `Split` of what a function of data gave: one, or `((x_train, y_train), (x_test, y_test))`.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(value, (tuple, list)) and len(value) == 2:
        (x_train, y_train), (x_test, y_test) = value
        return Split(x_train, y_train, x_test, y_test, name=name)
    if not hasattr(value, "x_train"):
        raise ValueError(
            f"{name} returned {type(value).__name__}, but should return a tf_lbgap.data.datasets.Split or "
            "((x_train, y_train), (x_test, y_test))."
        )
    return value
