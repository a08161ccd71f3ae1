"""Which train function the next execution of `fit` runs: plain, accumulating, or probing.

One callback asks for batches beyond memory to be accumulated, another for the norms of gradients. They may stand in
any order, and there is one `model.train_function`; so both say here what they need, and here it is chosen.
"""

from tf_lbgap import strategy
from tf_lbgap.training import TrainFunctions

_ATTRIBUTE = "_tf_lbgap_executions"  # in the model's __dict__, past Keras' tracking, so that it lives as long


class Executions:
    """What callbacks need of the next execution of one model. Get it from `executions_of`.

    Args:
        model: A compiled and built Keras model.
    """

    def __init__(self, model):
        self._functions, self.optimizer = TrainFunctions(model), model.optimizer
        self._replicas = strategy.of(model).num_replicas_in_sync
        self._limit, self._probe = None, None  # micro-batch sizes
        self._chosen = None

    def limit(self, micro_batch_size):
        """Accumulate the next execution from micro-batches of at most this size; None: as a whole."""
        self._limit = micro_batch_size
        self._choose()

    def probe(self, micro_batch_size, inner_products=False):
        """Note norms of gradients of micro-batches of at most this size in the next execution; None: do not."""
        self._probe = None if micro_batch_size is None else (micro_batch_size, inner_products)
        self._choose()

    @property
    def gradients(self):
        """`training.MicroGradients` of the last probed update, or None."""
        return self._functions.gradients

    @property
    def num_replicas(self):
        """How many devices share a batch."""
        return self._replicas

    def restore(self):
        """Give the model its plain train function back, at the end of a fit."""
        self._limit = self._probe = self._chosen = None
        self._functions.restore()

    def _choose(self):
        chosen = self._limit, self._probe
        if chosen == self._chosen:
            return
        self._chosen = chosen
        if self._probe is not None:
            micro, inner_products = self._probe
            self._functions.use_probing(min(micro, self._limit or micro), inner_products)
        elif self._limit is not None:
            self._functions.use_accumulating(self._limit)
        else:
            self._functions.use_plain()


def executions_of(model):
    """Return the `Executions` of a model, the same for all callbacks.

    Raises:
        ValueError: If its updates cannot be accumulated; see `training.TrainFunctions`.
    """
    known = model.__dict__.get(_ATTRIBUTE)
    if known is None or known.optimizer is not model.optimizer:  # it may have been compiled anew
        known = model.__dict__[_ATTRIBUTE] = Executions(model)
    return known
