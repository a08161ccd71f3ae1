"""Character language models: a perceptron over a window, an LSTM, and a Transformer, each with logits of the next character.

They take whole numbers, one for each character: x int32 of shape (batch, length). The perceptron tells the character after the
window, (batch, num_classes); the other two that after each place, (batch, length, num_classes), and see nothing to the right of it.

All are differentiable twice. Hessians through LayerNormalization and the fused LSTM of GPUs go through
`curvature.second_order`, as everywhere; the loop of the LSTM allows reverse-over-reverse products only, which are the ones that
`curvature.HessianOperator` takes.

References:
    Bengio, Ducharme, Vincent and Jauvin, "A neural probabilistic language model", JMLR 2003 (perceptron over embeddings).
    Hochreiter and Schmidhuber, "Long short-term memory", 1997.
    Vaswani et al., "Attention is all you need", 2017; Radford et al., "Language models are unsupervised multitask
    learners", 2019 (normalization before each part and after the last, learned places, normal initial values of 0.02).
"""

import keras
from keras import layers, ops

from tf_lbgap.networks.seeds import layer_seeds
from tf_lbgap.networks.sizes import check_sizes


def char_mlp(input_shape=(16,), num_classes=62, *, embedding=16, widths=(128,), activation="tanh", seed=None):
    """Perceptron over the embeddings of a window of characters: the logits of the character that follows.

    Embedding, Flatten, Dense layers, logits. Parameters: num_classes x embedding, and those of a perceptron with length x embedding
    inputs; 41,886 for the default.

    Args:
        input_shape: (length,) of the window. Defaults to `(16,)`.
        num_classes: How many characters there are. Defaults to `62`, those of `data.text.king_james`.
        embedding: Numbers that stand for a character. Defaults to `16`.
        widths: Units of each hidden layer. Defaults to `(128,)`.
        activation: Of the hidden layers. Defaults to `"tanh"`, as in Bengio et al.
        seed: Seed of the initial weights, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, length) -> logits (batch, num_classes).

    Raises:
        ValueError: If a size is not a whole number from 1 up.
    """
    widths = tuple(widths)
    check_sizes(embedding=embedding, **{f"widths[{i}]": width for i, width in enumerate(widths)})
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, dtype="int32")
    x = layers.Flatten()(_embedded(inputs, num_classes, embedding, seeds))
    for width in widths:
        x = _dense(width, seeds, activation)(x)
    return keras.Model(inputs, _dense(num_classes, seeds, name="logits")(x), name="char_mlp")


def char_lstm(input_shape=(32,), num_classes=62, *, embedding=16, units=64, unroll=False, seed=None):
    """LSTM over the embeddings of characters: the logits of the next one at each place, from a state of zeros.

    With V characters, embeddings of E numbers and U units: V E + 4 U (E + U + 1) + V (U + 1) parameters, 25,758 for the default.

    Args:
        input_shape: (length,) of the window. Defaults to `(32,)`.
        num_classes: How many characters there are. Defaults to `62`.
        embedding: Numbers that stand for a character. Defaults to `16`.
        units: Of the LSTM. Defaults to `64`.
        unroll: Whether the steps are traced one by one, which is faster for windows of some dozen characters, and takes longer
            to trace. Defaults to `False`.
        seed: Seed of the initial weights, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, length) -> logits (batch, length, num_classes).

    Raises:
        ValueError: If a size is not a whole number from 1 up.
    """
    check_sizes(embedding=embedding, units=units)
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, dtype="int32")
    x = _embedded(inputs, num_classes, embedding, seeds)
    x = layers.LSTM(
        units,
        return_sequences=True,
        unroll=unroll,
        kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
        recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
    )(x)
    return keras.Model(inputs, _dense(num_classes, seeds, name="logits")(x), name="char_lstm")


