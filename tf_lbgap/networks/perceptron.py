"""Fully connected networks: a plain perceptron for laptop-size work, and F1 and F2 of Keskar et al.

In F1 and F2 every hidden layer is Dense (with bias), BatchNormalization, ReLU. With BatchNormalization the
scale of a Dense kernel does not change the function, yet it changes every sharpness measured in weight
space; the initial scale is therefore part of the experiment, and is stated here.

References:
    Keskar et al., "On large-batch training for deep learning: generalization gap and sharp minima",
    ICLR 2017, https://arxiv.org/abs/1609.04836, appendix B (F1, F2).
"""

import numbers

import keras
from keras import layers

from tf_lbgap.networks.seeds import layer_seeds


def mlp(
    input_shape=(64,),
    num_classes=10,
    *,
    widths=(64, 64),
    activation="relu",
    normalization=None,
    dropout=0.0,
    seed=None,
):
    """Multilayer perceptron: Flatten if needed, Dense layers, logits.

    The default fits scikit-learn's digits, 64 -> 64 -> 64 -> 10: 8,970 parameters. Kernels in front of a
    ReLU are He-normal, all others Glorot-uniform; biases start at 0.

    Args:
        input_shape: Shape of one example; more than one axis is flattened in C order.
        num_classes: Number of logits. Defaults to `10`.
        widths: Units of each hidden layer, in order. `()` leaves multinomial logistic regression, whose
            loss is convex. Defaults to `(64, 64)`.
        activation: Of the hidden layers: a Keras name or function. Defaults to `"relu"`.
        normalization: Between each hidden Dense layer and its activation: `"batch"` or `"layer"`. Defaults to `None`.
        dropout: Share of the units of each hidden layer that are left out in training. Defaults to `0`.
        seed: Seed of the initial weights and of the dropout masks, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).

    Raises:
        ValueError: If a width is not an integer from 1 up, there is no such normalization, or dropout is no share.

    Example:
        >>> mlp((64,), 10, widths=(64, 64)).count_params()
        8970
    """
    widths = tuple(widths)
    if not all(isinstance(width, numbers.Integral) and width >= 1 for width in widths):
        raise ValueError(
            f"widths={widths!r} came in, but each hidden layer has a whole number of units from 1 up. "
            "Leave out the layers you do not want: widths=(64, 64) has two, widths=() none."
        )
    normalizers = {None: None, "batch": layers.BatchNormalization, "layer": layers.LayerNormalization}
    if normalization not in normalizers:
        raise ValueError(f"normalization={normalization!r} is none of 'batch', 'layer' and None.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r} must be a share, from 0 to less than 1, such as 0.2.")
    normalize = normalizers[normalization]
    seeds = layer_seeds(seed)
    is_relu = keras.activations.get(activation) is keras.activations.relu
    initializer = keras.initializers.HeNormal if is_relu else keras.initializers.GlorotUniform

    inputs = keras.Input(input_shape)
    x = layers.Flatten()(inputs) if len(input_shape) > 1 else inputs
    for width in widths:
        inner = None if normalize else activation
        x = layers.Dense(width, inner, kernel_initializer=initializer(seed=next(seeds)))(x)
        x = layers.Activation(activation)(normalize()(x)) if normalize else x
        x = layers.Dropout(dropout, seed=next(seeds))(x) if dropout else x
    return keras.Model(inputs, _logits(x, num_classes, seeds), name="mlp")


def f1(input_shape=(784,), num_classes=10, *, seed=None):
    """F1 of Keskar et al., for MNIST: 5 x (Dense 512, BatchNormalization, ReLU), Dense 10.

    1,462,794 trainable parameters. Kernels are Glorot-uniform: the paper starts from "uniformly random"
    points, and its code relies on Keras' default.

    Args:
        input_shape: Shape of one example; (28, 28) is flattened. Defaults to `(784,)`.
        num_classes: Number of logits. Defaults to `10`.
        seed: Seed of the initial weights, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).
    """
    return _normalized_mlp(input_shape, num_classes, 5, seed, "f1")


def f2(input_shape=(360,), num_classes=1973, *, seed=None):
    """F2 of Keskar et al., for TIMIT: 7 x (Dense 512, BatchNormalization, ReLU), Dense 1973.

    2,780,085 trainable parameters. Built as `f1` is, which see for the arguments.
    """
    return _normalized_mlp(input_shape, num_classes, 7, seed, "f2")


def _normalized_mlp(input_shape, num_classes, num_hidden, seed, name):
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape)
    x = layers.Flatten()(inputs) if len(input_shape) > 1 else inputs
    for _ in range(num_hidden):
        x = layers.Dense(512, kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    return keras.Model(inputs, _logits(x, num_classes, seeds), name=name)


def _logits(x, num_classes, seeds):
    return layers.Dense(
        num_classes, kernel_initializer=keras.initializers.GlorotUniform(next(seeds)), name="logits"
    )(x)
