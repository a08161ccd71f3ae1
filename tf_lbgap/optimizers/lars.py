"""LARS: SGD with momentum, whose steps have for each layer a length in proportion to that of its weights.

At a large rate some layers of a network receive updates as large as their weights, and diverge, while others
hardly move.
"""

import keras
import tensorflow as tf

from tf_lbgap.optimizers import ranges
from tf_lbgap.optimizers.layerwise import Layerwise, dense, half_norm, where_positive


@keras.saving.register_keras_serializable(package="tf_lbgap")
class Lars(Layerwise):
    """Layer-wise adaptive rate scaling.

    For each variable w with gradient g of the loss, which has no penalty for the weights in it,

        local = η ‖w‖ / (‖g‖ + λ ‖w‖)
        v     = m v + rate · local · (g + λ w)
        w     = w - v

    η is `trust_coefficient`, λ `weight_decay`, m `momentum`. λ stands in the step and in its length, not
    apart from them as Keras' `weight_decay` does. Where ‖w‖ or ‖g‖ is 0, local is 1. A variable that is left
    out, by default each with one axis (biases, γ and β of normalizations), takes the plain step: local = 1
    and λ = 0. It moves at the whole rate, which for kernels is multiplied by η: with the large rates that go
    with η = 0.001, warm them up.

    The rate is inside of the momentum buffer, as in `keras.optimizers.SGD`. So after a jump of the rate the
    buffer still moves at the old one, and `momentum_correction` of the callbacks can be used.

    Costs two norms per variable more than SGD. Gradients of embeddings become dense, and clipping changes
    ‖g‖.

    Args:
        learning_rate: A float, a Keras schedule, or a function without arguments. The paper lets it decay as
            (1 - t/T)², as `PolynomialDecay(rate, T, end_learning_rate=0.0, power=2.0)` of Keras. Defaults to
            0.1.
        momentum: m, from 0 to below 1. Defaults to 0.9.
        weight_decay: λ, from 0 up. Defaults to 0.
        trust_coefficient: η, above 0. Defaults to 0.001, as is usual.
        exclude: Regular expressions; a variable in whose path (such as "dense_1/kernel") one is found is left
            out.
        exclude_vectors: Whether to leave out each variable with one axis, or none. Defaults to True.
        **options: Of `keras.optimizers.Optimizer`: `clipnorm`, `use_ema`, `loss_scale_factor`, `name`, ...

    Raises:
        ValueError: If an argument is out of range; when it is built, if one of `exclude` is in no path.

    References:
        You, Gitman & Ginsburg, "Large batch training of convolutional networks", 2017 (arXiv 1708.03888),
        Algorithm 1. What to do at a norm of 0, and what to leave out, is common practice: the algorithm does
        not say.

    Example:
        >>> w = keras.Variable([[3.0, 4.0]])                  # ‖w‖ = 5, ‖g‖ = 1
        >>> Lars(1.0, trust_coefficient=0.1).apply([np.array([[1.0, 0.0]])], [w])
        >>> w.numpy()                                         # local = 0.5
        array([[2.5, 4. ]], dtype=float32)
    """

    def __init__(
        self,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=0.0,
        trust_coefficient=0.001,
        *,
        exclude=(),
        exclude_vectors=True,
        **options,
    ):
        super().__init__(learning_rate, weight_decay, exclude, exclude_vectors, **options)
        self.momentum = ranges.require("Lars", "momentum", momentum, 0, 1, below=True)
        self.trust_coefficient = ranges.require("Lars", "trust_coefficient", trust_coefficient, 0)
        if not self.trust_coefficient:
            raise ValueError("trust_coefficient of Lars is 0, at which nothing moves. Pass 0.001, for one.")

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        # Under the name that SGD has for them, by which momentum is corrected after a jump of the rate.
        self.momentums = self.add_optimizer_variables(variables, "momentum") if self.momentum else []

    def update_step(self, gradient, variable, learning_rate):
        gradient, decay = dense(gradient, variable), self.decay_of(variable)
        rate = tf.cast(learning_rate, variable.dtype)
        if not self.is_excluded(variable):
            rate *= tf.cast(self._local(gradient, variable, decay), variable.dtype)
        # Scalars are multiplied first, and sums are made in one pass: of large kernels passes are what takes time.
        terms = [rate * gradient]
        if decay:
            terms.append((rate * decay) * variable)
        if self.momentum:
            buffer = self.momentums[self._get_variable_index(variable)]
            terms.append(self.momentum * tf.convert_to_tensor(buffer))
        moved = tf.add_n(terms)
        if self.momentum:
            self.assign(buffer, moved)
        self.assign_sub(variable, moved)

    def _local(self, gradient, variable, decay):
        weights, slope = half_norm(variable), half_norm(gradient)
        length = slope + decay * weights if decay else slope
        return where_positive(weights, slope, self.trust_coefficient * weights / length)

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "trust_coefficient": self.trust_coefficient,
        }
