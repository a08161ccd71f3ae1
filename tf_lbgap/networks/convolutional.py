"""Convolutional networks without shortcuts: a small one for minutes on a CPU, and C1 to C4 of Keskar et al.

The text and the code of Keskar et al. differ: the text gives the first layers of C1 a stride of 2, the code
gives them stride 1 and lets the pooling halve the image. We build what the code builds, `shallownet` (C1, C3)
and `deepnet` (C2, C4): there every weight layer is followed by BatchNormalization and ReLU, in that order,
kernels are Glorot-uniform (the default of the Keras they used) and biases start at 0.

One departure. Their BatchNormalization used the statistics of the batch at test time too (`mode=2` of
Keras 1, gone since). Ours keeps moving averages, which are stale after the few updates of a large batch:
`tf_lbgap.batch_normalization.recalibrate` replaces them by exact statistics before you compare test losses.

References:
    Keskar et al., "On large-batch training for deep learning: generalization gap and sharp minima",
    ICLR 2017, https://arxiv.org/abs/1609.04836, appendix B; code (`network_zoo.py`):
    https://github.com/keskarnitish/large-batch-training
"""

import keras
from keras import layers

from tf_lbgap.networks.seeds import layer_seeds


def small_cnn(input_shape=(28, 28, 1), num_classes=10, *, normalization=None, seed=None):
    """Small network for 28x28 grey images, without dropout, and by default without normalisation.

    Conv 5x5 stride 2, 16 filters; conv 3x3 stride 2, 32 filters, both padded to "same" (28 -> 14 -> 7);
    Dense 64; logits. 106,122 parameters. ReLU throughout, He-normal kernels in front of it. The loss is a
    plain function of weights and data: the simplest convolutional network to measure curvature on.

    Args:
        input_shape: (height, width, channels). Defaults to `(28, 28, 1)`.
        num_classes: Number of logits. Defaults to `10`.
        normalization: `"batch"`: a BatchNormalization in front of each ReLU, 106,346 trainable parameters then.
        seed: Seed of the initial weights, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).

    Raises:
        ValueError: If there is no such normalization.
    """
    if normalization not in (None, "batch"):
        raise ValueError(f"normalization={normalization!r} is neither 'batch' nor None.")
    seeds = layer_seeds(seed)

    def relu_layer(x, layer, *args, **kwargs):
        x = layer(*args, kernel_initializer=keras.initializers.HeNormal(next(seeds)), **kwargs)(x)
        return _normalized_relu(x) if normalization else layers.ReLU()(x)

    inputs = keras.Input(input_shape)
    x = relu_layer(inputs, layers.Conv2D, 16, 5, strides=2, padding="same")
    x = relu_layer(x, layers.Conv2D, 32, 3, strides=2, padding="same")
    x = relu_layer(layers.Flatten()(x), layers.Dense, 64)
    return keras.Model(inputs, _logits(x, num_classes, seeds), name="small_cnn")


def c1(input_shape=(32, 32, 3), num_classes=10, *, seed=None):
    """C1 of Keskar et al., AlexNet-like, for CIFAR-10: 1,757,834 trainable parameters.

    2 x (conv 5x5, 64 filters; MaxPool 3x3 stride 2), Dense 384, Dense 192, logits; dropout of one half
    after each of the two Dense layers.

    Args:
        input_shape: (height, width, channels). Defaults to `(32, 32, 3)`.
        num_classes: Number of logits. Defaults to `10`.
        seed: Seed of the initial weights and of the dropout masks, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).
    """
    return _shallownet(input_shape, num_classes, seed, "c1")


def c3(input_shape=(32, 32, 3), num_classes=100, *, seed=None):
    """C3 of Keskar et al.: `c1`, which see, with 100 classes for CIFAR-100. 1,775,204 trainable parameters."""
    return _shallownet(input_shape, num_classes, seed, "c3")


def c2(input_shape=(32, 32, 3), num_classes=10, *, seed=None):
    """C2 of Keskar et al., VGG-like, for CIFAR-10: 14,991,946 trainable parameters.

    Five stacks of 3x3 convolutions, 2 x 64, 2 x 128, 3 x 256, 3 x 512 and 3 x 512 filters, each ending in
    MaxPool 2x2; Dense 512, logits. Dropout: 0.3 inside the first stack and 0.4 inside the others, after
    every convolution but the last of its stack; one half before and after the Dense layer.

    Args:
        input_shape: (height, width, channels). Defaults to `(32, 32, 3)`.
        num_classes: Number of logits. Defaults to `10`.
        seed: Seed of the initial weights and of the dropout masks, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).
    """
    return _deepnet(input_shape, num_classes, seed, "c2")


def c4(input_shape=(32, 32, 3), num_classes=100, *, seed=None):
    """C4 of Keskar et al.: `c2`, which see, with 100 classes for CIFAR-100. 15,038,116 trainable parameters."""
    return _deepnet(input_shape, num_classes, seed, "c4")


def _shallownet(input_shape, num_classes, seed, name):
    seeds = layer_seeds(seed)
    x = inputs = keras.Input(input_shape)
    for _ in range(2):
        x = _normalized_relu(layers.Conv2D(64, 5, padding="same", kernel_initializer=_glorot(seeds))(x))
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.Flatten()(x)
    for units in (384, 192):
        x = _normalized_relu(layers.Dense(units, kernel_initializer=_glorot(seeds))(x))
        x = layers.Dropout(0.5, seed=next(seeds))(x)
    return keras.Model(inputs, _logits(x, num_classes, seeds), name=name)


# (filters, convolutions, dropout rate between them) of each stack of `deepnet`
_DEEPNET_STACKS = ((64, 2, 0.3), (128, 2, 0.4), (256, 3, 0.4), (512, 3, 0.4), (512, 3, 0.4))


def _deepnet(input_shape, num_classes, seed, name):
    seeds = layer_seeds(seed)
    x = inputs = keras.Input(input_shape)
    for filters, num_convolutions, dropout in _DEEPNET_STACKS:
        for i in range(num_convolutions):
            if i > 0:
                x = layers.Dropout(dropout, seed=next(seeds))(x)
            x = _normalized_relu(
                layers.Conv2D(filters, 3, padding="same", kernel_initializer=_glorot(seeds))(x)
            )
        x = layers.MaxPooling2D(2, strides=2, padding="same")(x)
    x = layers.Dropout(0.5, seed=next(seeds))(layers.Flatten()(x))
    x = _normalized_relu(layers.Dense(512, kernel_initializer=_glorot(seeds))(x))
    x = layers.Dropout(0.5, seed=next(seeds))(x)
    return keras.Model(inputs, _logits(x, num_classes, seeds), name=name)


def _normalized_relu(x):
    return layers.ReLU()(layers.BatchNormalization()(x))


def _glorot(seeds):
    return keras.initializers.GlorotUniform(next(seeds))


def _logits(x, num_classes, seeds):
    return layers.Dense(num_classes, kernel_initializer=_glorot(seeds), name="logits")(x)
