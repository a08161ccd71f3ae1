"""Random numbers of an update that follow from its number, so that they have no state.

An update that is made again (after a crash, or at other weights as sharpness-aware minimisation does) draws the same
numbers, and another update, micro-batch or replica others.
"""

import contextlib
import contextvars
import zlib

import tensorflow as tf

from tf_lbgap.training import parts
from tf_lbgap.training.update_change import UpdateChange
from tf_lbgap.training.wrapped import innermost

_update = contextvars.ContextVar("update", default=None)
_REPLICAS = 1_000_003  # so that seeds of replicas and those of users, small numbers, do not meet


class Drawing(UpdateChange):
    """A change that draws random numbers. Its `seed` may be set between fits, for which nothing is traced anew."""

    def __init__(self, seed):
        self._seed, self._traced_seed = int(seed), None

    @property
    def seed(self):
        """Of the numbers, a whole number."""
        return self._seed

    @seed.setter
    def seed(self, seed):
        self._seed = int(seed)
        if self._traced_seed is not None:
            self._traced_seed.assign(self._seed)

    def begin_fit(self, model):
        if self._traced_seed is None:
            with tf.device("CPU:0"):
                self._traced_seed = tf.Variable(self._seed, dtype=tf.int64, trainable=False)

    def seed_of_update(self, model):
        """Return the seed of this update, micro-batch and replica, an int64 tensor of shape (2,)."""
        salt = zlib.crc32(
            type(self).__name__.encode()
        )  # changes that stand around each other draw other numbers
        return seed_of_update(model.optimizer, self._traced_seed.read_value() + salt * 2**20)


def seed_of_update(optimizer, seed):
    """Return a seed for TensorFlow's stateless random numbers, an int64 tensor of shape (2,).

    Args:
        optimizer: Of the model, whose `iterations` counts updates.
        seed: Whole number, or a tensor.
    """
    context = tf.distribute.get_replica_context()
    replica = tf.cast(0 if context is None else context.replica_id_in_sync_group, tf.int64)
    index = tf.cast(parts.place().index, tf.int64)
    update = _update.get()
    updates = number_of_update(optimizer) if update is None else update
    return tf.stack([seed + _REPLICAS * replica, updates * 2**20 + index])


def number_of_update(optimizer):
    """Return how many updates were made, an int64 tensor."""
    return tf.cast(tf.convert_to_tensor(innermost(optimizer).iterations) * 1, tf.int64)


@contextlib.contextmanager
def drawn_as_update(number):
    """Let updates in the block draw what the one of this number draws."""
    token = _update.set(number)
    try:
        yield
    finally:
        _update.reset(token)
