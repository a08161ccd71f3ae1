"""Whether products through a user's own model agree with finite differences.

Finite differences of gradients share nothing with second derivatives by tape: they find an operation whose
second derivative is wrong or missing, in any layer, whoever wrote it.
"""

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.objective import checked_loss, copied_loss
from tf_lbgap.curvature.surface import LossSurface

_EXAMPLES = 8
_LIMIT = {"float64": 1e-5, "float32": 5e-2}


def check_model(model, loss, batch, *, loss_weights=None):
    """Compare a product on the user's model with a central difference of its gradient.

    The model is copied into float64 if it can be (functional and sequential models whose layers can be saved):
    then they agree to 1e-8 or so, and the limit is 1e-5. Others are compared as they are, in float32, where a
    difference of gradients has two digits and the limit is 5e-2: that finds gross errors only. The first 8
    examples of the batch are used. A direction along which an activation such as relu has a kink within the
    step has no finite difference: of three directions and two steps the best one counts.

    Args:
        model: A built Keras model. It is left as it is.
        loss: As for `HessianOperator`.
        batch: `(x, y)` or `(x, y, sample_weight)`.
        loss_weights: As for `HessianOperator`.

    Returns:
        The relative error of the best direction, a float.

    Raises:
        RuntimeError: If they disagree.
    """
    from tf_lbgap.curvature.hessian import HessianOperator

    batch = tf.nest.map_structure(lambda t: np.asarray(t)[:_EXAMPLES], batch)
    copy, precision = _in_float64(model)
    before = keras.config.floatx()
    try:
        if precision == "float64":
            keras.config.set_floatx("float64")
            loss = _loss_in_float64(checked_loss(loss))
        hessian = HessianOperator(copy, loss, batch, loss_weights=loss_weights)
        surface = LossSurface(copy, loss, batch, loss_weights=loss_weights)
        error = min(_error(hessian, surface, seed, precision) for seed in range(3))
    finally:
        keras.config.set_floatx(before)
    if not error < _LIMIT[precision]:
        raise RuntimeError(
            f"Second derivatives of model {model.name!r} are wrong by {error:.1e}: a Hessian-vector product should agree "
            f"with finite differences in {precision} to {_LIMIT[precision]:g}. A layer or the loss has an operation whose "
            "gradient is not differentiated right (tf.stop_gradient, tf.custom_gradient, a rounding). Measure "
            "without that layer, or give it a gradient that can be differentiated."
        )
    return error


def _error(hessian, surface, seed, precision):
    v = np.random.default_rng(seed).standard_normal(surface.size)
    w = surface.weights()
    v *= (np.linalg.norm(w) + 1e-3) / np.linalg.norm(v)
    product = hessian.matvec(v).astype("float64")
    errors = []
    for step in (1e-5, 1e-7) if precision == "float64" else (1e-2, 1e-3):
        ahead, behind = (surface.value_and_gradient(w + sign * step * v)[1] for sign in (1, -1))
        difference = (ahead - behind) / (2 * step)
        size = np.linalg.norm(difference)
        floor = np.finfo(hessian.dtype).eps * np.linalg.norm(ahead) / step  # of rounding
        errors.append(max(np.linalg.norm(product - difference) - floor, 0) / max(size, floor, 1e-300))
    return min(errors)


def _in_float64(model):
    """A copy of the model with all layers in float64 and the same weights; or the model, and its precision."""
    if keras.config.floatx() == "float64":
        return model, "float64"
    try:
        if not getattr(model, "_is_graph_network", False) and not isinstance(model, keras.Sequential):
            return model, "float32"
        copy = keras.models.clone_model(model, clone_function=_layer_in_float64)
        for mine, theirs in zip(copy.weights, model.weights, strict=True):
            mine.assign(theirs)
    except Exception:  # whatever a user's layer may raise when it is made from its config
        return model, "float32"
    return copy, "float64"


def _loss_in_float64(loss):
    if isinstance(loss, dict):
        return {name: _loss_in_float64(part) for name, part in loss.items()}
    if isinstance(loss, list):
        return [_loss_in_float64(part) for part in loss]
    if isinstance(loss, keras.losses.Loss):
        loss = copied_loss(loss)
        loss._dtype = "float64"  # else it casts predictions to the type that was set when it was made
    return loss


def _layer_in_float64(layer):
    config = layer.get_config()
    if "dtype" in config and not isinstance(layer, keras.layers.InputLayer):
        config["dtype"] = "float64"
    return layer.__class__.from_config(config)
