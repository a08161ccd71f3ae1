"""The weights by which a model is differentiated, as one flat vector.

The vector holds the trainable variables in order, each flattened row by row (C order); or those of chosen
layers only. Entries of layers that were not chosen are held fixed.
"""

import keras
import numpy as np
import tensorflow as tf


class Parameters:
    """The trainable variables of a model, or some of them, and how they lie in a flat vector.

    Args:
        model: A built Keras model.
        chosen: None for all; or a variable, a layer, the name of a layer, or a list of these.

    Attributes:
        variables: Keras variables, in the order of `model.trainable_variables`.
        size: n, how many numbers they hold.
        dtype: NumPy dtype of the flat vector: that of the widest variable, float32 at least.
        positions: Of each variable in `model.trainable_variables`.

    Raises:
        ValueError: If the model has no weights yet, or something chosen is not a trainable part of it.
    """

    def __init__(self, model, chosen=None):
        trainable = list(getattr(model, "trainable_variables", ()))
        if not getattr(model, "built", False) or not trainable:
            raise ValueError(
                f"Model {getattr(model, 'name', model)!r} has no trainable weights to differentiate by. Build it first: "
                "start it with keras.Input(shape), call it on a batch once, or set trainable=True."
            )
        wanted = {id(v) for v in trainable} if chosen is None else _chosen(model, trainable, chosen)
        self.positions = [i for i, v in enumerate(trainable) if id(v) in wanted]
        self.variables = [trainable[i] for i in self.positions]
        self.shapes = [tuple(v.shape) for v in self.variables]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.size = sum(self.sizes)
        self.dtype = np.result_type("float32", *(_numpy_dtype(v) for v in self.variables))

    def values(self):
        """The present weights, shape (n,)."""
        return np.concatenate([np.asarray(v.numpy(), self.dtype).ravel() for v in self.variables])

    def split(self, vector):
        """A vector of shape (n,) as a list of arrays with the shapes of the variables."""
        parts = np.split(np.asarray(vector), np.cumsum(self.sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def assign(self, vector):
        """Give the model the weights of a vector of shape (n,)."""
        for variable, part in zip(self.variables, self.split(vector), strict=True):
            variable.assign(part)

    def tensors(self):
        """The present weights as a list of tensors, read when the traced function runs."""
        return [tf.convert_to_tensor(v.value) for v in self.variables]

    def unflatten(self, vector):
        """A tensor of shape (n,) as a list of tensors with shapes and dtypes of the variables."""
        parts = zip(tf.split(vector, self.sizes), self.shapes, self.variables, strict=True)
        return [tf.cast(tf.reshape(part, shape), variable.dtype) for part, shape, variable in parts]

    def flatten(self, tensors):
        """The reverse of `unflatten`. Gradients of Embedding weights, IndexedSlices, are made dense."""
        parts = zip(tensors, self.sizes, strict=True)
        return tf.concat([tf.cast(tf.reshape(tf.convert_to_tensor(t), [n]), self.dtype) for t, n in parts], 0)


def _chosen(model, trainable, chosen):
    items = list(chosen) if isinstance(chosen, (list, tuple, set)) else [chosen]
    known, wanted = {id(v) for v in trainable}, set()
    for item in items:
        found = _variables_of(model, item)
        missing = [v.path for v in found if id(v) not in known]
        if not found or missing:
            what = f"variable {missing[0]!r} of it" if missing else "it"
            raise ValueError(
                f"variables names {item!r}, but {what} has nothing to train in model {model.name!r}. Pass layers, "
                "names of layers, or variables out of model.trainable_variables."
            )
        wanted |= {id(v) for v in found}
    if not wanted:
        raise ValueError("variables is empty. Leave it out for all weights, or name at least one layer.")
    return wanted


def _variables_of(model, item):
    if isinstance(item, str):
        layers = [layer for layer in model._flatten_layers(include_self=False) if layer.name == item]
        if not layers:
            names = ", ".join(layer.name for layer in model.layers)
            raise ValueError(f"variables names a layer {item!r}, but {model.name!r} has {names}.")
        return [v for layer in layers for v in layer.trainable_variables]
    if isinstance(item, keras.Layer):
        return list(item.trainable_variables)
    if isinstance(item, keras.Variable):
        return [item]
    raise ValueError(
        f"variables holds {item!r}, a {type(item).__name__}, but should hold layers, names of layers, or variables of "
        "the model."
    )


def _numpy_dtype(variable):
    return "float64" if variable.dtype == "float64" else "float32"
