"""Sums over all batches of a traced function of one batch.

Every quantity here, products of a matrix as well as losses and gradients, is a quotient of sums over examples:
Σ_b totals(b) / Σ_b count(b). Sums are accumulated in float64. The function is traced once for all sizes of a
batch and reads the weights when it runs, so nothing is compiled anew while a model trains.
"""

import concurrent.futures
import itertools

import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.batches import TensorBatches, signature_of, widened
from tf_lbgap.curvature.traced import checked_graph

CHUNK_SIZE = 512
"""Examples per piece of work: larger ones are hardly faster, and take more memory."""


class SumsOverBatches:
    """Calls a function on all batches and adds up what it returns.

    Args:
        function: Called as `function(batch, *arguments)` while it is traced; returns a list of tensors, summed
            over the examples of the batch, and their count, a scalar.
        arguments: `tf.TensorSpec` of each further argument, or a list of these.
        batches: The data, as `TensorBatches` takes them.
        dtype: Of the weights.
        chunk_size: Of `TensorBatches`.
        jit_compile: Whether XLA compiles the function; refused where XLA is known to be wrong.
        devices: Names of devices that work on different batches at the same time; empty: the default one.
    """

    def __init__(
        self,
        function,
        arguments,
        batches,
        dtype,
        *,
        chunk_size=CHUNK_SIZE,
        jit_compile=False,
        devices=(),
    ):
        if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
            raise ValueError(
                f"chunk_size is {chunk_size!r}, but should be a number of examples, such as {CHUNK_SIZE}."
            )
        self._function, self._arguments, self._dtype = function, arguments, dtype
        self._chunk_size, self._jit_compile, self._devices = chunk_size, jit_compile, devices
        self._signature = self._traced = None
        self.batches = batches

    @property
    def batches(self):
        """The data, as tensors. Other data of the same structure may be assigned: nothing is traced anew."""
        return self._batches

    @batches.setter
    def batches(self, batches):
        devices = max(len(self._devices), 1)
        self._batches = TensorBatches.of(batches, self._dtype, self._chunk_size, devices)
        try:
            self._accept(self._batches.signature)
        except ValueError:  # another structure altogether: forget the old one
            self._signature = None
            self._accept(self._batches.signature)

    def __call__(self, *arguments):
        """Return the sums, a list of float64 arrays, and the count, a float."""
        sums, count = None, 0.0
        for parts, part_count in self._of_batches(arguments):
            if sums is None:
                sums = [np.zeros(part.shape) for part in parts]
            for total, part in zip(sums, parts, strict=True):
                total += part.numpy()
            count += float(part_count)
        return sums, count

    def _of_batches(self, arguments):
        """Yield what the function gives for each batch, in order; as many at a time as there are devices."""
        if not self._devices:
            for batch in self._batches:
                yield self.of_batch(batch, *arguments)
            return

        def on_device(device, batch):
            with tf.device(device):
                return self.of_batch(batch, *arguments)

        batches = iter(self._batches)
        with concurrent.futures.ThreadPoolExecutor(len(self._devices)) as pool:
            while group := list(itertools.islice(batches, len(self._devices))):
                for batch in group:
                    self.trace(batch)  # here, and not in each thread
                yield from pool.map(on_device, self._devices, group)

    def of_batch(self, batch, *arguments):
        """Return what the traced function gives for one batch, as tensors."""
        return self.trace(batch)(batch, *arguments)

    def trace(self, batch):
        """Return the traced function, for batches like this one."""
        self._accept(signature_of(batch))
        if self._traced is None:
            function = tf.function(self._function, autograph=False, jit_compile=False)
            traced = function.get_concrete_function(self._signature, *self._arguments)
            checked_graph(traced.graph, self._jit_compile)
            if self._jit_compile:
                function = tf.function(self._function, autograph=False, jit_compile=True)
                traced = function.get_concrete_function(self._signature, *self._arguments)
            self._traced = traced
        return self._traced

    def first(self):
        """The first batch."""
        return next(iter(self._batches))

    def _accept(self, signature):
        wider = signature if self._signature is None else widened(self._signature, signature)
        if wider != self._signature:
            self._signature, self._traced = wider, None
