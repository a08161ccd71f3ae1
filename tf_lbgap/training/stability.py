"""Stability training: the outputs at a noisy copy of each example shall be those at the example.

    J(x) + α D(f(x), f(x')),   x' = x + σ z,   z normal

with D the cross-entropy -Σ_j p_j(x) log p_j(x') of a classifier, and ‖f(x) - f(x')‖² otherwise, each a mean over
examples. The loss itself is taken at the clean example alone.

References:
    Zheng, Song, Leung & Goodfellow, "Improving the robustness of deep neural networks via stability training", CVPR 2016
    (arXiv 1604.04326), section 3. Keskar et al. 2017, appendix E, found it not to help large batches.
"""

import tensorflow as tf

from tf_lbgap.training import replicas
from tf_lbgap.training.added_loss import forward, step_with_loss
from tf_lbgap.training.checked import at_least
from tf_lbgap.training.draws import seed_of_update
from tf_lbgap.training.elsewhere import Elsewhere, Seeds
from tf_lbgap.training.update_change import UpdateChange, register


@register
class Stability(UpdateChange):
    """Add the distance between outputs at x and at a noisy x to the loss.

    The second pass draws the same dropout masks, normalises by its own batch statistics, and leaves the stored ones. Costs twice the gradients.

    Args:
        alpha: α, 0 or more. 0.01 is what Zheng et al. use for classification (from memory).
        sigma: σ, in units of x. 0.04 of a range of 1 is theirs (from memory).
        seed: Of the noise.

    Raises:
        ValueError: If an argument is out of range, or the model has several inputs or outputs.
    """

    arguments = ("alpha", "sigma", "seed")
    per_micro_batch = True

    def __init__(self, alpha=0.01, *, sigma=0.04, seed=0):
        self.alpha = at_least(0.0, "Stability", alpha=alpha)
        self.sigma = at_least(0.0, "Stability", sigma=sigma)
        self.seed = int(seed)

    def check(self, model):
        if len(tf.nest.flatten([model.inputs or [None], model.outputs or [None]])) > 2:
            raise ValueError(
                f"Stability compares the output at x and at a noisy x, and model {model.name!r} has several inputs or "
                "outputs. Train a model with one of each, or leave Stability out."
            )

    def around(self, model, step):
        def steadied(data):
            x, masks = data[0], Seeds(model)
            seed = seed_of_update(model.optimizer, self.seed)
            noisy = x + tf.constant(self.sigma, x.dtype) * tf.random.stateless_normal(
                tf.shape(x), seed, dtype=x.dtype
            )

            def with_distance(loss, compute, y, y_pred, sample_weight):
                masks.rewind()
                with Elsewhere(model):
                    other = forward(model, noisy)
                distance = _distance(model.loss, y_pred, other) / replicas.count()
                return loss + tf.cast(self.alpha * distance, loss.dtype)

            return step_with_loss(model, step, data, with_distance, "Stability")

        return steadied


def _distance(loss, one, other):
    """The mean over examples of D."""
    one, other = (tf.cast(t, tf.float32) if t.dtype.size < 4 else t for t in (one, other))
    from_logits = getattr(loss, "from_logits", None)
    if from_logits is None:
        axes = list(range(1, one.shape.rank))
        return tf.reduce_mean(tf.reduce_sum(tf.square(one - other), axes))
    if one.shape[-1] == 1:
        return tf.reduce_mean(_binary(one, other, from_logits))
    if from_logits:
        return tf.reduce_mean(-tf.reduce_sum(tf.nn.softmax(one) * tf.nn.log_softmax(other), -1))
    return tf.reduce_mean(-tf.reduce_sum(one * tf.math.log(other + 1e-7), -1))  # Keras' own floor


def _binary(one, other, from_logits):
    if from_logits:
        return tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(one), other)
    return -(one * tf.math.log(other + 1e-7) + (1 - one) * tf.math.log(1 - other + 1e-7))
