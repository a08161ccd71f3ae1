"""The two ImageNet networks of the large-batch papers, as `keras.applications` builds them, untrained.

These functions only fix what would otherwise be easy to get wrong: no downloaded weights, and logits in
place of the softmax that `keras.applications` adds by default.

There is no `seed` argument, for `keras.applications` offers none. To start from a known point, seed Keras
globally just before: `keras.utils.set_random_seed(0); model = lb.networks.resnet50()`.

References:
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017,
    https://arxiv.org/abs/1706.02677 (ResNet-50).
    Smith et al., "Don't decay the learning rate, increase the batch size", ICLR 2018,
    https://arxiv.org/abs/1711.00489 (Inception-ResNet-V2).
"""

import keras


def resnet50(input_shape=(224, 224, 3), num_classes=1000):
    """ResNet-50 of He et al.: 25,583,592 trainable parameters, initial weights from Keras' global seed.

    Keras halves the image in the first 1x1 convolution of a stage and gives convolutions a bias. The Torch
    code behind Goyal et al. halves in the 3x3 convolution, has no such biases, and starts the last scale
    of every block at 0; expect small differences from their accuracies.

    Args:
        input_shape: (height, width, channels), 32 pixels or more a side. Defaults to `(224, 224, 3)`.
        num_classes: Number of logits. Defaults to `1000`.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).
    """
    return keras.applications.ResNet50(
        weights=None, input_shape=input_shape, classes=num_classes, classifier_activation=None
    )


def inception_resnet_v2(input_shape=(299, 299, 3), num_classes=1000):
    """Inception-ResNet-V2 of Szegedy et al.: 55,813,192 trainable parameters, weights from Keras' global seed.

    Args:
        input_shape: (height, width, channels), 75 pixels or more a side. Defaults to `(299, 299, 3)`.
        num_classes: Number of logits. Defaults to `1000`.

    Returns:
        Un-compiled `keras.Model`, (batch, *input_shape) -> logits (batch, num_classes).
    """
    return keras.applications.InceptionResNetV2(
        weights=None, input_shape=input_shape, classes=num_classes, classifier_activation=None
    )
