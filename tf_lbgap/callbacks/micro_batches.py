"""Batches beyond memory, or beyond what batch normalization shall see: accumulated from micro-batches.

Batch normalization sees one micro-batch at a time, so a ghost batch (Hoffer et al. 2017) is a micro-batch whose size
matters to training, and not only to memory.
"""

import numbers

from tf_lbgap import strategy
from tf_lbgap.batch_normalization import recalibrated_layers
from tf_lbgap.callbacks.executions import executions_of
from tf_lbgap.callbacks.summaries import call_when_steps_end
from tf_lbgap.data.plan import check_batch_size
from tf_lbgap.training import StaticUpdates, find_micro_batch_size


class MicroBatches:
    """Says before each execution whether it has to be accumulated, and from what.

    Args:
        batches: The `data.Batches` that is given to `fit`.
        micro_batch_size: Most examples of a forward pass on a replica, `"auto"`, or None.
        ghost_batch_size: Most examples that batch normalization sees at a time on a replica, or None.

    Attributes:
        limit: The most examples of a forward pass on a replica, an int, or None; with `"auto"` from the first
            `fit` on.
    """

    def __init__(self, batches, micro_batch_size, ghost_batch_size):
        most = batches.num_examples
        if micro_batch_size is not None and micro_batch_size != "auto":
            micro_batch_size = check_batch_size(micro_batch_size, most, "micro_batch_size")
        if ghost_batch_size is not None:
            ghost_batch_size = check_batch_size(ghost_batch_size, most, "ghost_batch_size")
        self._batches, self._executions = batches, None
        self.micro_batch_size, self.ghost_batch_size = micro_batch_size, ghost_batch_size
        self.limit = None if micro_batch_size == "auto" else micro_batch_size
        self._agree()

    def set_limit(self, limit):
        """Take the limit that was found before, where it was to be found by trying."""
        if self.micro_batch_size == "auto" and limit is not None:
            self.limit = limit

    def begin_fit(self, model, largest):
        """Get ready to accumulate, and find out what fits if that was left to us.

        Args:
            model: A compiled and built Keras model.
            largest: Function that returns the largest batch there will be, over all replicas.
        """
        self._executions = None
        if self.ghost_batch_size is not None and not recalibrated_layers(model):
            raise ValueError(
                f"ghost_batch_size={self.ghost_batch_size} was given, but the model has no BatchNormalization that is "
                "trained, so there is nothing to hold fixed. Leave it out, or pass micro_batch_size to save memory."
            )
        if self.micro_batch_size == "auto" and self.limit is None:
            share = -(-largest() // strategy.of(model).num_replicas_in_sync)
            self.limit = find_micro_batch_size(model, self._batches, maximum=share)
            self._agree()
        if self.limit is not None:
            self._executions = executions_of(model)
            self._executions.begin_fit()

    def begin_execution(self, batch_size):
        """Choose for an execution whose largest batch, over all replicas, has this size."""
        if self._executions is not None:
            share = -(-batch_size // self._executions.num_replicas)
            self._executions.limit(self.limit if share > self.limit else None)

    def end_fit(self):
        """Give the model its own train function back."""
        if self._executions is not None:
            self._executions.restore()

    def _agree(self):
        """Let ghost batches be the micro-batches, where both are asked for."""
        ghost = self.ghost_batch_size
        if ghost is None:
            return
        if self.limit is not None and ghost > self.limit:
            raise ValueError(
                f"ghost_batch_size={ghost} is above micro_batch_size={self.limit}: batch normalization cannot see more "
                f"examples than a forward pass has. Pass ghost_batch_size={self.limit} or less."
            )
        if self.micro_batch_size != "auto" or self.limit is not None:
            self.limit = ghost


class StaticMicroBatches(MicroBatches):
    """Makes all updates of a fit from micro-batches of one static shape."""

    def __init__(self, batches, micro_batch_size, ghost_batch_size):
        if not isinstance(micro_batch_size, numbers.Integral) or ghost_batch_size is not None:
            raise ValueError(
                "static_shapes=True needs micro_batch_size, a number, which is what batch normalization sees, too: pass "
                f"micro_batch_size={ghost_batch_size or 64}, and leave ghost_batch_size out."
            )
        super().__init__(batches, micro_batch_size, None)
        self._updates = self._model = None

    def begin_fit(self, model, largest):
        if model.steps_per_execution > 1:
            raise ValueError(
                "static_shapes=True makes one update per execution: leave steps_per_execution out."
            )
        made_for = (self._model, getattr(self._updates, "optimizer", None))
        if made_for != (model, model.optimizer) or self._updates.train_step != model.train_step:
            self._updates = StaticUpdates(model, self.limit, self._batches.element_spec)
        self._model = model
        call_when_steps_end(self.end_fit)
        self._plain = model.train_function

    def begin_execution(self, batch_size):
        self._updates.set_count(batch_size // self._batches.multiple_of)
        self._model.train_function = self._updates.function

    def end_fit(self):
        if self._model.train_function is self._updates.function:
            self._model.train_function = self._plain
