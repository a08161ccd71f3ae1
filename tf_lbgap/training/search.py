"""How many examples fit into one forward and backward pass: found by trying, not by a formula.

What a pass takes depends on the layers, the compiler and the device. So passes of 1, 2, 4, ... real examples are
run, and the last one that ran is the answer. A GPU says itself when its memory is out; a process on a CPU would
rather be killed, so there the next size is tried only if twice the peak of the last would fit.
"""

import contextlib

import numpy as np
import tensorflow as tf

from tf_lbgap import data
from tf_lbgap.training import memory
from tf_lbgap.training.accumulation import Accumulation
from tf_lbgap.training.snapshot import Snapshot
from tf_lbgap.training.train_functions import (
    build_optimizer,
    check_micro_batch_size,
    check_model,
    train_function,
)

_WHOLE = 1 << 40  # a micro-batch that holds any batch
_SHARE = 0.9  # of the memory that is there; the update after the last part takes some, too


def find_micro_batch_size(model, batches, maximum=None, *, available=memory.available):
    """Return the largest size, of those tried, whose forward and backward pass fits into memory.

    Sizes are powers of two and `maximum`. Each is run with the model's own `train_step`, without the update, as a
    part of a larger batch would be. Weights, statistics, metrics, seeds and optimizer are as before, bit for bit.
    The cost is that of twice as many examples as the answer, and of tracing.

    Args:
        model: A compiled and built Keras model.
        batches: `data.Batches`; or a tuple `(x, y)` or `(x, y, sample_weight)`, which is one batch; or an iterable
            of these. The first examples are used, each as often as the sizes need it.
        maximum: Largest size to try. Defaults to `None`: all the examples.
        available: Function that returns the bytes that the process may still take. Used on a CPU alone.

    Returns:
        An int, examples (on each replica).

    Raises:
        ValueError: If not even one example fits, there is none, or updates of the model cannot be accumulated.
    """
    check_model(model)
    maximum = None if maximum is None else check_micro_batch_size(maximum)
    build_optimizer(model)
    examples = _Examples(batches)
    snapshot = Snapshot(model)
    try:
        trial = _Trial(model, examples)
        watch = None if tf.config.list_logical_devices("GPU") else _Watch(available)
        return _largest(trial, watch, examples, maximum)
    finally:
        snapshot.restore()


def _largest(trial, watch, examples, maximum):
    fits, size = 0, 1
    while True:
        size = min(size, examples.most(size), maximum or size)
        if size == fits:
            return fits
        try:
            if watch is None or fits < 2:
                trial(size)  # traced for the first two shapes, which takes memory of its own
            if watch is not None:
                with watch.watched(afresh=fits < 2):
                    trial(size)
        except (tf.errors.ResourceExhaustedError, tf.errors.InternalError, MemoryError) as error:
            if isinstance(error, tf.errors.InternalError) and "memory" not in str(error).lower():
                raise
            if fits:
                return fits
            raise ValueError(
                "Not even one example fits into memory. Use a smaller model or smaller inputs, or free the device "
                f"from other processes. {str(error).splitlines()[0][:200] if str(error) else ''}"
            ) from error
        fits = size
        if watch is not None and not watch.leaves_room_for_twice():
            return fits
        size *= 2


class _Trial:
    """A forward and backward pass of some examples, on each replica."""

    def __init__(self, model, examples):
        static = bool(model.jit_compile) and not model.run_eagerly
        step = Accumulation(model, lambda: _WHOLE, static=static, applies=False).step
        self._function, self._examples = train_function(model, step), examples

    def __call__(self, size):
        logs = self._function(iter([self._examples.first(size)]))
        tf.nest.map_structure(np.asarray, logs)  # wait for the device


class _Watch:
    """Compares the peak of the last pass with the memory that is there."""

    def __init__(self, available):
        self._available, self._before, self._peak = available, None, memory.Peak()

    @contextlib.contextmanager
    def watched(self, afresh):
        if afresh:
            memory.give_back()
            self._before = memory.resident()  # what is freed after a pass may stay with the process
        with self._peak.watched():
            yield

    def leaves_room_for_twice(self):
        """Whether a pass of twice the size will fit: it takes at most twice as much."""
        room = self._available() + memory.resident() - self._before
        return 2 * (self._peak.bytes - self._before) <= _SHARE * room


class _Examples:
    """The first examples of batches, as batches of any size."""

    def __init__(self, batches):
        if isinstance(batches, data.Batches):
            batches = batches._epochs.plain  # with its map, as fit gets them; whatever else reads the stream
        elif isinstance(batches, tuple):
            batches = [batches]
        self._iterator, self._parts, self._count = iter(batches), [], 0

    def most(self, size):
        """`size`, or all that there are if these are fewer."""
        while self._count < size:
            batch = next(self._iterator, None)
            if batch is None:
                break
            batch = tf.nest.map_structure(lambda t: None if t is None else np.asarray(t), batch)
            self._parts.append(batch)
            self._count += len(next(leaf for leaf in tf.nest.flatten(batch) if leaf is not None))
        if not self._count:
            raise ValueError("batches holds no example to try. Pass data.Batches, or a tuple (x, y).")
        return min(size, self._count)

    def first(self, size):
        """The first examples, nested arrays."""

        def joined(*parts):
            return None if parts[0] is None else np.concatenate(parts)[:size]

        return tf.nest.map_structure(joined, *self._parts)
