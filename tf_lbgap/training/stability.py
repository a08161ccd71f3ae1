"""Stability training: the outputs at a noisy copy of each example shall be those at the example.

    J(x) + α D(f(x), f(x')),   x' = x + σ z,   z normal

with D the cross-entropy -Σ_j p_j(x) log p_j(x') of a classifier (of binary answers the sum of theirs), and
‖f(x) - f(x')‖² for other losses of Keras, each a mean over examples. The loss itself is taken at the clean example alone.

References:
    Zheng, Song, Leung & Goodfellow, "Improving the robustness of deep neural networks via stability training", CVPR 2016
    (arXiv 1604.04326), section 3. Keskar et al. 2017, appendix E, found it not to help large batches.
"""

import keras
import tensorflow as tf

from tf_lbgap.training import replicas
from tf_lbgap.training.added_loss import check_one_output, forward, one_input, step_with_loss
from tf_lbgap.training.checked import at_least
from tf_lbgap.training.draws import Drawing
from tf_lbgap.training.elsewhere import Elsewhere, Seeds
from tf_lbgap.training.sharpness_aware import refuse_groups
from tf_lbgap.training.update_change import register


@register
class Stability(Drawing):
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
        super().__init__(seed)
        self.alpha = at_least(0.0, "Stability", alpha=alpha)
        self.sigma = at_least(0.0, "Stability", sigma=sigma)

    def check_within(self, inner):
        refuse_groups(self, inner)

    def check(self, model):
        check_one_output(model, "Stability")
        _family(model.loss)

    def around(self, model, step):
        def steadied(data):
            x, _, _ = one_input(data, "Stability")
            masks = Seeds(model)
            seed = self.seed_of_update(model)
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
    """The mean over examples of D; 0 for no example, as a replica may get."""
    one, other = (tf.cast(t, tf.float32) if t.dtype.size < 4 else t for t in (one, other))
    family, from_logits = _family(loss)
    each = family(one, other, from_logits)
    each = tf.reduce_sum(tf.reshape(each, [tf.shape(each)[0], -1]), 1)
    return tf.math.divide_no_nan(tf.reduce_sum(each), tf.cast(tf.size(each), each.dtype))


def _of_classes(one, other, from_logits):
    if from_logits:
        return -tf.reduce_sum(tf.nn.softmax(one) * tf.nn.log_softmax(other), -1)
    return -tf.reduce_sum(one * tf.math.log(other + 1e-7), -1)  # Keras' own floor


def _of_answers(one, other, from_logits):
    """Of outputs that each answer a question with yes or no."""
    if from_logits:
        return tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(one), other)
    return -(one * tf.math.log(other + 1e-7) + (1 - one) * tf.math.log(1 - other + 1e-7))


def _squares(one, other, from_logits):
    return tf.square(one - other)


def _family(loss):
    """The distance that belongs to a loss, and whether outputs are logits.

    Raises:
        ValueError: If it is a loss of the user's own, of which it is not known.
    """
    made = keras.losses.get(loss)
    name = getattr(made, "__name__", type(made).__name__).lower().replace("_", "")
    own = getattr(made, "__module__", type(made).__module__) or ""
    from_logits = getattr(made, "from_logits", False)
    if "binary" in name and "entropy" in name:
        return _of_answers, from_logits
    if "entropy" in name:
        return _of_classes, from_logits
    if own.partition(".")[0] == "keras":
        return _squares, False
    raise ValueError(
        f"Stability compares outputs by the cross-entropy of a classifier or by squares, and does not know which belongs to "
        f"loss {loss!r}. Compile the model with a loss of Keras, or train without Stability."
    )
