"""A model as it stood, to be put back again and again, bit for bit."""

from tf_lbgap.checkpoints import randomness
from tf_lbgap.training.search import _state
from tf_lbgap.training.train_functions import build_optimizer

_ABSENT = object()
_ATTRIBUTES = ("train_function", "history", "stop_training")


class Snapshot:
    """All that training changes: weights, statistics, optimizer, metrics, seeds, and the generators of the process.

    Args:
        model: A compiled and built Keras model. Its optimizer is built if it is not.
    """

    def __init__(self, model):
        build_optimizer(model)
        self._model = model
        self._values = {id(variable): (variable, variable.numpy()) for variable in _state(model)}
        self._attributes = {name: vars(model).get(name, _ABSENT) for name in _ATTRIBUTES}
        self._random = randomness.read()

    def restore(self):
        """Put the values back; what was traced meanwhile is kept."""
        for variable, value in self._values.values():
            variable.assign(value)
        for metric in self._model.metrics:
            if any(id(variable) not in self._values for variable in metric.variables):
                metric.reset_state()  # made at its first batch
        randomness.write(self._random)

    def end(self):
        """Put everything back, the functions that Keras keeps in the model too."""
        self.restore()
        own = vars(self._model)  # past Keras' tracking of attributes
        for name, value in self._attributes.items():
            if value is _ABSENT:
                own.pop(name, None)
            else:
                own[name] = value
