"""Which method of a Keras model is asking.

Keras counts the steps of an epoch before any hook of a callback runs, and reads a data set in the same
way to train, to evaluate and to predict. A stream that owes each of them another answer looks at the
calls on the stack: those of `fit`, `evaluate` and `predict`, by the names of their public arguments.
"""

import inspect
import sys

import keras

_METHODS = {
    inspect.unwrap(getattr(keras.Model, name)).__code__: name for name in ("fit", "evaluate", "predict")
}


def keras_calls(frame=None):
    """Yield (method, arguments) of the Keras calls that are running in this thread, the innermost first.

    Args:
        frame: Frame from which to look outward. Defaults to the caller's.
    """
    frame = frame or sys._getframe(1)
    while frame is not None:
        if frame.f_code in _METHODS:
            yield _METHODS[frame.f_code], frame.f_locals
        frame = frame.f_back


def callbacks_of(arguments):
    """Return the callbacks in the arguments of a call, a list."""
    callbacks = arguments.get("callbacks")
    return keras.tree.flatten(getattr(callbacks, "callbacks", callbacks))


def is_being_fitted(dataset):
    """Return whether a `fit` reads `dataset`, in this thread or another."""
    return any(
        method == "fit" and arguments.get("x") is dataset
        for frame in sys._current_frames().values()
        for method, arguments in keras_calls(frame)
    )
