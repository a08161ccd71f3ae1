"""Label noise: training labels that are wrong on purpose, so that their share is known.

Labels of random examples cancel in the mean gradient of a batch, so noise acts like a smaller batch: what a large
batch loses without noise it may win with much of it. Two ways to add it:

- `fraction`: that share of the examples gets another draw of its label; the set keeps its size (Zhang et al.).
- `alpha`: each clean example is joined by `alpha` copies with drawn labels; the set grows to (1 + alpha) N, and
  1 / (1 + alpha) of it is clean (Rolnick et al.). All the clean ones stay.

Where examples have a label at each place, such as the next character, a fraction is one of all labels, at random places, and a copy has
all of its labels drawn. Padding stays, and is never drawn. Inputs stay as they are: what a translation network is told of the
target before each place is the clean one.

Test labels are never touched.

References:
    Rolnick et al., "Deep learning is robust to massive label noise", 2017 (arXiv 1705.10694): alpha.
    Zhang et al., "Understanding deep learning requires rethinking generalization", 2017, section 2.1: fraction.
    Patrini et al., "Making deep neural networks robust to label noise: a loss correction approach", 2017: the
    transition matrix.
"""

import dataclasses
import math
import numbers

import numpy as np

from tf_lbgap.data.splits import as_split


def noisy_labels(data, *, fraction=None, alpha=None, kind="uniform", num_classes=None, seed=0):
    """Draw anew the labels of a part of the training examples, or of copies of all of them.

    Usage: `noisy_labels(lb.data.datasets.digits(), alpha=5)`; in a configuration
    `data: {call: data.corruption.noisy_labels, data: {call: data.datasets.digits}, alpha: 5}`.

    Args:
        data: A `Split`, or `((x_train, y_train), (x_test, y_test))`, or arrays `(x, y)`. Labels are whole numbers
            from 0, of shape (N,), (N, 1) or (N, T).
        fraction: Share of the labels that is drawn anew, from 0 to 1: exactly round(fraction · number) of them, at random.
        alpha: Noisy labels per clean one, 0 or more: round(alpha · N) copies are added, of each example as many
            but for one, and all examples are shuffled. x takes 1 + alpha times its memory. One of the two is given.
        kind: What a label of class c becomes:
            "uniform": any of the K classes, c itself too, each with probability 1/K, as in both papers. So of a
                fraction f only f (K - 1) / K are wrong.
            "confused": the class after it, c + 1 modulo K, always.
            a matrix of shape (K, K), arrays or nested lists: class j with probability `kind[c][j]`. With padding
                the two are of the K - 1 other classes, in their order.
        num_classes: K, padding among them. Defaults to that of the split, or 1 + the largest label.
        seed: Seed of what is drawn. Equal seeds give equal labels.

    Returns:
        What came, a `Split` for the first two forms, with noisy training labels in the dtype that they had.

    Raises:
        ValueError: If an argument is out of range, both or none of `fraction` and `alpha` are given, labels are no
            whole numbers, or the rows of a matrix are no probabilities.

    Example:
        >>> x, y = np.zeros((6, 2)), np.array([0, 1, 2, 0, 1, 2])
        >>> noisy_labels((x, y), fraction=1, kind="confused")[1]
        array([1, 2, 0, 1, 2, 0])
        >>> noisy_labels((x, y), alpha=2)[0].shape
        (18, 2)
    """
    amount = _checked_amount(fraction, alpha)
    options = {"adds": alpha is not None, "amount": amount, "kind": kind, "seed": seed}
    if _is_pair_of_arrays(data):
        x, y = map(np.asarray, data)
        numbers_of, labels = _corrupted(x, y, num_classes=num_classes, **options)
        return (x if numbers_of is None else x[numbers_of]), labels
    split = as_split(data, "data")
    classes = split.num_classes if num_classes is None else num_classes
    y, padding = np.asarray(split.y_train), getattr(split, "padding", None)
    numbers_of, labels = _corrupted(split.x_train, y, num_classes=classes, padding=padding, **options)
    taken = {} if numbers_of is None else split.training_examples(numbers_of)
    parts = {f"{part}_train": value for part, value in taken.items()} | {"y_train": labels}
    what = kind if isinstance(kind, str) else "class-dependent"
    noise = (
        f"{amount:g} noisy labels per clean one" if alpha is not None else f"{100 * amount:g} % noisy labels"
    )
    name = f"{split.name}, {noise} ({what})"
    return dataclasses.replace(split, **parts, name=name, num_drawn=split.num_drawn or len(y))


def _corrupted(x, y, *, adds, amount, kind, num_classes, seed, padding=None):
    """Return which examples there are then (None: those that came, in their order), and their labels."""
    labels = _checked_labels(x, y)
    num_classes = _checked_classes(labels, num_classes, y.dtype)
    classes = np.array([number for number in range(num_classes) if number != padding])
    draw, rng = _drawer(kind, len(classes)), np.random.default_rng(seed)

    def put(labels, places):
        labels[places] = classes[draw(rng, np.searchsorted(classes, labels[places]))]

    if not adds:
        places = _places(labels.ravel(), padding)
        put(labels.reshape(-1), places[rng.permutation(len(places))[: round(amount * len(places))]])
        return None, labels.reshape(y.shape).astype(y.dtype)
    copies = _copied(rng, len(labels), amount)
    noisy = labels[copies]
    put(noisy.reshape(-1), _places(noisy.ravel(), padding))
    everything = np.concatenate([labels, noisy])
    # Shuffled, for the first thousand of a training set are taken as a sample of it.
    order = rng.permutation(len(everything))
    of = np.concatenate([np.arange(len(labels)), copies])[order]
    return of, everything[order].reshape(-1, *y.shape[1:]).astype(y.dtype)


