"""The same function at other weights: what a measure of sharpness should, or should not, notice.

A network whose activation is positively homogeneous, relu(a z) = a relu(z) for a > 0, computes the same if one layer
is multiplied by a factor and the next divided by it. The Hessian becomes D H D with D the inverse factors, so its
eigenvalues can be given any size.

References:
    Dinh, Pascanu, Bengio & Bengio, "Sharp minima can generalize for deep nets", 2017 (arXiv 1703.04933).
"""

import itertools
import math

import keras

_l = keras.layers
_SCALED = (_l.Dense, _l.Conv1D, _l.Conv2D, _l.Conv3D, _l.DepthwiseConv1D, _l.DepthwiseConv2D)
_SCALED += (_l.Conv1DTranspose, _l.Conv2DTranspose, _l.Conv3DTranspose)
_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)
# Each of these returns a x f(z) for a x z, a > 0, and has no weights of its own but PReLU's slopes.
_HOMOGENEOUS = (_l.LeakyReLU, _l.PReLU, _l.Identity, _l.Flatten, _l.Reshape, _l.Permute, _l.RepeatVector)
_HOMOGENEOUS += (_l.Dropout, _l.SpatialDropout1D, _l.SpatialDropout2D, _l.SpatialDropout3D)
_HOMOGENEOUS += (_l.MaxPooling1D, _l.MaxPooling2D, _l.MaxPooling3D)
_HOMOGENEOUS += (_l.AveragePooling1D, _l.AveragePooling2D, _l.AveragePooling3D)
_HOMOGENEOUS += (_l.GlobalMaxPooling1D, _l.GlobalMaxPooling2D, _l.GlobalMaxPooling3D)
_HOMOGENEOUS += (_l.GlobalAveragePooling1D, _l.GlobalAveragePooling2D, _l.GlobalAveragePooling3D)
_HOMOGENEOUS += (_l.ZeroPadding1D, _l.ZeroPadding2D, _l.ZeroPadding3D)
_HOMOGENEOUS += (_l.Cropping1D, _l.Cropping2D, _l.Cropping3D)
_HOMOGENEOUS += (_l.UpSampling1D, _l.UpSampling2D, _l.UpSampling3D)


def rescale_relu(model, first, second, factor):
    """Multiply kernel and bias of one layer and divide the kernel of the next, in place: the outputs stay.

    They stay to rounding, and exactly for a factor that is a power of two. Penalties on weights do change, and the
    optimizer's slots are left as they are, so go on training from a rescaled model only with a fresh optimizer.

    Args:
        model: A Sequential or functional model, which is changed.
        first: A Dense or convolutional layer of it, or its name.
        second: The next such layer. Between the two there may be ReLU (without a maximum or threshold), LeakyReLU,
            PReLU, Flatten and other reshaping, pooling, padding, and Dropout.
        factor: What to multiply the first layer by and to divide the second by, above 0.

    Raises:
        ValueError: If the factor is not a finite number above 0, or the outputs would change: another activation or
            layer in between, a layer used twice, or a branch. The model is unchanged then.

    References:
        Dinh et al. 2017, definition 5 (with biases).

    Example:
        >>> relu, linear = keras.layers.Dense(3, "relu", name="a"), keras.layers.Dense(1, name="b")
        >>> model = keras.Sequential([keras.Input((2,)), relu, linear])
        >>> rescale_relu(model, "a", "b", 2.0)
    """
    if not (isinstance(factor, (int, float)) and math.isfinite(factor) and factor > 0):
        raise ValueError(
            f"factor is {factor!r}, but should be a finite number above 0: a ReLU passes no other through. Pass 2.0, say."
        )
    first, second = _scaled_layer(model, first), _scaled_layer(model, second)
    _refuse_unless_homogeneous(model, first, second)
    multiplied = [first.kernel] + ([first.bias] if first.bias is not None else [])
    new = [(v, v.numpy() * factor) for v in multiplied] + [(second.kernel, second.kernel.numpy() / factor)]
    for variable, value in new:
        variable.assign(value)


def _scaled_layer(model, layer):
    found = [x for x in model.layers if x is layer or x.name == layer]
    if not found or not isinstance(found[0], _SCALED) or not isinstance(found[0].kernel, keras.Variable):
        names = ", ".join(x.name for x in model.layers if isinstance(x, _SCALED)) or "none"
        raise ValueError(
            f"{getattr(layer, 'name', layer)!r} is not a Dense or convolutional layer of model {model.name!r}, which has "
            f"{names}. Pass one of these, or its name."
        )
    return found[0]


def _refuse_unless_homogeneous(model, first, second):
    users, outputs, calls = _graph(model)
    for layer in (first, second):
        if calls.get(id(layer), 0) != 1:
            raise _error(
                first, second, f"{layer.name!r} is used {calls.get(id(layer), 0)} times in the model"
            )
    layer = first
    while layer is not second:
        if not _is_homogeneous(layer, first):
            raise _error(first, second, f"{_described(layer)} does not pass a factor through")
        following = users.get(id(layer), [])
        if id(layer) in outputs or len(following) != 1:
            where = [getattr(x, "name", str(x)) for x in following] + ["the output"] * (id(layer) in outputs)
            raise _error(first, second, f"{layer.name!r} leads to {', '.join(where)} and not to one layer")
        layer = following[0]


def _graph(model):
    """By id: the operations that use a layer's output, the layers that are outputs, and how often each is called."""
    graph = getattr(model, "_functional", None) or model
    if not getattr(graph, "_nodes_by_depth", None):
        raise ValueError(
            f"Model {model.name!r} does not say how its layers are connected. Pass a built Sequential or functional model."
        )
    users, calls = {}, {}
    for node in itertools.chain(*graph._nodes_by_depth.values()):
        calls[id(node.operation)] = calls.get(id(node.operation), 0) + 1
        for parent in node.parent_nodes:
            users.setdefault(id(parent.operation), []).append(node.operation)
    outputs = {id(tensor._keras_history.operation) for tensor in graph.outputs}
    return users, outputs, calls


def _is_homogeneous(layer, first):
    if layer is first or isinstance(layer, _l.Activation):
        return _homogeneous_activation(layer.activation)
    return _homogeneous_activation(layer)


def _homogeneous_activation(activation):
    if isinstance(activation, _l.ReLU):
        return activation.max_value is None and activation.threshold == 0
    return isinstance(activation, _HOMOGENEOUS) or activation in _ACTIVATIONS


def _described(layer):
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", getattr(activation, "name", None))
    kind = f"{type(layer).__name__} {getattr(layer, 'name', '')!r}"
    return f"{kind} with activation {name!r}" if name else kind


def _error(first, second, reason):
    return ValueError(
        f"Multiplying {first.name!r} and dividing {second.name!r} would change the function: {reason}. Choose two "
        "layers that follow each other with relu, leaky_relu or linear, pooling or reshaping in between."
    )
