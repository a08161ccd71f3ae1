"""Sequence to sequence: a small encoder-decoder Transformer, from the tokens of a sentence to those of its translation.

Normalization stands in front of each sub-layer (pre-LN), which trains without the long warm-up that the original order
needs. One matrix embeds source and target tokens and, transposed, gives the logits, so both languages share a vocabulary.
Token 0 is padding. No position attends to that of the source; that of the target stands behind all tokens, which causality hides
from them. Positions are sinusoids, which hold no weights and know no longest sentence.

References:
    Vaswani et al., "Attention is all you need", 2017, https://arxiv.org/abs/1706.03762 (architecture, sinusoids, shared
    embeddings).
    Xiong et al., "On layer normalization in the Transformer architecture", 2020, https://arxiv.org/abs/2002.04745 (pre-LN).
"""

import keras
import numpy as np
from keras import layers, ops

from tf_lbgap.networks.seeds import layer_seeds
from tf_lbgap.networks.sizes import check_sizes


def transformer(
    input_shape=((24,), (24,)),
    num_classes=1000,
    *,
    width=128,
    heads=4,
    blocks=1,
    hidden=None,
    dropout=0.0,
    seed=None,
):
    """Encoder-decoder Transformer, pre-LN, ReLU, tied embeddings, logits.

    With V tokens, width d and hidden width h it has V d + 4 d weights outside of blocks (embedding and two last normalizations);
    4 d² + 4 d per attention, 2 d h + h + d per feed-forward net, 2 d per normalization: an encoder block has one attention, one
    net and two normalizations, a decoder block two, one and three. The default has 591,360.

    Kernels are Glorot-uniform, those of attention as matrices d x d. Embeddings are normal with variance 1 / d: multiplied by √d
    on the way in, they are of the size of the sinusoids, and logits start of order 1.

    Args:
        input_shape: Shapes of one example: source tokens and shifted target tokens, `((S,), (T,))`. Lengths may be None.
        num_classes: V, tokens of the vocabulary, padding (0) among them. Defaults to `1000`.
        width: d, even and a multiple of `heads`. Defaults to `128`.
        heads: Attention heads. Defaults to `4`.
        blocks: Of the encoder, and of the decoder. Defaults to `1`.
        hidden: h. Defaults to `4 * width`.
        dropout: Share of the outputs of each sub-layer that are left out in training. Defaults to `0`.
        seed: Seed of the initial weights and of the dropout masks, or `None` for Keras' global seed.

    Returns:
        Un-compiled `keras.Model`, `(source (batch, S), target (batch, T))`, whole numbers -> logits (batch, T, V). Logits at a
        position depend on the source and on the target up to that position.

    Raises:
        ValueError: If a number is not possible.
    """
    hidden = 4 * width if hidden is None else hidden
    _check(input_shape, num_classes, width, heads, blocks, hidden, dropout)
    make = _Parts(width, heads, hidden, dropout, layer_seeds(seed))
    source_shape, target_shape = input_shape
    source = keras.Input(source_shape, dtype="int32", name="source")
    target = keras.Input(target_shape, dtype="int32", name="target")
    embedding = layers.ReversibleEmbedding(
        num_classes,
        width,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=width**-0.5, seed=next(make.seeds)),
        name="embedding",
    )
    is_token = NotPadding(name="is_token")(source)

    x = Positions(name="source_positions")(embedding(source))
    for i in range(blocks):
        x = make.attention(x, None, f"encoder_{i}_self", attention_mask=is_token)
        x = make.net(x, f"encoder_{i}_net")
    memory = layers.LayerNormalization(epsilon=1e-6, name="encoder_norm")(x)

    x = Positions(name="target_positions")(embedding(target))
    for i in range(blocks):
        x = make.attention(x, None, f"decoder_{i}_self", use_causal_mask=True)
        x = make.attention(x, memory, f"decoder_{i}_cross", attention_mask=is_token)
        x = make.net(x, f"decoder_{i}_net")
    x = layers.LayerNormalization(epsilon=1e-6, name="decoder_norm")(x)
    return keras.Model((source, target), embedding(x, reverse=True), name="transformer")


class _Parts:
    """Sub-layers with their normalization, dropout and residual connection."""

    def __init__(self, width, heads, hidden, dropout, seeds):
        self.width, self.heads, self.hidden, self.dropout, self.seeds = width, heads, hidden, dropout, seeds

    def attention(self, x, memory, name, **masks):
        """Attention of x to itself, or to the encoder's output."""
        normal = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
        attend = layers.MultiHeadAttention(self.heads, self.width // self.heads, name=name)
        y = attend(normal, normal if memory is None else memory, **masks)
        self._draw_kernels(attend)
        return self._added(x, y, name)

    def _draw_kernels(self, attend):
        """Keras would give queries, keys and values with one seed equal kernels, and take their fans for a convolution's."""
        for variable in attend.trainable_variables:
            if variable.name == "kernel":
                drawn = keras.initializers.GlorotUniform(next(self.seeds))(
                    (self.width, self.width), variable.dtype
                )
                variable.assign(ops.reshape(drawn, variable.shape))

    def net(self, x, name):
        """Two dense layers at each position."""
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
        for units, activation, part in ((self.hidden, "relu", "in"), (self.width, None, "out")):
            initializer = keras.initializers.GlorotUniform(next(self.seeds))
            y = layers.Dense(units, activation, kernel_initializer=initializer, name=f"{name}_{part}")(y)
        return self._added(x, y, name)

    def _added(self, x, y, name):
        if self.dropout:
            y = layers.Dropout(self.dropout, seed=next(self.seeds), name=f"{name}_dropout")(y)
        return layers.Add(name=f"{name}_added")([x, y])


@keras.saving.register_keras_serializable("tf_lbgap")
class NotPadding(layers.Layer):
    """Which positions may be attended to: (batch, S) tokens -> (batch, 1, S) booleans, False at token 0."""

    def call(self, tokens):
        return ops.not_equal(tokens, 0)[:, None, :]


@keras.saving.register_keras_serializable("tf_lbgap")
class Positions(layers.Layer):
    """Embeddings times √d, plus sinusoids: position p gets sin and cos of p / 10000^(2i/d), i from 0 to d/2 - 1."""

    def call(self, x):
        length, width = ops.shape(x)[1], x.shape[-1]
        rates = ops.convert_to_tensor(10000.0 ** (-2 * np.arange(width // 2) / width), x.dtype)
        angles = ops.cast(ops.arange(length), x.dtype)[:, None] * rates[None, :]
        waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        return x * width**0.5 + waves[None]


def _check(input_shape, num_classes, width, heads, blocks, hidden, dropout):
    try:
        (_,), (_,) = input_shape
    except (TypeError, ValueError):
        raise ValueError(
            f"input_shape={input_shape!r} must be two shapes of one dimension, source and target, such as ((24,), (24,))."
        ) from None
    check_sizes(num_classes=num_classes, width=width, heads=heads, blocks=blocks, hidden=hidden)
    if width % heads or width % 2:
        raise ValueError(
            f"width={width} must be even and a multiple of heads={heads}. Pass width={heads * 2 * max(1, width // (2 * heads))}."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r} must be a share, from 0 to less than 1, such as 0.1.")
