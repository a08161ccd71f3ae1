"""What the operators on the weights of a model share: data, layout, tracing, and what is checked.

A subclass says in `_rows_of_batch` what one batch adds to the matrix, times each of several vectors. Everything
else is here: chunks, float64 sums, statistics of batch normalization, and the refusal of models and losses that
are no function of the weights.
"""

import math
import warnings

import numpy as np
import tensorflow as tf

from tf_lbgap import strategy
from tf_lbgap.curvature.objective import Objective
from tf_lbgap.curvature.operator import Operator
from tf_lbgap.curvature.second_order import check_second_derivatives
from tf_lbgap.curvature.sums import CHUNK_SIZE, SumsOverBatches


class WeightsOperator(Operator):
    """A matrix whose rows and columns belong to the trainable weights of a model.

    The base of `HessianOperator`, where arguments and attributes are described.
    """

    entry = "trainable weight, the variables in order and each flattened"
    name = "matrix"

    def __init__(
        self,
        model,
        loss,
        batches,
        *,
        regularization=False,
        variables=None,
        batch_normalization="inference",
        loss_weights=None,
        chunk_size=CHUNK_SIZE,
        check=False,
        jit_compile=False,
    ):
        check_second_derivatives()
        self._objective = Objective(
            model,
            loss,
            regularization,
            variables=variables,
            batch_normalization=batch_normalization,
            loss_weights=loss_weights,
        )
        self._parameters = self._objective.parameters
        self.precision = self._objective.precision
        if self.precision.endswith(")"):
            warnings.warn(f"Products are computed in {self.precision}.", stacklevel=2)
        n = self._parameters.size
        super().__init__((n, n), self._parameters.dtype)
        statistics = [
            tf.TensorSpec(v.shape, v.dtype) for v in getattr(self._objective.statistics, "variables", ())
        ]
        self._statistics_signature = statistics
        self._chunk_size = None if batch_normalization == "batch" else chunk_size
        self._jit_compile = jit_compile
        self._sums = self._summed(self._of_batch, None, batches)
        self._loss_is_known, self.loss = False, math.nan
        if check:
            from tf_lbgap.curvature.check import check_model

            check_model(model, loss, self._sums.first(), loss_weights=loss_weights)

    def _summed(self, function, num_vectors, batches):
        return SumsOverBatches(
            function,
            [self._statistics_signature, tf.TensorSpec([num_vectors, self.shape[0]], self.dtype)],
            batches,
            self.dtype,
            chunk_size=self._chunk_size,
            jit_compile=self._jit_compile,
            devices=strategy.devices(self._objective.model),
        )

    @property
    def batches(self):
        """The data, as tensors. Assign other data of the same structure: nothing is compiled anew."""
        return self._sums.batches

    @batches.setter
    def batches(self, batches):
        self._sums.batches = batches
        self._loss_is_known = False

    @property
    def model(self):
        """The model."""
        return self._objective.model

    def _multiply(self, rows):
        statistics = self._statistics()
        sums = self._sums_for(len(rows))
        if not self._loss_is_known:
            self._refuse_unless_loss_repeats(sums, statistics)
        (total, loss), count = sums(statistics, tf.constant(rows))
        with np.errstate(divide="ignore", invalid="ignore"):
            result, self.loss = total / count, float(loss / count)
        if not np.isfinite(result).all():
            raise ValueError(self._explain(rows, count))
        return result.astype(self.dtype)

    def _sums_for(self, num_vectors):
        """What multiplies so many vectors."""
        return self._sums

    def _statistics(self):
        if self._objective.statistics is None:
            return []
        return [tf.constant(value) for value in self._objective.statistics(self.batches)]

    def _of_batch(self, batch, statistics, vectors):
        """Count times matrix of one batch times each row of `vectors` [k, n], its total loss; and the count."""
        rows, loss, count = self._rows_of_batch(batch, statistics, vectors)
        return [rows, loss], count

    def _rows_of_batch(self, batch, statistics, vectors):
        raise NotImplementedError

    def _refuse_unless_loss_repeats(self, sums, statistics):
        """Two calls, which cost a gradient each: a loss that differs is no function."""
        # No vectors, but where XLA cannot compile a loop over nothing, or the function takes just one.
        none = tf.zeros([int(self._jit_compile or sums is not self._sums), self.shape[0]], self.dtype)
        batch = sums.first()
        (first, count), (second, _) = (_loss(sums, batch, statistics, none) for _ in range(2))
        if count > 0 and not np.isfinite(first):
            raise ValueError(
                f"Loss {self._objective.loss_name!r} is {first} at the present weights, so its {self.name} is not finite "
                "either. Has training diverged, or do the data hold NaN?"
            )
        if abs(first - second) > 64 * np.finfo(self.dtype).eps * max(abs(first), abs(second)):
            raise ValueError(
                f"Loss {self._objective.loss_name!r} of the same batch was {first:.9g} and then {second:.9g}: the model or "
                "the loss is random at inference or has a state, so it has no Hessian. Let random layers do nothing "
                "when training=False."
            )
        self._loss_is_known = True

    def _explain(self, rows, count):
        loss = self._objective.loss_name
        if not np.isfinite(rows).all():
            return (
                f"The vector to multiply the {self.name} of loss {loss!r} with has NaN or infinite entries."
            )
        if count == 0:
            return (
                f"Loss {loss!r} was averaged over nothing: the batches are empty, or all of their entries are masked or "
                "of weight 0. Pass at least one example that counts."
            )
        return (
            f"The {self.name} of loss {loss!r} has NaN or infinite entries at the present weights. Check that the loss "
            "itself is finite (has training diverged?) and that it has second derivatives there: sqrt and norms at 0 "
            "have none."
        )


def _loss(sums, batch, statistics, none):
    (_, total), count = sums.of_batch(batch, statistics, none)
    return float(total), float(count)
