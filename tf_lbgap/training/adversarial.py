"""Adversarial training: examples are moved to where the loss is higher before the model learns from them.

    "replace"   the first ⌊r n⌋ examples of a batch of n are replaced (Yao et al.'s ABSA)
    "add"       J(x) becomes (1 - r) J(x) + r J(x'), for all examples (Goodfellow et al.)

Which of the examples come first is random, since the order is. Attacks that do not look at the model, as
`attacks.random_sign`, are the control that tells what of the effect is due to noise of that size.

References:
    Goodfellow, Shlens & Szegedy, "Explaining and harnessing adversarial examples", 2015 (arXiv 1412.6572), section 6.
    Yao, Gholami, Keutzer & Mahoney, "Large batch size training of neural networks with adversarial training and
    second-order information", 2018 (arXiv 1810.01021), and the authors' code.
"""

import math

import keras
import tensorflow as tf
from keras.src.losses.losses import LossFunctionWrapper

from tf_lbgap.attacks.accuracy import NAMED, checked_attack, wants_seed
from tf_lbgap.training import parts
from tf_lbgap.training.added_loss import check_one_output, forward, one_input, step_with_loss
from tf_lbgap.training.checked import at_least
from tf_lbgap.training.draws import Drawing
from tf_lbgap.training.elsewhere import Elsewhere, Seeds
from tf_lbgap.training.sharpness_aware import refuse_groups
from tf_lbgap.training.update_change import register

MIXES = ("replace", "add")


@register
class Adversarial(Drawing):
    """Train on perturbed examples, of any attack.

    The attack meets the model as at inference, so statistics of batch normalization learn from what the model is trained on
    alone; the pass over x' of `mix="add"` normalises by its own statistics and leaves the stored ones. Costs what the
    attack costs for the examples it perturbs, and with "add" another gradient; FGSM on all: twice a plain update.

    Args:
        attack: A function `attack(model, loss, x, y, *, epsilon, data_range)`, or the name of one in `attacks`.
        epsilon: Size of the perturbation, in units of x.
        ratio: r, from 0 to 1: the share of examples that are replaced (of each replica's, the first ⌊r n⌋; spread over its
            micro-batches), or the weight of the perturbed ones. It may be set while training runs.
        mix: `"replace"` or `"add"`.
        data_range: (low, high) of the data; None does not clip.
        seed: Of attacks that take one.

    Raises:
        ValueError: If an argument is out of range, or the model has several outputs.

    Example:

    ```python
    noise = lb.training.Adversarial("random_sign", epsilon=0.05)
    robust = lb.training.Adversarial("fgsm", epsilon=0.05, ratio=0.5, mix="add")
    ```
    """

    arguments = ("attack", "epsilon", "ratio", "mix", "data_range", "seed")
    per_micro_batch = True

    def __init__(self, attack="fgsm", epsilon=0.05, *, ratio=1.0, mix="replace", data_range=None, seed=0):
        super().__init__(seed)
        self._function, name = checked_attack(attack)
        self.attack = name if NAMED.get(name) is self._function else attack  # a name can be saved
        self._made_loss = None
        self.epsilon = at_least(0.0, "Adversarial", epsilon=epsilon)
        self._ratio = at_least(0.0, "Adversarial", most=1.0, ratio=ratio)
        self._traced_ratio = None
        if mix not in MIXES:
            raise ValueError(f"Adversarial(mix={mix!r}): mix must be 'replace' or 'add'.")
        self.mix = mix
        self.data_range = None if data_range is None else _range(data_range)

    @property
    def ratio(self):
        """r."""
        return self._ratio

    @ratio.setter
    def ratio(self, ratio):
        self._ratio = at_least(0.0, "Adversarial", most=1.0, ratio=ratio)
        if self._traced_ratio is not None:
            self._traced_ratio.assign(self._ratio)

    def check_within(self, inner):
        refuse_groups(self, inner, self.mix == "add")

    def check(self, model):
        check_one_output(model, "Adversarial")

    def begin_fit(self, model):
        super().begin_fit(model)
        if self._traced_ratio is None:
            with tf.device("CPU:0"):
                self._traced_ratio = tf.Variable(self._ratio, dtype=tf.float64, trainable=False)

    def around(self, model, step):
        return getattr(self, f"_{self.mix}")(model, step)

    def _replace(self, model, step):
        def replacing(data):
            x, y, sample_weight = one_input(data, "Adversarial")
            count = self._count(parts.num_examples(data))

            def perturbed():
                first = self._perturbed(model, x[:count], y[:count])
                return tf.concat([first, x[count:]], 0)

            moved = tf.cond(count > 0, perturbed, lambda: tf.identity(x))
            moved.set_shape(x.shape)
            return step(keras.utils.pack_x_y_sample_weight(moved, y, sample_weight))

        return replacing

    def _count(self, n):
        """How many of the n examples of a part are replaced: those of all parts add up to that of the batch."""
        start = tf.cast(parts.place().start, tf.float64)
        before, after = (
            tf.floor(end * self._traced_ratio + 1e-9)  # 0.29 of 100 are 29
            for end in (start, start + tf.cast(n, tf.float64))
        )
        return tf.cast(after - before, tf.int64)

    def _add(self, model, step):
        def adding(data):
            x, y, _ = one_input(data, "Adversarial")
            masks = Seeds(model)
            moved = self._perturbed(model, x, y)

            def mixed(loss, compute, y, y_pred, sample_weight):
                masks.rewind()
                with Elsewhere(model):
                    other = compute(moved, y, forward(model, moved), sample_weight)
                r = tf.cast(self._traced_ratio, loss.dtype)
                return (1 - r) * loss + r * other

            return step_with_loss(model, step, data, mixed, "Adversarial")

        return adding

    def _loss(self, model):
        """The loss as `compile` makes it from a name or a function, the same at each call: attacks are traced by it."""
        if isinstance(model.loss, keras.losses.Loss):
            return model.loss
        if self._made_loss is None or self._made_loss[0] is not model.loss:
            self._made_loss = model.loss, LossFunctionWrapper(keras.losses.get(model.loss))
        return self._made_loss[1]

    def _perturbed(self, model, x, y):
        options = {"epsilon": self.epsilon, "data_range": self.data_range}
        if wants_seed(self._function):
            options["seed"] = self.seed_of_update(model)
        moved = self._function(model, self._loss(model), x, y, **options)
        return tf.stop_gradient(tf.ensure_shape(tf.cast(moved, x.dtype), x.shape))


def _range(data_range):
    try:
        low, high = (float(bound) for bound in data_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise ValueError(
            f"Adversarial(data_range={data_range!r}): data_range must be (low, high), such as (0, 1)."
        )
    return low, high
