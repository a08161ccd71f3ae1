"""Asynchronous SGD: workers take batches, and apply their gradients to weights that have moved on meanwhile.

`fit` of Keras 3 does not run under ParameterServerStrategy, so this is a loop of its own, by TensorFlow's ClusterCoordinator.
The chief cuts the seeded order of an epoch into batches as a planned stream does, and hands them out; each is used once. How
many updates of others were applied between the reading of the weights and the applying of the gradient is the staleness
of an update: with w workers that are as fast as each other, w - 1.

References:
    Dean et al., "Large scale distributed deep networks", 2012 (Downpour SGD). Lian et al., "Asynchronous parallel stochastic
    gradient for nonconvex optimization", 2015 (staleness).
"""

import collections
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Update(NamedTuple):
    """What is known of an update when it was applied."""

    size: int
    loss: float
    staleness: int


class Asynchronous:
    """Trains a model on the workers of a cluster.

    Args:
        strategy: A `tf.distribute.ParameterServerStrategy`.
        make: Function without arguments that returns a compiled model; it is called in the strategy's scope.

    Attributes:
        model: The model, whose variables are on the parameter server.
        num_workers: How many workers the cluster has.
    """

    def __init__(self, strategy, make):
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        self.num_workers = strategy.extended._num_workers
        with strategy.scope():
            self.model = make()
            self.model.optimizer.build(self.model.trainable_variables)

            self._step = tf.function(
                lambda *batch: strategy.run(self._update, args=batch), reduce_retracing=True
            )

    def _update(self, x, y, rate=None):
        """On a worker: read the weights, and apply a gradient; return the loss and the staleness."""
        model, optimizer = self.model, self.model.optimizer
        read = tf.identity(optimizer.iterations.value)
        with tf.control_dependencies([read]), tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True), training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        with tf.control_dependencies([g for g in gradients if g is not None]):
            applied = tf.identity(optimizer.iterations.value)
        with tf.control_dependencies([applied]):
            if rate is not None:  # here, and not by the chief, who is ahead
                optimizer._learning_rate.assign(rate)
            optimizer.apply(gradients, model.trainable_variables)
        return loss, applied - read

    def epoch(self, batches, rates=None):
        """Yield an `Update` for each batch, in the order they were handed out.

        Args:
            batches: Iterable of (x, y), arrays.
            rates: Iterable of learning rates, one per batch, or None: the optimizer's own. One that has a schedule takes none.
        """
        running = collections.deque()
        rates = iter(rates) if rates is not None else None
        for x, y in batches:
            # One more than each worker's own, so that none waits.
            while len(running) > self.num_workers:
                yield self._ended(running.popleft())
            rate = () if rates is None else (np.float32(next(rates)),)
            running.append((len(x), self._coordinator.schedule(self._step, args=(x, y, *rate))))
        while running:
            yield self._ended(running.popleft())

    def _ended(self, entry):
        size, result = entry
        loss, staleness = result.fetch()
        return Update(size, float(loss), int(staleness))

    def set_variables(self, weights, optimizer):
        """Give weights and variables of the optimizer values."""
        for variable, value in zip(self.model.variables, weights, strict=True):
            variable.assign(np.asarray(value))
        for variable, value in zip(self.model.optimizer.variables, optimizer, strict=True):
            variable.assign(np.asarray(value))
