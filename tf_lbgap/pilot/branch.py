"""One branch of a training: the model goes on with another batch and rate, over examples given by where they begin."""

import math

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.training.accumulation import Accumulation
from tf_lbgap.training.held import held
from tf_lbgap.training.train_functions import train_function


class Branch:
    """Trains a model by its own `train_step`, from wherever it stands.

    Args:
        model: A compiled and built Keras model, whose optimizer is built.
        rate_factor: Function of a batch size: its rate over the optimizer's own.
        clean_loss: Function without arguments that returns the loss, a float.
        micro_batch_size: Most examples of a forward pass, or None.
    """

    def __init__(self, model, rate_factor, clean_loss, micro_batch_size=None):
        self._model, self._rate_factor, self._clean_loss = model, rate_factor, clean_loss
        self._inner = rates.innermost(model.optimizer)
        self._own_rate = rates.read_rate(model.optimizer)
        self._rate = keras.Variable(self._own_rate, trainable=False, dtype=_dtype(), name="rate_of_branch")
        step = model.train_step
        if micro_batch_size is not None:
            static = bool(model.jit_compile) and not model.run_eagerly
            step = Accumulation(model, lambda: micro_batch_size, static=static).step
        self._update = train_function(model, step)

    def __call__(self, stream, position, size, examples, looks):
        """Train over `examples` in batches of `size`; the model stays as it is then.

        Args:
            stream: `data.Batches` of nobody else.
            position: (epoch, examples of it) of the stream, where to begin.
            size: Examples per update; the last batch has what is left.
            examples: How many in all.
            looks: Examples after which to look at the loss, ascending; the last is `examples`.

        Returns:
            The losses, shape (looks,); NaN from the first on that is not finite, where training ends.
        """
        losses, seen, factor = np.full(len(looks), math.nan), 0, 1.0
        with held(self._inner, _learning_rate=self._rate):  # whatever it is made of, a schedule or a variable
            for count, batch in _batches(stream, position, size, examples):
                new = self._rate_factor(count)
                self._set_rate(new, factor)
                self._update(iter([batch]))
                seen, factor = seen + count, new
                for look in [i for i, at in enumerate(looks) if seen - count < at <= seen]:
                    losses[look] = self._clean_loss()
                    if not math.isfinite(losses[look]):
                        losses[look] = math.nan
                        return losses
        return losses

    def _set_rate(self, factor, before):
        """Keras' SGD holds the rate in its buffers, which go along with it."""
        self._rate.assign(factor * self._own_rate)
        if factor != before and isinstance(self._inner, keras.optimizers.SGD):
            rates.correct_momentum(self._inner, factor / before)


def _dtype():
    return "float64" if keras.config.floatx() == "float64" else "float32"


def _batches(stream, position, size, examples):
    """Yield pairs of a count and a batch, which run on over the ends of epochs."""
    parts, count, seen = [], 0, 0
    for length, part in _pieces(stream, position, size, examples):
        parts.append(part)
        count, seen = count + length, seen + length
        if count == size or seen == examples:
            yield count, parts[0] if len(parts) == 1 else tf.nest.map_structure(_joined, *parts)
            parts, count = [], 0


def _joined(*parts):
    return tf.concat(parts, 0)


def _pieces(stream, position, size, examples):
    """Yield pairs of a length and examples, cut at multiples of `size` from `position` on, and at the ends of epochs."""
    (epoch, start), seen = position, 0
    while seen < examples:
        end = min(stream.num_examples, start + examples - seen)
        cuts = np.unique([start, *range(start + size - seen % size, end, size), end])
        with tf.device("CPU:0"):
            pieces = stream._source.planned(tf.constant(epoch, tf.int64), tf.constant(cuts, tf.int64))
        yield from zip(np.diff(cuts).tolist(), pieces, strict=True)
        epoch, start, seen = epoch + 1, 0, seen + end - start