def char_transformer(input_shape=(32,), num_classes=62, *, width=32, heads=2, blocks=2, seed=None):
    """Transformer that reads from left to right (a small GPT-2): the logits of the next character at each place.

    Embeddings of characters and places; in each block x + attention(norm(x)), then x + perceptron(norm(x)), whose hidden layer is four
    times as wide, with GELU; a last norm, logits. Attention sees the place itself and those to its left. With length L,
    width W, V characters and n blocks: (V + L) W + n (12 W² + 13 W) + 2 W + V (W + 1) parameters, 30,526 for the default.

    Args:
        input_shape: (length,) of the window. Defaults to `(32,)`.
        num_classes: How many characters there are. Defaults to `62`.
        width: Numbers at each place, a multiple of `heads`. Defaults to `32`.
        heads: Of the attention. Defaults to `2`.
        blocks: How many. Defaults to `2`.
        seed: Seed of the initial weights, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, (batch, length) -> logits (batch, length, num_classes).

    Raises:
        ValueError: If a size is not a whole number from 1 up, or `heads` does not divide `width`.
    """
    check_sizes(width=width, heads=heads, blocks=blocks)
    if width % heads:
        raise ValueError(
            f"width={width} is to be divided among heads={heads}. Pass width={heads * (width // heads + 1)}."
        )
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, dtype="int32")
    x = layers.Embedding(num_classes, width, embeddings_initializer=_normal(seeds), name="characters")(inputs)
    x = AddPlaces(seed=next(seeds), name="places")(x)
    for _ in range(blocks):
        x = layers.Add()([x, _attention(_normed(x), width, heads, seeds)])
        hidden = layers.Dense(4 * width, "gelu", kernel_initializer=_normal(seeds))(_normed(x))
        x = layers.Add()([x, layers.Dense(width, kernel_initializer=_normal(seeds))(hidden)])
    x = _normed(x)
    logits = layers.Dense(num_classes, kernel_initializer=_normal(seeds), name="logits")(x)
    return keras.Model(inputs, logits, name="char_transformer")


@keras.saving.register_keras_serializable("tf_lbgap")
class AddPlaces(layers.Layer):
    """Add a learned vector to each place of a sequence, (batch, length, width) to the same.

    Args:
        seed: Of the initial values, normal with a standard deviation of 0.02; None: Keras' global one.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, input_shape):
        initializer = keras.initializers.RandomNormal(stddev=0.02, seed=self.seed)
        self.places = self.add_weight(shape=input_shape[1:], initializer=initializer, name="places")

    def call(self, inputs):
        return inputs + ops.cast(self.places, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def _attention(x, width, heads, seeds):
    """Causal attention of several heads, (batch, length, width) to the same.

    Not `layers.MultiHeadAttention`: it gives queries, keys and values one initializer, whose seed would make them equal.
    """
    parts = layers.Dense(3 * width, kernel_initializer=_normal(seeds))(x)
    parts = ops.reshape(parts, (-1, x.shape[1], 3, heads, width // heads))
    seen = ops.dot_product_attention(parts[:, :, 0], parts[:, :, 1], parts[:, :, 2], is_causal=True)
    return layers.Dense(width, kernel_initializer=_normal(seeds))(ops.reshape(seen, (-1, x.shape[1], width)))


def _normed(x):
    return layers.LayerNormalization(epsilon=1e-5)(x)


def _embedded(inputs, num_classes, embedding, seeds):
    initializer = keras.initializers.RandomNormal(stddev=1.0, seed=next(seeds))
    return layers.Embedding(num_classes, embedding, embeddings_initializer=initializer, name="characters")(
        inputs
    )


def _dense(units, seeds, activation=None, name=None):
    initializer = keras.initializers.GlorotUniform(next(seeds))
    return layers.Dense(units, activation, kernel_initializer=initializer, name=name)


def _normal(seeds):
    return keras.initializers.RandomNormal(stddev=0.02, seed=next(seeds))
