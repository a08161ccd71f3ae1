"""Gradients of micro-batches of the same examples, at the model's present weights.

One function is traced for all sizes of a micro-batch. The model is a function of its weights as for the curvature
measures (`curvature.objective`): inference mode, and nothing in it changes.
"""

import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.batches import TensorBatches
from tf_lbgap.curvature.objective import Objective
from tf_lbgap.curvature.sums import CHUNK_SIZE, SumsOverBatches

KEPT_BYTES = 2**28
"""Gradients of all micro-batches are kept if they fit into this; else they are computed again when needed."""


class MicroBatchGradients:
    """The gradient of the mean loss of each of the micro-batches into which the data are cut.

    Args:
        model: As for `curvature.HessianOperator`.
        loss: Likewise.
        batches: Likewise; how they are cut is without effect, and all are held in memory.
        regularization: Likewise. The gradient of a penalty is the same in every micro-batch.
        batch_normalization: "inference" or "recalibrated".
        chunk_size: Without effect: a micro-batch is worked off in one piece.
        **options: Of `curvature.objective.Objective`.

    Raises:
        ValueError: If batch normalization is to use the statistics of each batch.
    """

    def __init__(
        self,
        model,
        loss,
        batches,
        *,
        regularization=False,
        batch_normalization="inference",
        chunk_size=CHUNK_SIZE,
        **options,
    ):
        if batch_normalization == "batch":
            raise ValueError(
                'batch_normalization="batch" lets an example\'s gradient depend on the rest of its batch, so there is no '
                'covariance of single examples. Pass "inference" or "recalibrated".'
            )
        self._objective = Objective(
            model, loss, regularization, batch_normalization=batch_normalization, **options
        )
        self.parameters, self._sums = self._objective.parameters, None
        self.batches = batches

    @property
    def batches(self):
        """The data, as tensors. Assign other data of the same structure: nothing is traced anew."""
        return self._batches

    @batches.setter
    def batches(self, batches):
        self._batches = TensorBatches(batches, self.parameters.dtype)
        self._examples = None

    @property
    def num_examples(self):
        """How many examples there are."""
        return int(tf.nest.flatten(self._joined())[0].shape[0])

    def cut(self, micro_batch_size, seed):
        """Return the indices of the examples of each micro-batch, drawn without replacement; the last may be smaller.

        Args:
            micro_batch_size: Examples in each.
            seed: Of the order of the examples; None: as they come.
        """
        count = self.num_examples
        order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
        return [order[i : i + micro_batch_size] for i in range(0, count, micro_batch_size)]

    def __call__(self, cut):
        """Yield the gradient of the mean loss of each micro-batch, float64 (n,), and what the loss counts in it.

        Raises:
            ValueError: If the loss or the gradient of a micro-batch is not finite at the present weights.
        """
        exact = self._objective.statistics
        statistics = [] if exact is None else [tf.constant(v) for v in exact(self._batches)]
        flat = tf.constant(self.parameters.values(), self.parameters.dtype)
        examples = self._joined()
        for indices in cut:
            batch = tf.nest.map_structure(lambda leaf, i=indices: tf.gather(leaf, i), examples)
            gradient, total, count = self._of(batch, statistics, flat)
            if not (np.isfinite(total) and np.isfinite(gradient).all()):
                raise ValueError(
                    f"Loss {self._objective.loss_name!r} of a micro-batch, or its gradient, is not finite at the present "
                    "weights, so its noise cannot be measured. Has training diverged, or do the data hold NaN?"
                )
            yield gradient / count if count else gradient, count

    def _of(self, batch, statistics, flat):
        if self._sums is None:
            specs = [tf.TensorSpec(v.shape, v.dtype) for v in statistics]
            arguments = [specs, tf.TensorSpec(flat.shape, flat.dtype)]
            self._sums = SumsOverBatches(
                self._gradient, arguments, [batch], self.parameters.dtype, chunk_size=None
            )
        (gradient, total), count = self._sums.of_batch(batch, statistics, flat)
        return gradient.numpy().astype("float64"), float(total), float(count)

    def _gradient(self, batch, statistics, flat):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(flat)
            total, count = self._objective.total_and_count(
                self.parameters.unflatten(flat), *batch, statistics=statistics
            )
        return [tape.gradient(total, flat, unconnected_gradients="zero"), total], count

    def _joined(self):
        if self._examples is None:
            parts = list(self._batches)
            self._examples = tf.nest.map_structure(_joined, *parts) if len(parts) > 1 else parts[0]
        return self._examples


def _joined(*leaves):
    if len({leaf.shape[1:] for leaf in leaves}) > 1:
        shapes = sorted({str(tuple(leaf.shape[1:])) for leaf in leaves})
        raise ValueError(
            f"Examples of shapes {' and '.join(shapes)} cannot be in one micro-batch. Pad them to one shape."
        )
    return tf.concat(leaves, 0)


class Deviations:
    """The mean gradient ḡ of all micro-batches, and how each one's deviates from it.

    Where entries are masked, or weighted with `mean_with_sample_weight`, the mean loss is a quotient of sums,
    total / count. There the deviation is that of the linearised quotient: count_i (g_i - ḡ) / (n_i c), with c the count
    per example. Without masks that is g_i - ḡ.

    Args:
        gradients: `MicroBatchGradients`.
        cut: What its `cut` returned.

    Attributes:
        sizes: n_i, shape (M,).
        mean: ḡ, float64 (n,).
    """

    def __init__(self, gradients, cut):
        self._gradients, self._cut, self._kept = gradients, cut, None
        self.sizes = np.array([len(indices) for indices in cut])
        if len(cut) * gradients.parameters.size * 8 <= KEPT_BYTES:
            self._kept = list(gradients(cut))
        total, count = 0.0, 0.0
        for gradient, part in self._all():
            total, count = total + part * gradient, count + part
        if not count:
            raise ValueError(
                "The loss was averaged over nothing: all entries are masked or of weight 0. Pass at least one example that "
                "counts."
            )
        self.mean, self._count_per_example = total / count, count / self.sizes.sum()

    def __iter__(self):
        for (gradient, count), size in zip(self._all(), self.sizes, strict=True):
            yield (gradient - self.mean) * (count / (size * self._count_per_example))

    def _all(self):
        return self._gradients(self._cut) if self._kept is None else self._kept
