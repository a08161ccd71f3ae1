"""Passes of a model at other weights than its own, that leave nothing behind.

Sharpness-aware minimisation asks for the gradient at w + e, and then moves w. Here w is not moved and moved back:
inside the block each weight *reads* as w + e, and what the pass would write (statistics of batch normalization,
metrics) is dropped. So the weights are bit for bit what they were, also under a strategy and if the pass raises,
statistics and metrics know of the ordinary pass alone, and gradients are those by w, since d(w + e)/dw is 1.

Random numbers are drawn as ever. `Seeds` rewinds them, so that two passes of one update have the same dropout masks.
"""

import threading

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.core import Variable as _TensorFlowVariable

from tf_lbgap.checkpoints import randomness


class Elsewhere(keras.StatelessScope):
    """A block in which variables read as their value plus an offset, and writing to them does nothing.

    Args:
        model: A built Keras model.
        offsets: Tensors, one per variable of `variables`, None for 0.
        variables: Keras variables; none by default, so that the block only drops what is written.
    """

    def __init__(self, model, offsets=(), variables=()):
        super().__init__(collect_losses=True)  # or Keras leaves out what layers add to the loss
        self._offsets = {id(v): offset for v, offset in zip(variables, offsets, strict=True)}
        self._seeds = {id(v) for v in _seeds(model)}
        self.original_scope = None

    def get_current_value(self, variable):
        value = None
        if self.original_scope is not None:  # a pass that is made for another one stays where that is
            value = self.original_scope.get_current_value(variable)
        value = variable._value if value is None else value
        offset = self._offsets.get(id(variable))
        return value if offset is None else value + tf.cast(offset, value.dtype)

    def add_update(self, update):
        variable, value = update
        if id(variable) in self._seeds:
            variable._direct_assign(value)

    def __enter__(self):
        _handles.enter()
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        _handles.leave()


class Seeds:
    """The random state of a model's layers at a moment, to draw the same numbers again."""

    def __init__(self, model):
        self._states = [(variable, variable.value * 1) for variable in _seeds(model)]

    def rewind(self):
        """Go back to that moment."""
        for variable, value in self._states:
            variable.assign(value)


def _seeds(model):
    for layer in model._flatten_layers():
        yield from (generator.state for generator in getattr(layer, "_seed_generators", ()))
    seeds = randomness.keras_generator()  # of layers without one of their own
    if seeds is not None:
        yield seeds.state


class _HandlesOfVariables:
    """Lets `tape.gradient(loss, variables)` find Keras variables, which asks them for the handle of what they *read* as.

    Replicas are traced in threads, and one may be in the block when another leaves it.
    """

    def __init__(self):
        self._lock, self._count = threading.Lock(), 0

    def enter(self):
        with self._lock:
            if not self._count:
                self._before = _TensorFlowVariable.handle
                _TensorFlowVariable.handle = property(lambda variable: variable._value.handle)
            self._count += 1

    def leave(self):
        with self._lock:
            self._count -= 1
            if not self._count:
                _TensorFlowVariable.handle = self._before


_handles = _HandlesOfVariables()
