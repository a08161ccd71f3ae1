"""Every test starts from the same global state: float32, a fixed seed, no model of the test before."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest


@pytest.fixture(autouse=True)
def _fresh_keras():
    import keras

    keras.backend.clear_session()
    keras.config.set_floatx("float32")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx("float32")
