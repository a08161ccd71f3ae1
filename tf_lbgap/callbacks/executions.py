"""Which train function the next execution of `fit` runs: plain, accumulating, or probing.

One callback asks for batches beyond memory to be accumulated, others for the norms of gradients. They may stand in
any order, and there is one `model.train_function`; so all say here what they need, and here it is chosen.
"""

from tf_lbgap import strategy
from tf_lbgap.callbacks.summaries import call_when_steps_end
from tf_lbgap.training import TrainFunctions

_ATTRIBUTE = "_tf_lbgap_executions"  # in the model's __dict__, past Keras' tracking, so that it lives as long


class Executions:
    """What callbacks need of the next execution of one model. Get it from `executions_of`.

    Args:
        model: A compiled and built Keras model.
    """

    def __init__(self, model):
        self._functions, self.optimizer = TrainFunctions(model), model.optimizer
        self.num_replicas = strategy.of(model).num_replicas_in_sync
        self._limit, self._probes = (
            None,
            {},
        )  # a micro-batch size; and by who asks, one with or without products
        self._chosen = None

    def begin_fit(self):
        """Let the model have its plain train function whenever the updates of an epoch have ended, or broke off."""
        self.restore()
        call_when_steps_end(self.restore)

    def limit(self, micro_batch_size):
        """Accumulate the next execution from micro-batches of at most this size; None: as a whole."""
        self._limit = micro_batch_size
        self._choose()

    def probe(self, who, micro_batch_size, inner_products=False):
        """Note norms of gradients of micro-batches of at most this size in the next execution; None: do not.

        Where several ask, micro-batches are the smallest that anybody wants.
        """
        if micro_batch_size is None:
            self._probes.pop(id(who), None)
        else:
            self._probes[id(who)] = micro_batch_size, inner_products
        self._choose()

    @property
    def gradients(self):
        """`training.MicroGradients` of the last probed update, or None."""
        return self._functions.gradients

    def restore(self):
        """Give the model its plain train function back."""
        self._limit, self._probes, self._chosen = None, {}, None
        self._functions.restore()

    def _choose(self):
        sizes = [size for size, _ in self._probes.values()]
        products = any(inner_products for _, inner_products in self._probes.values())
        chosen = self._limit, min(sizes, default=None), products
        if chosen == self._chosen:
            return
        self._chosen = chosen
        if sizes:
            self._functions.use_probing(min(sizes + [self._limit] * (self._limit is not None)), products)
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
