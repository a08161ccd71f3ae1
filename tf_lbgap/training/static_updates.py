"""Updates whose batch grows though every compiled shape stays: micro-batches of one size, and a count that changes.

XLA compiles each shape it meets, and a TPU knows nothing else. So a batch of k micro-batches is k runs of one compiled program
that adds up gradients, and one of another that applies their mean: two programs, whatever the batch. The stream yields
micro-batches of a static shape, and leaves out what would not fill one.

What a batch is to Keras changes with it: a metric gets each micro-batch as if it were a batch, which makes no difference to
means over examples; batch normalization sees micro-batches.
"""

import tensorflow as tf
from keras.src.backend.tensorflow.trainer import reduce_per_replica

from tf_lbgap import strategy
from tf_lbgap.training import gradients, losses, parts
from tf_lbgap.training.train_functions import build_optimizer, check_model
from tf_lbgap.training.update_change import ChangedStep


class StaticUpdates:
    """A train function for `fit` that takes `count` micro-batches from its iterator and makes one update of them.

    Args:
        model: A compiled and built Keras model.
        micro_batch_size: Examples of a micro-batch, on each replica.
        element_spec: Of the micro-batches, for all replicas.

    Attributes:
        train_step: What is run on each micro-batch.
        num_traces: How often the two programs were traced, and with that compiled: 2 after the first update.
    """

    def __init__(self, model, micro_batch_size, element_spec):
        check_model(model)
        if isinstance(model.train_step, ChangedStep) and model.train_step.needs_whole_batch:
            raise ValueError(
                "static_shapes=True makes an update of programs that see one micro-batch each, and a change of the update here "
                "needs the gradient of the whole batch. Leave static_shapes out, or pass SharpnessAware(m=...)."
            )
        self._model, self.optimizer, self._size = model, model.optimizer, micro_batch_size
        self._strategy = strategy.of(model)
        self.train_step, self._places, self._variables = model.train_step, None, None
        self.num_traces = 0
        build_optimizer(model)
        with self._strategy.scope():
            model._symbolic_build(
                data_batch=element_spec
            )  # metrics, which else are made while it is compiled
            self._sums = [_own_of_replica(v.shape, v.dtype) for v in self.optimizer._trainable_variables]
            self._weight = _own_of_replica([], tf.float32)
        with tf.device("CPU:0"):
            self._count = tf.Variable(1, dtype=tf.int64, trainable=False)
        # A TPU compiles whatever it runs; XLA for CPU and GPU knows the variables of one device only.
        compiled = model.jit_compile and not model.run_eagerly and strategy.is_default(self._strategy)
        self._add = tf.function(self._add_micro_batch, jit_compile=compiled, reduce_retracing=True)
        self._apply = tf.function(self._apply_mean, jit_compile=compiled)
        self.function = tf.function(self._update, reduce_retracing=True)

    def set_count(self, count):
        """Let the next update be made of so many micro-batches of each replica."""
        self._count.assign(count)

    def _update(self, iterator):
        count = self._count.read_value()
        whole = tf.cast(count * self._size, tf.float64)
        for i in tf.range(count):
            self._strategy.run(self._add, args=(next(iterator), i, whole))
        return reduce_per_replica(self._strategy.run(self._apply), self._strategy, reduction="auto")

    def _add_micro_batch(self, data, i, whole):
        self.num_traces += 1
        size = tf.constant(self._size, tf.float64)
        with (
            gradients.taken(self.optimizer) as calls,
            losses.counted(self._model, size, whole) as counts,
            parts.placed(i, tf.cast(i, tf.int64) * self._size, whole),
        ):
            self.train_step(data)
        grads, variables = gradients.once(calls)
        places = [self.optimizer._get_variable_index(v) for v in variables]
        weight = tf.cast(counts[0] if counts else 1.0, tf.float32)
        for place, gradient in zip(places, grads, strict=True):
            if gradient is not None:
                total = self._sums[place]
                total.assign_add(tf.cast(weight, total.dtype) * gradients.dense(gradient, total))
        self._weight.assign_add(weight)
        self._places = [None if g is None else p for p, g in zip(places, grads, strict=True)]
        self._variables = variables

    def _apply_mean(self):
        self.num_traces += 1
        weight = self._weight.read_value()
        mean = [
            None
            if place is None
            else tf.math.divide_no_nan(
                self._sums[place].read_value(), tf.cast(weight, self._sums[place].dtype)
            )
            for place in self._places
        ]
        with tf.control_dependencies([m for m in mean if m is not None]):
            self.optimizer.apply(mean, self._variables)
            for total in (*self._sums, self._weight):
                total.assign(tf.zeros_like(total))
        return self._model.get_metrics_result()


def _own_of_replica(shape, dtype):
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
