"""Logs and metrics of an update that was made from parts.

Metrics add up sums over examples, so they may be updated part by part. A mean of losses of batches may not: the
loss of the batch is the weighted mean of the losses of its parts, and it is one update of that metric. So numbers
given to `keras.metrics.Mean` wait until all parts are there, and results are asked for after that.
"""

import contextlib
import dataclasses
import functools
import typing

import keras
import tensorflow as tf
from keras.src.backend.common.stateless_scope import get_stateless_scope

from tf_lbgap.training.held import held

CAPACITY = 64
"""Most numbers that a step may log beside its metrics: the state of a loop needs its shape before it is traced."""


class Logs:
    """Notes what `train_step` logs for a part, as Python sees it while that is traced.

    Args:
        model: A compiled Keras model.
        batch_dimension: n if the shape of the batch says it, or None: Keras weighs the loss of one of several
            outputs by it.
    """

    def __init__(self, model, batch_dimension):
        self._model, self._batch_dimension = model, batch_dimension

    @contextlib.contextmanager
    def noted(self):
        """Note what metrics get and what they return in the block; it yields a function for what the step returns."""
        self._scope = get_stateless_scope()
        self._means, self._sums = [], []  # float64 scalars of the part
        self._updates = []  # (metric, index of its mean, index of the sum of its weights, or None)
        self._results = {}  # id of a tensor -> _Result, which keeps the tensor alive
        with contextlib.ExitStack() as stack:
            for metric in self._model.metrics:
                stack.enter_context(held(metric, **self._spies(metric)))
            yield self._note_returned

    def _note_returned(self, returned):
        self._returned = tf.nest.map_structure(self._source, returned)

    @staticmethod
    def zeros():
        """What `means` and `sums` begin with."""
        return tf.zeros([CAPACITY], tf.float64)

    @property
    def means(self):
        """Numbers of the part whose weighted mean is that of the batch, float64 of shape (CAPACITY,)."""
        return _padded(self._means)

    @property
    def sums(self):
        """Numbers of the part whose sum is that of the batch, float64 of shape (CAPACITY,)."""
        return _padded(self._sums)

    def finish(self, means, sums):
        """Update the metrics that waited, and return the logs of the batch, from its means and sums."""
        for metric, mean, weight in self._updates:
            if weight is not None:
                weight = sums[weight]
            elif metric is not self._model._loss_tracker and self._is_of_output(metric):
                weight = self._batch_dimension
            metric.update_state(means[mean], sample_weight=weight)
        results = {}

        def log(source):
            if isinstance(source, _Result):
                if id(source.metric) not in results:
                    results[id(source.metric)] = tf.nest.flatten(source.metric.result())
                return results[id(source.metric)][source.place]
            if isinstance(source, _Number):
                number = means[source.mean]
                return tf.cast(number if source.dtype.is_floating else tf.round(number), source.dtype)
            return source

        return tf.nest.map_structure(log, self._returned)

    def _spies(self, metric):
        spies = {"result": functools.partial(self._result, metric, metric.result)}
        if type(metric) is keras.metrics.Mean:
            spies["update_state"] = functools.partial(self._update, metric, metric.update_state)
        return spies

    def _result(self, metric, result):
        value = result()
        for place, leaf in enumerate(tf.nest.flatten(value)):
            self._results[id(leaf)] = _Result(leaf, metric, place)
        return value

    def _update(self, metric, update, values, sample_weight=None):
        if (
            get_stateless_scope() is not self._scope
        ):  # a second pass within the part, of no interest to metrics
            return
        of_loss = metric is self._model._loss_tracker or self._is_of_output(metric)
        if not _is_number(values) or not (of_loss or sample_weight is None):
            update(values, sample_weight=sample_weight)
            return
        weight = None if sample_weight is None else _add(self._sums, sample_weight)
        self._updates.append((metric, _add(self._means, values), weight))

    def _is_of_output(self, metric):
        compiled = self._model._compile_loss
        return compiled is not None and any(metric is other for other in compiled.metrics)

    def _source(self, value):
        if id(value) in self._results:
            return self._results[id(value)]
        if value is None or isinstance(value, (str, bytes)):
            return value
        value = tf.convert_to_tensor(value)
        if value.shape.rank != 0:
            raise ValueError(
                f"train_step returns a log of shape {value.shape}, which is the result of no metric, so its value for a batch "
                "made from parts is unknown. Return a scalar, or the result of one of model.metrics."
            )
        return _Number(_add(self._means, value), value.dtype)


@dataclasses.dataclass(frozen=True)
class _Result:
    """A log that is what a metric returned."""

    tensor: tf.Tensor
    metric: keras.metrics.Metric
    place: int


@dataclasses.dataclass(frozen=True)
class _Number:
    """A log that is some other number."""

    mean: int
    dtype: typing.Any


def _is_number(values):
    return not isinstance(values, (list, tuple, dict)) and getattr(values, "shape", ()) == ()


def _add(numbers, number):
    if len(numbers) == CAPACITY:
        raise ValueError(f"train_step logs more than {CAPACITY} numbers. Return fewer, or use metrics.")
    numbers.append(tf.cast(tf.convert_to_tensor(number), tf.float64))
    return len(numbers) - 1


def _padded(numbers):
    if not numbers:
        return Logs.zeros()
    return tf.pad(tf.stack(numbers), [[0, CAPACITY - len(numbers)]])
