"""Groups of m examples, and the rise of each one's loss after a step up its own gradient.

One traced function does gradient, step and second loss of a group, so that a thousand groups of one example are
a thousand calls and no more.
"""

import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.batches import TensorBatches
from tf_lbgap.curvature.objective import Objective
from tf_lbgap.curvature.sums import CHUNK_SIZE, SumsOverBatches


class Groups:
    """The same examples in the same order, in batches of m; the last one may be smaller.

    Args:
        batches: An iterable of nested tensors.
        m: Examples in a group.
    """

    def __init__(self, batches, m):
        self._batches, self._m = batches, m

    def __iter__(self):
        waiting = None
        for batch in self._batches:
            if waiting is not None:
                batch = tf.nest.map_structure(_joined, waiting, batch)
            length = int(tf.nest.flatten(batch)[0].shape[0])
            whole = length - length % self._m
            for start in range(0, whole, self._m):
                yield _rows(batch, start, start + self._m)
            waiting = _rows(batch, whole, length) if whole < length else None
        if waiting is not None:
            yield waiting


class GroupAscent:
    """Mean over groups of L_group(w + ρ g / ‖g‖) - L_group(w), with g the gradient of the group's own loss.

    Args:
        model: As for `curvature.LossSurface`.
        loss: Likewise.
        batches: Likewise.
        regularization: Likewise.
        chunk_size: Without effect: a group is worked off in one piece.
        **options: Of `curvature.objective.Objective`.
    """

    def __init__(self, model, loss, batches, *, regularization=False, chunk_size=CHUNK_SIZE, **options):
        self._objective = Objective(model, loss, regularization, **options)
        self._parameters = self._objective.parameters
        self._sums, self._m = None, None
        self.batches = batches

    @property
    def batches(self):
        """The data, as tensors. Assign other data of the same structure: nothing is traced anew."""
        return self._batches

    @batches.setter
    def batches(self, batches):
        self._batches = TensorBatches(batches, self._parameters.dtype)
        self._m = None

    def rise(self, m, rho):
        """The mean rise for groups of m examples and steps of length rho, a float.

        Raises:
            ValueError: If m is no number of examples, the loss or a gradient is not finite at the present weights,
                or there is nothing to average over.
        """
        if not (isinstance(m, int | np.integer) and m >= 1):
            raise ValueError(f"m is {m!r}, but should be a number of examples of at least 1, such as 128.")
        self._cut(m)
        exact = self._objective.statistics
        statistics = [] if exact is None else [tf.constant(v) for v in exact(self._batches)]
        dtype = self._parameters.dtype
        flat = tf.constant(self._parameters.values(), dtype)
        (rise, start), count = self._sums(statistics, flat, tf.constant(rho, dtype))
        if not np.isfinite(start):
            raise ValueError(
                "The loss of some group, or its gradient, is not finite at the present weights. Has training diverged, or "
                "do the data hold NaN?"
            )
        if count == 0:
            raise ValueError(
                "The loss was averaged over nothing: all entries are masked or of weight 0. Pass at least one example "
                "that counts."
            )
        return float(rise / count)

    def _cut(self, m):
        if m == self._m:
            return
        groups = Groups(self._batches, m)
        if self._sums is None:
            specs = [
                tf.TensorSpec(v.shape, v.dtype) for v in getattr(self._objective.statistics, "variables", ())
            ]
            dtype, size = self._parameters.dtype, self._parameters.size
            arguments = [specs, tf.TensorSpec([size], dtype), tf.TensorSpec([], dtype)]
            self._sums = SumsOverBatches(self._of_group, arguments, groups, dtype, chunk_size=None)
        else:
            self._sums.batches = groups
        self._m = m

    def _of_group(self, group, statistics, flat, rho):
        def loss(weights):
            return self._objective.total_and_count(
                self._parameters.unflatten(weights), *group, statistics=statistics
            )

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(flat)
            total, count = loss(flat)
        gradient = tape.gradient(total, flat, unconnected_gradients="zero")
        norm = tf.norm(gradient)
        raised, _ = loss(flat + rho * tf.math.divide_no_nan(gradient, norm))
        return [raised - total, total + 0 * tf.cast(norm, total.dtype)], count


def _joined(first, second):
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"Examples of shapes {tuple(first.shape[1:])} and {tuple(second.shape[1:])} cannot be in one group. Pad them to "
            "one shape, or pass batches whose sizes are multiples of m."
        )
    return tf.concat([first, second], 0)


def _rows(batch, start, stop):
    return tf.nest.map_structure(lambda leaf: leaf[start:stop], batch)
