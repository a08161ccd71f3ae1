"""Random directions on the scale of the weights, filter by filter (Li et al. 2018).

A step of fixed length means little to a network with large weights and much to one with small. So each filter of
the direction gets the norm of that filter of the weights, and pictures of two networks can be compared. What a
filter is, the weights that make one output, depends on the layer:

| layer | weights | a filter is all entries with the same |
|---|---|---|
| Dense, Conv, SeparableConv (pointwise), LSTM, GRU, and any other | (..., out) | last index |
| Conv1DTranspose, 2D, 3D | (..., out, in) | last but one |
| DepthwiseConv, SeparableConv (depthwise) | (..., in, multiplier) | last two |
| EinsumDense, and with it MultiHeadAttention | by its equation | indices that the output has |
| Embedding | (tokens, out) | first: a row is the vector of a token |

Biases, scales and shifts get direction 0. They are known by having one axis, or by their names where they have
more: attention has biases (heads, key), GRU has (2, 3 units), LayerNormalization over two axes a gamma of two.
"""

import keras
import numpy as np

from tf_lbgap.curvature.parameters import Parameters
from tf_lbgap.landscape.weights import flat_weights

_VECTORS = ("bias", "gamma", "beta", "scale", "alpha")  # alpha: the slopes of PReLU
_layers = keras.layers
_TRANSPOSED = (_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose)
_DEPTHWISE = (
    _layers.DepthwiseConv1D,
    _layers.DepthwiseConv2D,
    _layers.SeparableConv1D,
    _layers.SeparableConv2D,
)


def filter_normalized_direction(model, *, seed=0, ignore_vectors=True, like=None):
    """Draw a Gaussian direction d with ‖d_f‖ = ‖w_f‖ for each filter f of the weights w.

    Two of them are orthogonal up to about 1/√n for n weights (more where a few filters hold most of the norm).

    Args:
        model: A built Keras model.
        seed: Of the draw: what `np.random.default_rng` takes. Equal seeds give equal directions.
        ignore_vectors: Whether biases, scales and shifts get 0, as in the authors' code by default. If False
            each entry is a filter of its own, and becomes ±w (their code then takes +w).
        like: Weights w, in any form `line` takes; None for the model's present ones.

    Returns:
        Shape (n,) float64, laid out as `curvature.LossSurface.weights()`.

    Raises:
        ValueError: If `like` does not fit the model.

    References:
        Li et al., "Visualizing the loss landscape of neural nets", 2018, section 4. There filters are indexed by
        the first axis, as PyTorch lays them out; their ‖d_f‖ + 1e-10 is left out, for a Gaussian is never 0.
    """
    parameters = Parameters(model)
    weights = parameters.values() if like is None else flat_weights(model, like, "like")
    rng = np.random.default_rng(seed)
    owners = {id(v): layer for layer in model._flatten_layers() for v in layer.trainable_variables}
    parts = []
    for variable, values in zip(parameters.variables, parameters.split(weights), strict=True):
        values, noise = values.astype("float64"), rng.normal(size=values.shape)
        vector = values.ndim < 2 or variable.name in _VECTORS
        if vector and ignore_vectors:
            parts.append(np.zeros(values.size))
            continue
        kept = range(values.ndim) if vector else filter_axes(owners[id(variable)], variable)
        summed = tuple(set(range(values.ndim)) - {axis % values.ndim for axis in kept})
        norms = [np.sqrt(np.square(a).sum(axis=summed, keepdims=True)) for a in (values, noise)]
        parts.append((noise * (norms[0] / norms[1])).ravel())
    return np.concatenate(parts)


def filter_axes(layer, variable):
    """The axes of a weight of a layer by which its filters are numbered, a tuple."""
    if isinstance(layer, _TRANSPOSED):
        return (-2,)
    if isinstance(layer, _DEPTHWISE) and variable.name != "pointwise_kernel":
        return (-2, -1)
    if isinstance(layer, _layers.Embedding):
        return (0,)
    if isinstance(layer, _layers.EinsumDense) and variable.name == "kernel":
        operands, output = layer.equation.split("->")
        kernel = operands.split(",")[1].strip()
        return tuple(axis for axis, letter in enumerate(kernel) if letter in output)
    return (-1,)
