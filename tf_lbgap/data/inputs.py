"""What a user gives to `Batches`, brought to one form and checked where it enters."""

import keras
import numpy as np
import tensorflow as tf


def pack(x, y, sample_weight):
    if sample_weight is not None:
        return (x, y, sample_weight)
    if y is not None:
        return (x, y)
    return (x,) if isinstance(x, (tuple, list)) else x


def to_arrays(part, name):
    """Return nested arrays; as in Keras, a list of arrays is several inputs and a list of numbers one array."""
    if isinstance(part, dict):
        return {key: to_arrays(value, f"{name}[{key!r}]") for key, value in part.items()}
    if isinstance(part, (tuple, list)) and part and all(len(getattr(value, "shape", ())) for value in part):
        return tuple(to_arrays(value, f"{name}[{i}]") for i, value in enumerate(part))
    if part is None and name != "x":
        return None
    try:
        array = np.asarray(part)
    except ValueError:  # rows of unequal length
        array = np.array(None)
    if array.dtype == object:
        raise ValueError(
            f"{name} is not an array of numbers, but {type(part).__name__}. Batches takes arrays, tuples and dicts of "
            "arrays, lists of numbers and data frames; for a tf.data.Dataset write Batches.from_dataset(dataset, ...)."
        )
    return array


def common_length(**parts):
    lengths = {}
    for name, part in parts.items():
        for path, array in keras.tree.flatten_with_path(part) if part is not None else ():
            label = name + "".join(f"[{key!r}]" for key in path)
            if not np.ndim(array):
                raise ValueError(f"{label}={array!r} is not an array of examples.")
            lengths[label] = np.shape(array)[0]
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        told = ", ".join(f"{label} has {length}" for label, length in lengths.items())
        raise ValueError(
            f"Batches needs arrays with one row per example, of equal length and not empty: {told}."
        )
    return next(iter(lengths.values()))


def check_seed(seed):
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ValueError(f"seed={seed!r} must be a whole number.")
    return int(seed)


def check_cardinality(dataset, num_examples):
    specs = tf.nest.flatten(dataset.element_spec)
    if all(
        getattr(spec, "shape", None) is not None and spec.shape.rank and spec.shape[0] is None
        for spec in specs
    ):
        raise ValueError(
            f"The data set is batched already, or its examples have no fixed shape: {dataset.element_spec}. Give "
            "from_dataset single examples: dataset.unbatch(), or fix their shape with tf.ensure_shape in a map."
        )
    known = int(dataset.cardinality())
    if num_examples is None:
        if known < 0:
            raise ValueError(
                "The data set does not know how many examples it holds: give from_dataset(..., num_examples=)."
            )
        num_examples = known
    if isinstance(num_examples, bool) or not isinstance(num_examples, (int, np.integer)) or num_examples < 1:
        raise ValueError(f"num_examples={num_examples!r} must be a whole number of at least 1.")
    if 0 <= known < num_examples:
        raise ValueError(
            f"num_examples={num_examples}, but the data set holds {known}. Pass num_examples={known}."
        )
    return int(num_examples)
