"""RMSprop warm-up: training begins with RMSprop, which turns smoothly into SGD with momentum.

At the start of training with a very large batch plain SGD is at its worst; Akiba et al. let RMSprop do that
part.
"""

import keras
import tensorflow as tf

from tf_lbgap.optimizers import ranges


@keras.saving.register_keras_serializable(package="tf_lbgap")
class RmspropWarmup(keras.optimizers.Optimizer):
    """A blend of RMSprop and SGD with momentum, whose share of SGD grows from nearly 0 to 1.

    With gradient g, and t the number of updates that were made before,

        s = ρ s + (1 - ρ) g²
        Δ = momentum · Δ - (α + (1 - α) · rmsprop_rate / rate / (√s + ε)) g
        w = w + rate · Δ

        α(t) = exp(2 (t - center) / period) / 2    for t < center,
               1/2 + (t - center) / period         up to center + period / 2,
               1                                   from then on.

    α is 1/2 at `center`, and has no kink there. From center + period / 2 on this is SGD with momentum.

    The rate is outside of the buffer Δ, unlike in `keras.optimizers.SGD`, so its share of SGD needs no correction
    after a jump of the rate. Its share of RMSprop does: it was divided by the rate then, and is multiplied by that of now, so
    while α is small let the rate move slowly, or not at all (a warm-up of the rate beside this one is not wanted anyway).
    Where the rate is 0 nothing moves.

    `center` and `period` are in updates, since an optimizer knows no epochs: multiply the paper's 10 and 5
    epochs by the updates of an epoch. With a batch that grows meanwhile an epoch has fewer updates, and the
    warm-up takes more epochs.

    Args:
        learning_rate: Of SGD: a float, a Keras schedule, or a function without arguments.
        center: The update at which both have the same share, a number from 0 up; with `center=0` and
            `period=0` all is SGD.
        period: The updates that the change takes: from e⁻²/2 = 7 % of SGD to all of it in 1.5 periods. From 0
            up.
        rmsprop_rate: Of RMSprop, from 0 up. Defaults to 3e-4.
        momentum: From 0 to below 1. Defaults to 0.9.
        rho: ρ, from 0 to below 1. Defaults to 0.99.
        epsilon: ε, from 0 up. Defaults to 1e-8.
        **options: Of `keras.optimizers.Optimizer`. `weight_decay` is Keras' own: it shrinks the weights by
            rate · weight_decay before the step. (L2 in the gradient is a `kernel_regularizer`.)

    Raises:
        ValueError: If an argument is out of range.

    References:
        Akiba, Suzuki & Fukuda, "Extremely large minibatch SGD: training ResNet-50 on ImageNet in 15 minutes",
        2017 (arXiv 1711.04325), section 2.1. The paper was not at hand: update and defaults are from memory,
        and agree with Chainer code by others (`RMSpropWarmupRule`). α is from memory alone. That code's α has
        a jump, another one on CPUs than on GPUs; among curves of this kind ours is the one with neither jump
        nor kink.
    """

    def __init__(
        self,
        learning_rate=0.01,
        *,
        center,
        period,
        rmsprop_rate=3e-4,
        momentum=0.9,
        rho=0.99,
        epsilon=1e-8,
        **options,
    ):
        of = "RmspropWarmup"
        super().__init__(ranges.rate(of, learning_rate), **options)
        self.center = ranges.require(of, "center", center, 0)
        self.period = ranges.require(of, "period", period, 0)
        self.rmsprop_rate = ranges.require(of, "rmsprop_rate", rmsprop_rate, 0)
        self.momentum = ranges.require(of, "momentum", momentum, 0, 1, below=True)
        self.rho = ranges.require(of, "rho", rho, 0, 1, below=True)
        self.epsilon = ranges.require(of, "epsilon", epsilon, 0)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._steps, self._squares = self.add_optimizer_variables(variables, ["step", "velocity"])

    def share_of_sgd(self, updates):
        """α after a number of updates, a scalar tensor from 0 to 1."""
        after = tf.cast(updates, tf.float32) - self.center
        if not self.period:
            return tf.where(after < 0, 0.0, 1.0)
        curve = tf.exp(2 * tf.minimum(after, 0) / self.period) / 2
        return tf.where(after < 0, curve, tf.clip_by_value(0.5 + after / self.period, 0.5, 1.0))

    def update_step(self, gradient, variable, learning_rate):
        dtype, index = variable.dtype, self._get_variable_index(variable)
        gradient = tf.convert_to_tensor(tf.cast(gradient, dtype))
        rate, share = tf.cast(learning_rate, dtype), tf.cast(self.share_of_sgd(self.iterations), dtype)
        squares, step = self._squares[index], self._steps[index]
        self.assign_add(squares, (tf.square(gradient) - squares) * (1 - self.rho))
        rmsprop = tf.math.divide_no_nan((1 - share) * self.rmsprop_rate, rate)
        scale = share + tf.math.divide_no_nan(rmsprop, tf.sqrt(squares) + self.epsilon)
        moved = self.momentum * tf.convert_to_tensor(step) - scale * gradient
        self.assign(step, moved)
        self.assign_add(variable, rate * moved)

    def get_config(self):
        names = ("center", "period", "rmsprop_rate", "momentum", "rho", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
