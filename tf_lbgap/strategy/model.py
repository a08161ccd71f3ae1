"""What a model's strategy is like."""

import numpy as np
import tensorflow as tf


def of(model):
    """Return the strategy that `model` trains under."""
    return model.distribute_strategy


def is_default(strategy):
    """Return whether `strategy` is TensorFlow's no-op, so that `fit` iterates the data set itself."""
    with tf.Graph().as_default():  # a graph of its own has no strategy scope around it
        return type(strategy) is type(tf.distribute.get_strategy())


def num_replicas(model):
    """Return how many replicas share each batch, on all workers together."""
    return of(model).num_replicas_in_sync


def devices(model):
    """Return the names of the devices of this process among which work may be spread: several, or an empty list."""
    strategy = of(model)
    if not isinstance(strategy, (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)):
        return []
    found = list(strategy.extended.worker_devices)
    return found if len(found) > 1 else []


def is_chief(model):
    """Return whether this process is the one that writes files: the chief, or worker 0, or the only one."""
    return is_chief_of(of(model))


def is_chief_of(strategy):
    """The same of a strategy."""
    resolver = strategy.cluster_resolver
    is_one_of_several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if not is_one_of_several or resolver is None or not resolver.cluster_spec().jobs:
        return True
    task, has_chief = resolver.task_type, "chief" in resolver.cluster_spec().jobs
    return task == "chief" or (task == "worker" and resolver.task_id == 0 and not has_chief)


def agreed(strategy, number):
    """Return the whole number that the chief came with, on all workers. Each of them has to call it.

    Args:
        strategy: A `tf.distribute` strategy.
        number: An int, of which only the chief's counts.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return number
    own = tf.constant(number, tf.int64)

    def first():  # the chief has the first replica
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.where(tf.equal(replica, 0), own, tf.zeros_like(own))

    total = strategy.reduce("SUM", strategy.run(first), axis=None)
    return int(np.asarray(total))
