"""Two replicas on one machine, for tests under a strategy."""

import functools

import pytest
import tensorflow as tf


@functools.cache
def mirrored():
    """Return a MirroredStrategy of two logical CPU devices, the same for all tests of a process.

    A second one would number its collectives anew, and TensorFlow would take them for those of the first.
    """
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    if len(devices) < 2:
        pytest.skip("needs two logical CPU devices, which conftest.py asks for")
    return tf.distribute.MirroredStrategy(devices[:2])
