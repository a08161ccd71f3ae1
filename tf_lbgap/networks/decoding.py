"""What a sequence-to-sequence network says: the most likely token, one after the other.

Greedy decoding is what a network's own choices lead to; it is not the most likely sentence, for which beams search.
"""

import numpy as np
import tensorflow as tf

from tf_lbgap.networks.sizes import check_sizes


class Greedy:
    """Decodes sentences greedily, many at a time, with one trace for all calls.

    There is no cache: each token runs the network over the whole target, whose later positions, masked by causality, cannot
    change the earlier ones. So it is exact for any causal network, and costs as many forward passes as the longest answer has
    tokens. A batch ends when all of its sentences have.

    Args:
        model: Keras model, `(source (n, S), shifted target (n, T))`, whole numbers -> logits (n, T, V), causal in the target.
        start: Token before the first.
        end: Token that ends a sentence. Behind it, and in its place, is 0, padding, which is never said.
        batch_size: Sentences at a time.

    Example:
        >>> translate = Greedy(model, start=1, end=2)
        >>> translate(source).shape                      # source (500, 24)
        (500, 24)
    """

    def __init__(self, model, *, start=1, end=2, batch_size=100):
        check_sizes(batch_size=batch_size)
        self._model, self._start, self._end, self._batch_size = model, start, end, batch_size
        self._length = model.output_shape[1]
        self._decode = tf.function(self._decoded, autograph=False, reduce_retracing=True)

    def __call__(self, source, length=None):
        """Decode.

        Args:
            source: Whole numbers, (n, S).
            length: Tokens of an answer at most; default: T of the network.

        Returns:
            Whole numbers, int32, (n, length): the tokens of each answer, then 0.

        Raises:
            ValueError: If the network has no fixed T and no length is given.
        """
        length = length or self._length
        if length is None:
            raise ValueError("The network takes targets of any length: pass length=, such as length=24.")
        source = np.asarray(source, np.int32)
        starts = range(0, len(source), self._batch_size)
        parts = [self._decode(tf.constant(source[i : i + self._batch_size]), length).numpy() for i in starts]
        return np.concatenate(parts) if parts else np.zeros((0, length), np.int32)

    def _decoded(self, source, length):
        """`said` has the start and all tokens so far; `open` is false where a sentence has ended."""
        n = tf.shape(source)[0]
        said = tf.concat([tf.fill([n, 1], self._start), tf.zeros([n, length], tf.int32)], 1)

        def going_on(t, said, open):
            return (t < length) & tf.reduce_any(open)

        def one_more(t, said, open):
            logits = self._model((source, said[:, :-1]), training=False)[:, t]
            token = 1 + tf.argmax(logits[:, 1:], -1, tf.int32)
            open = open & (token != self._end)
            place = tf.range(length + 1)[None] == t + 1
            said = tf.where(place & open[:, None], token[:, None], said)
            return t + 1, said, open

        state = tf.constant(0), tf.cast(said, tf.int32), tf.fill([n], True)
        return tf.while_loop(going_on, one_more, state)[1][:, 1:]
