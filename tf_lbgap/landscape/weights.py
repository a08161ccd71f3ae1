"""Weights as people have them: a model, a saved file, arrays; and weights put back as they were.

All become one flat vector of the trainable weights, laid out as `curvature.LossSurface.weights()` does.
"""

import contextlib
import os

import keras
import numpy as np

from tf_lbgap.batch_normalization import recalibrated_layers
from tf_lbgap.curvature.parameters import Parameters

FORMS = (
    "a model of the same architecture, the path of a .weights.h5 file, model.get_weights(), the arrays of "
    "model.trainable_variables, or one flat vector"
)


def flat_weights(model, weights, name="weights"):
    """The trainable weights out of any of the forms in which they come, as a flat vector.

    Weights that do not train are not moved, so `model` should have the same: full lists are compared with it.
    (Statistics of batch normalization may differ, and are not used.)

    Args:
        model: A built Keras model, which says what trains. It is left as it is.
        weights: A model of the same architecture; the path of weights saved by `model.save_weights`; the list
            `model.get_weights()`; the list of arrays of the trainable variables only; or a vector (n,).
        name: What to call it in messages.

    Returns:
        Shape (n,): a vector as it came, not copied; lists of arrays in the dtype of the model's weights.

    Raises:
        ValueError: If shapes do not fit, weights are not finite, or the parts that do not train differ.
    """
    parameters = Parameters(model)
    if isinstance(weights, (str, os.PathLike)):
        weights = _loaded(model, weights)
    elif isinstance(weights, keras.Model):
        weights = weights.get_weights()
    if isinstance(weights, (list, tuple)) and len(weights) and any(np.ndim(part) for part in weights):
        vector = _from_arrays(model, parameters, [np.asarray(part) for part in weights], name)
    else:
        vector = np.asarray(weights)
    if vector.shape != (parameters.size,) or vector.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} has shape {vector.shape} and dtype {vector.dtype}, but model {model.name!r} has "
            f"{parameters.size} trainable weights. Pass {FORMS}."
        )
    if not np.isfinite(vector).all():
        raise ValueError(
            f"{name} holds {np.sum(~np.isfinite(vector))} weights that are NaN or infinite, so nothing can be drawn "
            "through it. Pass weights from before the training diverged."
        )
    return vector


@contextlib.contextmanager
def kept(variables):
    """Inside the `with` block Keras variables may change; afterwards they hold what they held."""
    before = [v.numpy() for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def _loaded(model, path):
    optimizer = getattr(model, "optimizer", None)  # its state is saved, and loaded, with the weights
    with kept([*model.variables, *getattr(optimizer, "variables", ())]):
        model.load_weights(path)
        return model.get_weights()


def _from_arrays(model, parameters, arrays, name):
    if len(arrays) == len(model.weights):
        by_variable = {id(v): array for v, array in zip(model.weights, arrays, strict=True)}
        _refuse_another_rest(model, by_variable, name)
        arrays = [by_variable[id(v)] for v in parameters.variables]
    shapes = [array.shape for array in arrays]
    if shapes != parameters.shapes:
        raise ValueError(
            f"{name} is a list of {len(arrays)} arrays of shapes {_few(shapes)}, but the {len(parameters.shapes)} "
            f"trainable weights of model {model.name!r} have {_few(parameters.shapes)}. Pass {FORMS}."
        )
    return np.concatenate([array.astype(parameters.dtype).ravel() for array in arrays])


def _refuse_another_rest(model, by_variable, name):
    free = {id(v) for v in model.trainable_variables}
    for layer in recalibrated_layers(model):
        free |= {id(layer.moving_mean), id(layer.moving_variance)}
    for variable in model.weights:
        if id(variable) not in free and not np.array_equal(by_variable[id(variable)], variable.numpy()):
            raise ValueError(
                f"{name} differs from model {model.name!r} in {variable.path!r}, which does not train and so would not "
                "move: the loss drawn would be that of neither. Give the model this weight first (set_weights), or "
                "pass the arrays of the trainable variables only, to use the model's."
            )


def _few(shapes):
    return f"[{', '.join(map(str, shapes[:4]))}{', ...' if len(shapes) > 4 else ''}]"
