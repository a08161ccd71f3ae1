"""The random generators of the process: Python's, NumPy's, Keras' and TensorFlow's.

Layers with a seed of their own keep their state in a variable of the model. Not covered are `tf.random.*` functions
without a generator, whose state nobody can read: use `tf.random.stateless_*`, or a `keras.random.SeedGenerator`.
"""

import random

import keras
import numpy as np
from tensorflow.python.ops import stateful_random_ops


def read():
    """Return their state, as plain values and arrays."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    ours, theirs = keras_generator(), stateful_random_ops.global_generator
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, keys, *rest],
        "keras": None if ours is None else np.asarray(ours.state.numpy()),
        "tensorflow": None if theirs is None else theirs.state.numpy(),
    }


def write(state):
    """Put the generators into the state that `read` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    if state["keras"] is not None:
        generator = keras_generator() or keras.src.random.seed_generator.global_seed_generator()
        generator.state.assign(state["keras"])
    if state["tensorflow"] is not None:
        generator = stateful_random_ops.get_global_generator()
        if generator.state.shape == state["tensorflow"].shape:
            generator.state.assign(state["tensorflow"])


def keras_generator():
    """Return the generator of layers without a seed of their own, or None if nobody has asked for it."""
    return keras.src.backend.common.global_state.get_global_attribute("global_seed_generator")