def _places(labels, padding):
    """Where labels are no padding, int64 of shape (places,)."""
    return np.arange(len(labels)) if padding is None else np.flatnonzero(labels != padding)


def _copied(rng, num_examples, alpha):
    """Indices of the examples that are copied, int64 of shape (round(alpha N),): each floor(alpha) times or once more."""
    whole, rest = divmod(round(alpha * num_examples), num_examples)
    return np.concatenate([np.tile(np.arange(num_examples), whole), rng.permutation(num_examples)[:rest]])


def _drawer(kind, num_classes):
    """Return the function (rng, clean labels) -> drawn labels."""
    if isinstance(kind, str):
        if kind == "uniform":
            return lambda rng, labels: rng.integers(0, num_classes, len(labels))
        if kind == "confused":
            return lambda rng, labels: (labels + 1) % num_classes
        raise ValueError(f'kind={kind!r} should be "uniform", "confused" or a matrix of shape (K, K).')
    upper = np.cumsum(_checked_matrix(kind, num_classes), axis=1)
    upper /= upper[:, -1:]  # exactly 1 from the last class on that has a chance

    def draw(rng, labels):
        at, drawn = rng.random(len(labels)), np.empty_like(labels)
        for clean in range(num_classes):
            drawn[labels == clean] = np.searchsorted(upper[clean], at[labels == clean], side="right")
        return drawn

    return draw


def _checked_amount(fraction, alpha):
    if (fraction is None) == (alpha is None):
        raise ValueError(
            f"fraction={fraction!r} and alpha={alpha!r} were given; give one of them: fraction=0.2 draws a fifth of the "
            "labels anew, alpha=5 adds five noisy copies of each example."
        )
    name, value, largest = ("fraction", fraction, 1) if alpha is None else ("alpha", alpha, math.inf)
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 <= value <= largest:
        wanted = "from 0 to 1" if alpha is None else "of at least 0"
        raise ValueError(f"{name}={value!r} should be a number {wanted}.")
    return float(value)


def _is_pair_of_arrays(data):
    is_pair = isinstance(data, list | tuple) and len(data) == 2
    return is_pair and not any(isinstance(part, list | tuple) for part in data)


def _checked_labels(x, y):
    """Return a copy of the labels, int64 of shape (N, T), T = 1 if each example has one."""
    one_hot = y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all()
    if y.dtype.kind not in "iu" or y.ndim not in (1, 2) or one_hot:
        raise ValueError(
            f"Labels are {y.dtype} of shape {y.shape}{', one-hot' if one_hot else ''}, but label noise needs whole numbers of shape (N,), "
            "(N, 1) or, for sequences, (N, T). Turn one-hot labels into numbers with y.argmax(-1)."
        )
    shapes = [np.shape(part) for part in (x if isinstance(x, list | tuple) else [x])]
    if any(not shape or shape[0] != len(y) for shape in shapes) or not y.size:
        raise ValueError(
            f"x has shape {', '.join(map(str, shapes))} and y {y.shape}: they should hold equally many examples, 1 or more."
        )
    return y.reshape(len(y), -1).astype(np.int64)


def _checked_classes(labels, num_classes, dtype):
    largest = int(labels.max())
    if labels.min() < 0:
        raise ValueError(f"Labels go down to {labels.min()}, but classes are numbers from 0 on.")
    if num_classes is None:
        return largest + 1
    if (
        isinstance(num_classes, bool)
        or not isinstance(num_classes, numbers.Integral)
        or num_classes <= largest
    ):
        raise ValueError(
            f"num_classes={num_classes!r} should be a whole number above {largest}, the largest label."
        )
    if num_classes - 1 > np.iinfo(dtype).max:
        raise ValueError(f"num_classes={num_classes!r} is more than labels of type {dtype} can tell apart.")
    return int(num_classes)


def _checked_matrix(kind, num_classes):
    try:
        matrix = np.asarray(kind, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (num_classes, num_classes):
        raise ValueError(
            f'kind={kind!r} should be "uniform", "confused" or a matrix of shape ({num_classes}, {num_classes}), one row '
            "of probabilities per clean class."
        )
    sums = matrix.sum(axis=1)
    if not (matrix >= 0).all() or not np.allclose(sums, 1, rtol=0, atol=1e-6):
        row = int(np.argmax((matrix < 0).any(axis=1) | ~np.isclose(sums, 1, rtol=0, atol=1e-6)))
        raise ValueError(
            f"Row {row} of kind is {matrix[row].tolist()}, but should hold probabilities that add up to 1."
        )
    return matrix
