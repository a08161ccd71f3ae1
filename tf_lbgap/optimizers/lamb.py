"""LAMB: Adam, whose steps have for each layer a length in proportion to that of its weights."""

import math

import keras
import tensorflow as tf

from tf_lbgap.optimizers import ranges
from tf_lbgap.optimizers.layerwise import Layerwise, dense, half_norm, where_positive


@keras.saving.register_keras_serializable(package="tf_lbgap")
class Lamb(Layerwise):
    """Layer-wise adaptive moments for batch training, as published.

    For each variable w with gradient g, at update t = 1, 2, ...,

        m = β₁ m + (1 - β₁) g                  m̂ = m / (1 - β₁ᵗ)
        v = β₂ v + (1 - β₂) g²                 v̂ = v / (1 - β₂ᵗ)
        u = m̂ / (√v̂ + ε) + λ w
        w = w - rate · φ(‖w‖) / ‖u‖ · u,        φ(z) = min(max(z, low), high)

    Where φ(‖w‖) or ‖u‖ is 0 their quotient is taken as 1. A variable that is left out, by default each with
    one axis (biases, γ and β of normalizations), takes the step of Adam: quotient 1 and λ = 0.

    `keras.optimizers.Lamb` is another: its quotient is ‖w‖ / ‖m̂ / (√v̂ + ε)‖, without λ w; its
    `weight_decay` shrinks the weights by rate · λ before the step, apart from it, so that the length of a
    step is no longer rate · ‖w‖; it scales the steps of biases and normalizations as well; it has no φ; and
    its ε is 1e-7.

    Costs two norms per variable more than Adam. Gradients of embeddings become dense.

    Args:
        learning_rate: A float, a Keras schedule, or a function without arguments. For k times the batch the
            authors take √k times the rate. Defaults to 0.001.
        beta_1: β₁, from 0 to below 1. Defaults to 0.9.
        beta_2: β₂, from 0 to below 1. Defaults to 0.999.
        epsilon: ε, from 0 up. Defaults to 1e-6.
        weight_decay: λ, from 0 up; the authors take 0.01 for BERT. Defaults to 0.
        phi_bounds: (low, high) of φ, both from 0 up; None, the default, is φ(z) = z.
        bias_correction: Whether to divide by 1 - βᵗ; without, m̂ = m and v̂ = v. Defaults to True.
        exclude: Regular expressions; a variable in whose path (such as "dense_1/kernel") one is found is left
            out.
        exclude_vectors: Whether to leave out each variable with one axis, or none. Defaults to True.
        **options: Of `keras.optimizers.Optimizer`: `clipnorm`, `use_ema`, `loss_scale_factor`, `name`, ...

    Raises:
        ValueError: If an argument is out of range; when it is built, if one of `exclude` is in no path.

    References:
        You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2020
        (arXiv 1904.00962), Algorithm 2. The quotient of 1 and what is left out are the habits of public code;
        that the authors take √k, and 0.01, is from memory.

    Example:
        >>> w = keras.Variable([[3.0, 4.0]])                  # ‖w‖ = 5; the first step of Adam is the sign of g
        >>> Lamb(0.1, epsilon=0.0).apply([np.array([[2.0, 0.5]])], [w])
        >>> w.numpy()                                         # 0.1 · 5 / √2 = 0.354
        array([[2.6464467, 3.6464467]], dtype=float32)
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        weight_decay=0.0,
        *,
        phi_bounds=None,
        bias_correction=True,
        exclude=(),
        exclude_vectors=True,
        **options,
    ):
        super().__init__(learning_rate, weight_decay, exclude, exclude_vectors, **options)
        self.beta_1 = ranges.require("Lamb", "beta_1", beta_1, 0, 1, below=True)
        self.beta_2 = ranges.require("Lamb", "beta_2", beta_2, 0, 1, below=True)
        self.epsilon = ranges.require("Lamb", "epsilon", epsilon, 0)
        self.phi_bounds = _bounds(phi_bounds)
        self.bias_correction = ranges.flag("Lamb", "bias_correction", bias_correction)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._means, self._squares = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def update_step(self, gradient, variable, learning_rate):
        step, decay = self._adam(dense(gradient, variable), variable), self.decay_of(variable)
        if decay:
            step += decay * variable
        rate = tf.cast(learning_rate, variable.dtype)
        if not self.is_excluded(variable):
            weights, length = self._phi(half_norm(variable)), half_norm(step)
            rate *= tf.cast(where_positive(weights, length, weights / length), variable.dtype)
        self.assign_sub(variable, rate * step)

    def _adam(self, gradient, variable):
        """m̂ / (√v̂ + ε) for the next update."""
        index = self._get_variable_index(variable)
        means, squares = self._means[index], self._squares[index]
        self.assign_add(means, (gradient - means) * (1 - self.beta_1))
        self.assign_add(squares, (tf.square(gradient) - squares) * (1 - self.beta_2))
        first, second = self._correction(self.beta_1, variable), self._correction(self.beta_2, variable)
        # Scalars first: m / c₁ / (√(v / c₂) + ε) with one pass over the weights less.
        epsilon = first * tf.constant(self.epsilon, variable.dtype)
        return means / (tf.sqrt(squares) * (first / tf.sqrt(second)) + epsilon)

    def _correction(self, beta, variable):
        """1 - βᵗ, or 1."""
        if not self.bias_correction or not beta:
            return tf.ones((), variable.dtype)
        # Not 1 - pow(β, t): with β₂ = 0.999 in float32 that is off by 1e-5 of itself at the first update.
        t = tf.cast(self.iterations + 1, tf.float32 if variable.dtype.size < 4 else variable.dtype)
        return tf.cast(-tf.math.expm1(t * math.log(beta)), variable.dtype)

    def _phi(self, half):
        """φ(‖w‖) / √2 of ‖w‖ / √2."""
        if self.phi_bounds is None:
            return half
        return tf.clip_by_value(half, *(bound / math.sqrt(2) for bound in self.phi_bounds))

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "phi_bounds": None if self.phi_bounds is None else list(self.phi_bounds),
            "bias_correction": self.bias_correction,
        }


def _bounds(bounds):
    if bounds is None:
        return None
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"phi_bounds of Lamb must be two numbers (low, high), or None, but got {bounds!r}.")
    low = ranges.require("Lamb", "phi_bounds[0]", bounds[0], 0)
    return low, ranges.require("Lamb", "phi_bounds[1]", bounds[1], low)
