"""Two replicas on one machine, for tests under a strategy."""

import pytest
import tensorflow as tf

from tf_lbgap import strategy


def mirrored():
    """Return a MirroredStrategy of two logical CPU devices, the same for all tests of a process."""
    if len(tf.config.list_logical_devices("CPU")) != 2:
        pytest.skip("needs two logical CPU devices, which conftest.py asks for")
    return strategy.from_name("mirrored")
