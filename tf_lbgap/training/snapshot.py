"""A model as it stood, to be put back bit for bit."""

from tf_lbgap.checkpoints import randomness


class Snapshot:
    """What an update changes: weights, statistics, optimizer, metrics, and the seeds of layers.

    Args:
        model: A compiled and built Keras model, its optimizer too.
    """

    def __init__(self, model):
        self._model = model
        self._values = {id(variable): (variable, variable.numpy()) for variable in _variables(model)}

    def restore(self):
        """Put the values back; what was traced meanwhile is kept."""
        for variable, value in self._values.values():
            variable.assign(value)
        for metric in self._model.metrics:
            if any(id(variable) not in self._values for variable in metric.variables):
                metric.reset_state()  # made at its first batch


def _variables(model):
    yield from model.variables
    yield from model.metrics_variables
    yield from model.optimizer.variables
    seeds = randomness.keras_generator()  # layers without a seed of their own draw from these
    if seeds is not None:
        yield seeds.state
