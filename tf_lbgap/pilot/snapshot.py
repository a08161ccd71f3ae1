"""A model and the generators of the process as they stood, to be put back again and again."""

from tf_lbgap.checkpoints import randomness
from tf_lbgap.training.snapshot import Snapshot as ModelSnapshot
from tf_lbgap.training.train_functions import build_optimizer

_ABSENT = object()
_ATTRIBUTES = ("train_function", "history", "stop_training")


class Snapshot:
    """All that training changes: what is in a `training.snapshot.Snapshot`, and the generators of the process.

    Args:
        model: A compiled and built Keras model. Its optimizer is built if it is not.
    """

    def __init__(self, model):
        build_optimizer(model)
        self._model, self._state = model, ModelSnapshot(model)
        self._attributes = {name: vars(model).get(name, _ABSENT) for name in _ATTRIBUTES}
        self._random = randomness.read()

    def restore(self):
        """Put the values back; what was traced meanwhile is kept."""
        self._state.restore()
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
