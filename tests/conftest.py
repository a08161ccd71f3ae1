"""Every test starts from the same global state: float32, a fixed seed, no device but two CPUs."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # on small matrices its threads wait for each other

import keras
import pytest
import tensorflow as tf

# Two devices for the tests under MirroredStrategy; everything else runs on the first.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def _fresh_keras():
    _float32()
    keras.utils.set_random_seed(0)
    yield
    _float32()


@pytest.fixture
def _in_an_empty_folder(tmp_path, monkeypatch):
    """Run there, and find a user's modules there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def _float64():
    """New layers and models are of float64."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


def _float32():
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(
        "float32"
    )  # new layers follow the policy, which floatx alone does not reset
