"""Norms of the gradients of micro-batches: what the gradient's noise is estimated from.

If examples are drawn independently, E|g_i|² = |G|² + tr(Σ) / n_i for the gradient of a part of n_i examples: two
sizes, that of a part and that of the whole batch, give |G|² and tr(Σ). See `gradient_noise.unbiased`.
"""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class MicroGradients:
    """Of one update, the gradients g_i of its k parts and g_B of the batch, for each of V trainable variables.

    Of gradients as the loss has them, without a loss scale and before clipping; `squared_norm` is biased, as that
    of any finite batch. Parts weigh as they do in the update: n_i / B, or what masks and weights leave of it.

    Attributes:
        batch_size: B, examples.
        num_micro_batches: k.
        mean_inverse_size: Mean over parts of 1 / n_i.
        squared_norms: Mean over parts of |g_i|², float64 of shape (V,).
        squared_norm: |g_B|², float64 of shape (V,).
        inner_product_variance: Σ_i n_i (g_i . g_B - |g_B|²)² / (k - 1), of all variables together: an estimate
            of the variance of one example's product with g_B. NaN for one part, None if it was not asked for.
    """

    batch_size: int
    num_micro_batches: int
    mean_inverse_size: float
    squared_norms: np.ndarray
    squared_norm: np.ndarray
    inner_product_variance: float | None


class Notebook:
    """Variables in which a traced update leaves these numbers.

    Each replica has its own, and their mean is read: what is of the whole batch is the same on all of them.

    Args:
        num_variables: V.
        strategy: That of the model.
    """

    def __init__(self, num_variables, strategy):
        def variable(shape):
            return tf.Variable(
                tf.zeros(shape, tf.float64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )

        with strategy.scope() if strategy.num_replicas_in_sync > 1 else tf.device("CPU:0"):
            self._numbers = variable([4])  # batch size, parts, mean inverse size, inner-product variance
            self._norms = variable([2, num_variables])

    def write(self, numbers, squared_norms, squared_norm):
        """Leave the numbers of one update; `numbers` as `_numbers`."""
        self._numbers.assign(tf.stack([tf.cast(number, tf.float64) for number in numbers]))
        self._norms.assign(tf.stack([squared_norms, squared_norm]))

    def read(self, inner_products):
        """Return the `MicroGradients` of the last update written, or None."""
        size, parts, inverse, variance = np.asarray(self._numbers.read_value())
        if not size:
            return None
        squared_norms, squared_norm = np.asarray(self._norms.read_value())
        return MicroGradients(
            round(size),
            round(parts),
            float(inverse),
            squared_norms,
            squared_norm,
            float(variance) if inner_products else None,
        )
