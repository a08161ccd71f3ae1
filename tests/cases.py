"""Models x losses x data on which curvature is compared with references: small, each with its own trap.

Each case is a function without arguments which returns (model, loss, data), data being (x, y) or (x, y,
sample_weight) of `NUM_EXAMPLES` examples, in the float type that is set when it is called.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf

layers, losses = keras.layers, keras.losses
NUM_EXAMPLES = 8
RAGGED = (3, 3, 2)


def cut(data, sizes=RAGGED):
    """The data as a list of batches of these sizes."""
    bounds = np.cumsum((0, *sizes))
    return [tf.nest.map_structure(lambda a, i=i, j=j: a[i:j], data) for i, j in itertools.pairwise(bounds)]


def _normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=(NUM_EXAMPLES, *shape))


def _labels(classes, *shape):
    return np.random.default_rng(1).integers(0, classes, size=(NUM_EXAMPLES, *shape))


def _randomized(model):
    """Weights that start at 0 or 1 would hide terms; statistics likewise."""
    rng = np.random.default_rng(2)
    for variable in model.weights:
        if variable.dtype == keras.config.floatx():
            noise = rng.normal(size=variable.shape) * 0.3
            variable.assign(variable + (np.abs(noise) if "variance" in variable.name else noise))
    return model


def _sequential(shape, *stack, dtype=None):
    return _randomized(keras.Sequential([keras.Input(shape, dtype=dtype), *stack]))


def mlp_sparse_crossentropy():
    model = _sequential((4,), layers.Dense(5, "tanh"), layers.Dense(3))
    return model, losses.SparseCategoricalCrossentropy(from_logits=True), (_normal(4), _labels(3))


def mlp_sum():
    model = _sequential((4,), layers.Dense(5, "tanh"), layers.Dense(2))
    return model, losses.MeanSquaredError(reduction="sum"), (_normal(4), _normal(2))


def mlp_sample_weight():
    model = _sequential((4,), layers.Dense(5, "tanh"), layers.Dense(3))
    weight = np.linspace(0, 2, NUM_EXAMPLES) ** 2
    return (
        model,
        losses.SparseCategoricalCrossentropy(from_logits=True),
        (_normal(4), _labels(3), weight),
    )


def mlp_mean_with_sample_weight():
    model = _sequential((4,), layers.Dense(5, "tanh"), layers.Dense(2))
    weight = np.linspace(0, 2, NUM_EXAMPLES) ** 2
    return (
        model,
        losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        (_normal(4), _normal(2), weight),
    )


def function_with_vector():
    model = _sequential((4,), layers.Dense(3, "tanh"), layers.Dense(2))
    return model, lambda y, p: tf.reduce_sum((y - p) ** 4, axis=-1), (_normal(4), _normal(2))


def layer_normalization():
    model = _sequential((4,), layers.Dense(5, "tanh"), layers.LayerNormalization(), layers.Dense(2))
    return model, losses.MeanSquaredError(), (_normal(4), _normal(2))


def group_normalization():
    stack = layers.Conv2D(4, 2), layers.GroupNormalization(2), layers.Activation("tanh")
    model = _sequential((3, 3, 1), *stack, layers.GlobalAveragePooling2D(), layers.Dense(2))
    return model, losses.MeanSquaredError(), (_normal(3, 3, 1), _normal(2))


def batch_normalization():
    model = _sequential((4,), layers.Dense(5), layers.BatchNormalization(), layers.Dense(2, "tanh"))
    return model, losses.MeanSquaredError(), (_normal(4), _normal(2))


def convolution_max_pooling():
    stack = layers.Conv2D(3, 2, activation="tanh"), layers.MaxPooling2D(), layers.Flatten()
    model = _sequential((5, 5, 1), *stack, layers.Dense(3))
    return model, losses.SparseCategoricalCrossentropy(from_logits=True), (_normal(5, 5, 1), _labels(3))


def lstm():
    model = _sequential((4, 2), layers.LSTM(2), layers.Dense(2))
    return model, losses.MeanSquaredError(), (_normal(4, 2), _normal(2))


def embedding_gru():
    model = _sequential((4,), layers.Embedding(6, 2), layers.GRU(2), layers.Dense(3), dtype="int64")
    return model, losses.SparseCategoricalCrossentropy(from_logits=True), (_labels(6, 4), _labels(3))


def masked_sequence():
    """Keras divides by the entries that are not masked: 0, and most of the later ones, are padding here."""
    stack = layers.Embedding(5, 2, mask_zero=True), layers.GRU(2, return_sequences=True)
    model = _sequential((4,), *stack, layers.Dense(3), dtype="int64")
    tokens = _labels(5, 4)
    tokens[3:, 1:] = 0
    tokens[:, 0] = 1
    return model, losses.SparseCategoricalCrossentropy(from_logits=True), (tokens, _labels(3, 4))


def ignored_class():
    """The loss itself masks the entries of class 0."""
    model = _sequential((3, 2), layers.Dense(3, "tanh"), layers.Dense(3))
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    return model, loss, (_normal(3, 2), _labels(3, 3))


def attention():
    x = keras.Input((3, 4))
    hidden = layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True)
    model = keras.Model(x, layers.Dense(1)(layers.LayerNormalization()(x + hidden)[:, -1]))
    return _randomized(model), losses.MeanSquaredError(), (_normal(3, 4), _normal(1))


def dropout():
    model = _sequential((4,), layers.Dense(5, "tanh"), layers.Dropout(0.5), layers.Dense(2))
    return model, losses.MeanSquaredError(), (_normal(4), _normal(2))


def dictionary_of_inputs():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    hidden = layers.Concatenate()([layers.Dense(2, "tanh")(a), layers.Dense(2, "tanh")(b)])
    model = keras.Model({"a": a, "b": b}, layers.Dense(2)(hidden))
    return (
        _randomized(model),
        losses.MeanSquaredError(),
        ({"a": _normal(2), "b": _normal(3)}, _normal(2)),
    )


def labels_of_another_rank():
    """(n,) against (n, 1): without care these broadcast to (n, n)."""
    model = _sequential((3,), layers.Dense(3, "tanh"), layers.Dense(1))
    return model, losses.MeanSquaredError(), (_normal(3), _normal())


def classifier_with_group_normalization():
    stack = layers.Conv2D(4, 2), layers.GroupNormalization(2), layers.Activation("tanh")
    model = _sequential((3, 3, 1), *stack, layers.GlobalAveragePooling2D(), layers.Dense(3))
    return model, losses.SparseCategoricalCrossentropy(from_logits=True), (_normal(3, 3, 1), _labels(3))


def depthwise_and_transposed_convolution():
    """Down to half the size and up again, one image to another: strides, padding, and two filters per channel."""
    stack = (
        layers.DepthwiseConv2D(2, strides=2, depth_multiplier=2, activation="tanh"),
        layers.Conv2DTranspose(2, 3, strides=2, padding="same", activation="tanh"),
    )
    model = _sequential((4, 4, 1), *stack)
    return model, losses.MeanSquaredError(), (_normal(4, 4, 1), _normal(4, 4, 2))


def separable_convolution_average_pooling():
    stack = layers.SeparableConv2D(3, 2, activation="tanh"), layers.AveragePooling2D(2), layers.Flatten()
    model = _sequential((5, 5, 2), *stack, layers.Dense(3))
    return model, losses.SparseCategoricalCrossentropy(from_logits=True), (_normal(5, 5, 2), _labels(3))


# The others take seconds to compile, or repeat what these show.
QUICK = (
    mlp_sparse_crossentropy,
    mlp_sum,
    mlp_sample_weight,
    mlp_mean_with_sample_weight,
    function_with_vector,
    layer_normalization,
    group_normalization,
    batch_normalization,
    convolution_max_pooling,
)
CASES = (
    *QUICK,
    lstm,
    embedding_gru,
    masked_sequence,
    ignored_class,
    attention,
    dropout,
    dictionary_of_inputs,
    labels_of_another_rank,
    classifier_with_group_normalization,
    depthwise_and_transposed_convolution,
    separable_convolution_average_pooling,
)
