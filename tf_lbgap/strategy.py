"""What the rest of the package needs to know about `tf.distribute`, in one place."""

import tensorflow as tf


def of(model):
    """Return the strategy that `model` trains under."""
    return model.distribute_strategy


def is_chief(model):
    """Return whether this process is the one that writes files."""
    return True


def is_default(strategy):
    """Return whether `strategy` is TensorFlow's no-op, so that `fit` iterates the data set itself."""
    with tf.Graph().as_default():  # a graph of its own has no strategy scope around it
        return type(strategy) is type(tf.distribute.get_strategy())
