"""Ghost batch normalization: a large batch is normalized in small parts, each by statistics of its own.

The noise of a batch's mean and variance regularizes; a large batch has little of it. So Hoffer et al. keep
the batch of the normalization as small as it was, however large that of the update has become.
"""

import functools
import numbers

import keras
import tensorflow as tf

from tf_lbgap.layers.parts import Parts


@keras.saving.register_keras_serializable(package="tf_lbgap")
class GhostBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization of `ghost_batch_size` examples at a time.

    A batch of n examples is cut, in order, into k = ⌈n / ghost_batch_size⌉ ghost batches whose sizes differ
    by one at most (a rest of two examples would have poor statistics), as the package cuts micro-batches, but
    for XLA. In training

        y = γ (x - μᵢ) / √(σᵢ² + ε) + β        for the examples of ghost batch i,

    with its own mean and (biased) variance, and γ and β shared. The moving statistics take one step per ghost
    batch, in order, by which after the batch

        moving = momentumᵏ moving + Σᵢ (1 - momentum) momentumᵏ⁻ⁱ μᵢ,        i = 1 … k.

    So one large batch moves them as k small ones would, which is what the authors' code does. (The sum in their
    Algorithm 1, from memory, has the ghost batches in the opposite order.) In inference the moving statistics
    normalize, as in any `BatchNormalization`, which this is: `recalibrate` and the measures of curvature
    treat it as one.

    Training equals, to rounding, accumulation over the ghost batches through a `BatchNormalization`. Which to
    choose: `BatchSizeScheduler(ghost_batch_size=)` accumulates, needs no change of the model, and keeps no
    more than a ghost batch in memory; this layer takes one forward pass with the whole batch, which keeps the
    device busy, and may differ from layer to layer. With both, the layer sees micro-batches, and cuts them
    further if they are larger than its own ghost batches. Under a strategy each replica cuts its part of the
    batch.

    Costs what `BatchNormalization` costs, whatever n and k are. Works under XLA, in mixed precision
    (statistics in float32), and on replicas that are given no example. A saved model is read back once
    `tf_lbgap.layers` has been imported.

    Args:
        ghost_batch_size: Most examples that are normalized together, an int from 1 up; the authors take 128.
        **options: Of `keras.layers.BatchNormalization`, except `renorm` and `synchronized`: the one removes
            the noise that ghost batches are for, the other enlarges the batch that is normalized. `momentum`
            is the share that is kept per ghost batch.

    Raises:
        ValueError: If `ghost_batch_size` is no int from 1 up, or with `renorm`, `synchronized` or `axis=0`.

    References:
        Hoffer, Hubara & Soudry, "Train longer, generalize better", 2017 (arXiv 1705.08741), Algorithm 1;
        code: https://github.com/eladhoffer/bigBatch (`main_gbn.py`).

    Example:
        >>> layer = GhostBatchNormalization(2, epsilon=1e-12)
        >>> layer(np.array([[1.0], [3.0], [10.0], [30.0]]), training=True).numpy().ravel()
        array([-1.,  1., -1.,  1.], dtype=float32)
    """

    def __init__(self, ghost_batch_size, **options):
        _check(ghost_batch_size, options)
        super().__init__(**options)
        self.ghost_batch_size = int(ghost_batch_size)

    def build(self, input_shape):
        if self.axis % len(input_shape) == 0:
            raise ValueError(
                f"axis={self.axis} of GhostBatchNormalization is that of the examples for inputs of shape "
                f"{tuple(input_shape)}; pass the axis of the channels, by default -1."
            )
        super().build(input_shape)

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        if mask is not None:
            _check_mask(mask, inputs)
        # Statistics of float16 overflow; Keras computes them in float32, too.
        x = tf.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        parts = Parts(tf.shape(x)[0], self.ghost_batch_size, self.axis % len(x.shape))
        mean = parts.mean if mask is None else functools.partial(parts.mean_where, mask=mask)
        means = mean(x)
        centred = x - parts.spread(means)
        # No stop_gradient at the mean, as tf.nn.moments has: second derivatives are right without it.
        variances = mean(tf.square(centred))
        self._move(self.moving_mean, means, parts.count)
        self._move(self.moving_variance, variances, parts.count)
        scale = tf.math.rsqrt(variances + self.epsilon)
        if self.scale:
            scale *= self._broadcasting(self.gamma, x)
        outputs = centred * parts.spread(scale)
        if self.center:
            outputs += self._broadcasting(self.beta, x)
        return tf.cast(outputs, self.compute_dtype)

    def _broadcasting(self, parameter, x):
        """A parameter (channels,) that broadcasts against x."""
        behind = len(x.shape) - 1 - self.axis % len(x.shape)
        return tf.reshape(tf.cast(parameter, x.dtype), [-1] + [1] * behind)

    def _move(self, moving, statistics, count):
        """Take one step of the moving average per part, in order; statistics: (count, ..., channels, ...)."""
        statistics = tf.reshape(statistics, (-1, moving.shape[0]))
        dtype = statistics.dtype
        kept, k = tf.constant(self.momentum, dtype), tf.cast(count, dtype)
        weights = (1 - self.momentum) * tf.pow(kept, tf.range(k - 1, -1, -1, dtype=dtype))
        old = tf.cast(moving.value, dtype)
        moving.assign(tf.pow(kept, k) * old + tf.linalg.matvec(statistics, weights, transpose_a=True))

    def get_config(self):
        return {**super().get_config(), "ghost_batch_size": self.ghost_batch_size}


def _check(ghost_batch_size, options):
    if (
        isinstance(ghost_batch_size, bool)
        or not isinstance(ghost_batch_size, numbers.Integral)
        or ghost_batch_size < 1
    ):
        raise ValueError(
            f"ghost_batch_size must be a whole number of examples from 1 up, but got {ghost_batch_size!r}."
        )
    for option in ("renorm", "synchronized"):
        if options.get(option):
            raise ValueError(
                f"GhostBatchNormalization has no {option}=True, which makes statistics those of more than "
                "a ghost batch. Leave it out, or use keras.layers.BatchNormalization."
            )


def _check_mask(mask, x):
    if len(mask.shape) != len(x.shape) - 1:
        raise ValueError(
            f"The mask of GhostBatchNormalization has shape {mask.shape}, but should have one axis less than "
            f"the inputs, whose shape is {x.shape}."
        )
