"""Multiplicative noise on the gradients of examples: a large batch with the noise of a small one.

    ĝ = 1/M Σ_n g_n z_n,   z_n ~ N(1, σ²)

has the expectation of the batch's gradient, and a covariance that is larger by σ²/M times the second moment of the g_n.
With σ² = M/m - 1 it is about that of a batch of m: that of the large batch, 1/M of an example's, and (M/m - 1)/M more.

References:
    Hoffer, Hubara & Soudry, "Train longer, generalize better", NeurIPS 2017 (arXiv 1705.08741), section 4: σ² in
    proportion to M.
"""

import keras
import tensorflow as tf

from tf_lbgap.training import parts, replicas
from tf_lbgap.training.checked import at_least, check_whole
from tf_lbgap.training.draws import Drawing
from tf_lbgap.training.update_change import register


@register
class NoisyGradient(Drawing):
    """Weigh the gradient of each example by a normal number of mean 1.

    The numbers go into the loss as sample weights, times the user's own, so the logged loss is noisy too (its mean is
    right), and weighted metrics are. They may be below 0. The loss has to have a value for each example, as all losses of
    Keras have, and a `train_step` of your own has to use sample weights. Costs nothing.

    Args:
        reference_batch_size: m: the batch whose noise is to be had; σ² = M/m - 1 for a batch of M, over all replicas, and 0
            where M is m or less.
        sigma: σ, instead.
        seed: Of the numbers.

    Raises:
        ValueError: If not one of the two is given, or it is out of range; at the start of `fit` if the model's loss
            divides by the sum of its weights, so that noise would change its mean.
    """

    arguments = ("reference_batch_size", "sigma", "seed")
    per_micro_batch = True

    def __init__(self, reference_batch_size=None, *, sigma=None, seed=0):
        super().__init__(seed)
        if (reference_batch_size is None) == (sigma is None):
            raise ValueError(
                "NoisyGradient needs reference_batch_size, the batch whose noise is to be had, such as 64; or sigma instead."
            )
        self.reference_batch_size = reference_batch_size and check_whole(
            "NoisyGradient", reference_batch_size=reference_batch_size
        )
        self.sigma = None if sigma is None else at_least(0.0, "NoisyGradient", sigma=sigma)

    def check(self, model):
        losses = tf.nest.flatten(model.loss)
        if any(getattr(loss, "reduction", None) == "mean_with_sample_weight" for loss in losses):
            raise ValueError(
                "NoisyGradient weighs examples, and a loss with reduction='mean_with_sample_weight' divides by the sum of the "
                "weights. Compile it with reduction='sum_over_batch_size'."
            )

    def around(self, model, step):
        def noisy(data):
            x, y, own = keras.utils.unpack_x_y_sample_weight(data)
            n = parts.num_examples(data)
            z = 1 + self._sigma(n) * tf.random.stateless_normal([n], self.seed_of_update(model))

            def noised(weight):
                return tf.cast(weight, z.dtype) * tf.reshape(z, [-1] + [1] * (weight.shape.rank - 1))

            z = z if own is None else tf.nest.map_structure(noised, own)
            return step(keras.utils.pack_x_y_sample_weight(x, y, z))

        return noisy

    def _sigma(self, n):
        if self.sigma is not None:
            return tf.constant(self.sigma, tf.float32)
        whole = parts.place().whole
        size = tf.cast(n if whole is None else whole, tf.float32) * replicas.count()
        return tf.sqrt(tf.maximum(size / self.reference_batch_size - 1, 0))
