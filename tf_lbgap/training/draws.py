"""Random numbers of an update that follow from its number, so that they have no state.

An update that is made again (after a crash, or at other weights as sharpness-aware minimisation does) draws the same
numbers, and another update, micro-batch or replica others.
"""

import tensorflow as tf

from tf_lbgap.training import parts

_REPLICAS = 1_000_003  # so that seeds of replicas and those of users, small numbers, do not meet


def seed_of_update(optimizer, seed):
    """Return a seed for TensorFlow's stateless random numbers, an int64 tensor of shape (2,).

    Args:
        optimizer: Of the model, whose `iterations` counts updates.
        seed: Whole number.
    """
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    context = tf.distribute.get_replica_context()
    replica = tf.cast(0 if context is None else context.replica_id_in_sync_group, tf.int64)
    index = tf.cast(parts.place()[0], tf.int64)
    updates = tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64)
    return tf.stack([seed + _REPLICAS * replica, updates * 2**20 + index])
