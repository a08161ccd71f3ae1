"""Residual networks for 32x32 images: ResNet-20 and its deeper sisters, wide ResNets (WRN-16-4).

Both are three stages of equal blocks on images of 32, 16 and 8 pixels, between a first convolution with 16
filters and a global average. What differs is the block:

    ResNet        x -> ReLU(shortcut(x) + BN(conv(ReLU(BN(conv(x))))))                   normalise after
    wide ResNet   x -> shortcut(x) + conv(ReLU(BN(conv(ReLU(BN(x))))))                   normalise before

Initial values are those of the released Torch code of both papers: kernels normal with variance 2 / fan-out,
no biases but the last, BatchNormalization with momentum 0.9 and epsilon 1e-5. (With Keras' momentum of 0.99 a
run of a hundred updates, not rare with large batches, would be tested with statistics that are a third
initial value.)

References:
    He et al., "Deep residual learning for image recognition", CVPR 2016, https://arxiv.org/abs/1512.03385,
    section 4.2; Torch code: https://github.com/facebookarchive/fb.resnet.torch
    Zagoruyko & Komodakis, "Wide residual networks", BMVC 2016, https://arxiv.org/abs/1605.07146; code:
    https://github.com/szagoruyko/wide-residual-networks
"""

import numbers

import keras
from keras import layers, ops

from tf_lbgap.networks.seeds import layer_seeds


def resnet(input_shape=(32, 32, 3), num_classes=10, *, depth=20, zero_gamma=False, seed=None):
    """ResNet of He et al. for CIFAR, with parameter-free shortcuts ("option A").

    Stages have 16, 32 and 64 filters and (depth - 2) / 6 blocks of two 3x3 convolutions. Where a stage
    halves the image, the shortcut takes every second pixel and fills the new channels with zeros.
    Trainable parameters by depth: 20: 269,722; 32: 464,154; 44: 658,586; 56: 853,018; 110: 1,727,962.

    Args:
        input_shape: (height, width, channels). Defaults to `(32, 32, 3)`.
        num_classes: Number of logits. Defaults to `10`.
        depth: Number of weight layers, 6 n + 2 for n blocks in a stage. Defaults to `20`.
        zero_gamma: Start the scale of the last BatchNormalization of every block at 0, so that training
            starts from a network whose blocks pass their input through (Goyal et al. 2017, section 5.1).
            Defaults to `False`, as in He et al.
        seed: Seed of the initial weights, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).

    Raises:
        ValueError: If `depth` is not 6 n + 2 with n from 1 up.

    References:
        Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017,
        https://arxiv.org/abs/1706.02677 (`zero_gamma`).
    """
    num_blocks = _blocks_per_stage(depth, 2, "ResNet")
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape)
    x = layers.ReLU()(_normalize(_convolution(inputs, 16, 3, 1, seeds)))
    for filters, first_stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(num_blocks):
            stride = first_stride if block == 0 else 1
            branch = layers.ReLU()(_normalize(_convolution(x, filters, 3, stride, seeds)))
            branch = _convolution(branch, filters, 3, 1, seeds)
            branch = _normalize(branch, gamma_initializer="zeros" if zero_gamma else "ones")
            x = layers.ReLU()(layers.Add()([_padded_shortcut(x, filters, stride), branch]))
    return keras.Model(inputs, _logits(x, num_classes, seeds), name=f"resnet{depth}")


def resnet20(input_shape=(32, 32, 3), num_classes=10, *, zero_gamma=False, seed=None):
    """ResNet-20 of He et al.: `resnet`, which see, of depth 20. 269,722 trainable parameters."""
    return resnet(input_shape, num_classes, depth=20, zero_gamma=zero_gamma, seed=seed)


def wide_resnet(input_shape=(32, 32, 3), num_classes=10, *, depth=16, width=4, seed=None):
    """Wide ResNet of Zagoruyko & Komodakis (WRN-depth-width), without dropout.

    Stages have 16, 32 and 64 times `width` filters and (depth - 4) / 6 blocks. Where the number of channels
    or the size of the image changes, the shortcut is a 1x1 convolution of the normalised input.
    There is no `zero_gamma` here: the last operation of a block is a convolution.

    Args:
        input_shape: (height, width, channels). Defaults to `(32, 32, 3)`.
        num_classes: Number of logits. Defaults to `10`.
        depth: Number of convolutions, 6 n + 4 for n blocks in a stage: two in each block, the first one,
            and three 1x1 shortcuts. Defaults to `16`.
        width: Multiple of a ResNet's filters, an integer from 1 up. Defaults to `4`.
        seed: Seed of the initial weights, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).

    Raises:
        ValueError: If `depth` is not 6 n + 4 with n from 1 up, or `width` is not an integer from 1 up.
    """
    num_blocks = _blocks_per_stage(depth, 4, "wide ResNet")
    if not isinstance(width, numbers.Integral) or width < 1:
        raise ValueError(
            f"width={width!r} came in, but a wide ResNet multiplies 16 filters by a whole number from 1 up. "
            "Pass width=4 for WRN-16-4."
        )
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape)
    x = _convolution(inputs, 16, 3, 1, seeds)
    for filters, first_stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        for block in range(num_blocks):
            stride = first_stride if block == 0 else 1
            normalized = layers.ReLU()(_normalize(x))
            branch = _convolution(normalized, filters, 3, stride, seeds)
            branch = _convolution(layers.ReLU()(_normalize(branch)), filters, 3, 1, seeds)
            changes = stride > 1 or x.shape[-1] != filters
            shortcut = _convolution(normalized, filters, 1, stride, seeds) if changes else x
            x = layers.Add()([shortcut, branch])
    x = layers.ReLU()(_normalize(x))
    return keras.Model(inputs, _logits(x, num_classes, seeds), name=f"wrn_{depth}_{width}")


def wrn_16_4(input_shape=(32, 32, 3), num_classes=10, *, seed=None):
    """WRN-16-4, on which Smith et al. 2018 grow the batch: `wide_resnet`, which see. 2,748,890 trainable parameters."""
    return wide_resnet(input_shape, num_classes, depth=16, width=4, seed=seed)


def _blocks_per_stage(depth, outside, kind):
    """Number of blocks n of a network of 6 n + `outside` layers."""
    num_blocks, remainder = divmod(depth - outside, 6)
    if remainder or num_blocks < 1:
        lower = max(num_blocks, 1) * 6 + outside
        raise ValueError(
            f"depth={depth!r} came in, but a {kind} of 3 stages with n blocks each has 6 n + {outside} layers, "
            f"n from 1 up. Pass depth={lower} or depth={lower + 6}."
        )
    return num_blocks


def _convolution(x, filters, kernel_size, stride, seeds):
    """Convolution without bias, of "same" size or half of it, centred as in Torch."""
    padding = "same"
    if stride > 1 and kernel_size > 1:
        # Keras' "same" pads an even image at the bottom and right only when the stride is 2, and its windows
        # are then centred on odd pixels; a shortcut takes the even ones. Torch pads all sides.
        x, padding = layers.ZeroPadding2D(kernel_size // 2)(x), "valid"
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", seed=next(seeds))
    return layers.Conv2D(
        filters, kernel_size, stride, padding, use_bias=False, kernel_initializer=initializer
    )(x)


def _normalize(x, gamma_initializer="ones"):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma_initializer)(x)


def _padded_shortcut(x, filters, stride):
    """Option A of He et al.: every `stride`-th pixel, new channels filled with zeros."""
    if stride > 1:
        x = x[:, ::stride, ::stride, :]
    missing = filters - x.shape[-1]
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, missing]]) if missing else x


def _logits(x, num_classes, seeds):
    initializer = keras.initializers.GlorotUniform(next(seeds))
    return layers.Dense(num_classes, kernel_initializer=initializer, name="logits")(
        layers.GlobalAveragePooling2D()(x)
    )
