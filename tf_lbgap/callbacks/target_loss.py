"""Stopping at a given training loss, so that solutions can be compared at equal loss."""

import math

import keras

from tf_lbgap.callbacks.stream import check_batches


class TargetLoss(keras.callbacks.Callback):
    """Stop training when a clean loss has been at or below a target twice in a row.

    Sharpness falls with the loss near interpolation, so minima found with different batches are
    comparable at equal loss, not at equal epochs. Small batches pass a target within an epoch, so the
    loss is checked every twelfth of one. Adds `target_reached` (0 or 1) to the logs.

    Args:
        batches: The `data.Batches` that is given to `fit`, whose progress says when to check.
        target: The loss at which to stop.
        loss: Function without arguments that returns the loss to compare, a float, leaving the model
            as it is: over the whole training set or a fixed part of it, in inference mode.
        every: Epochs between checks. Defaults to 1/12.
        patience: How many checks in a row have to meet the target. Defaults to 2.
    """

    def __init__(self, batches, target, loss, *, every=1 / 12, patience=2):
        super().__init__()
        check_batches(batches, self)
        if not callable(loss):
            raise ValueError(f"loss={loss!r} must be a function without arguments that returns a float.")
        for name, value in {"target": target, "every": every, "patience": patience}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value!r} must be a positive number.")
        self.batches, self.target, self.loss = batches, target, loss
        self.every, self.patience = every, patience

    def get_state(self):
        """Return what it has seen, plain values, for `Checkpoint`."""
        return [self.reached, self.last_loss, self._hits, self._next]

    def set_state(self, state):
        """Go on from `get_state()`, in a `fit` that has just begun."""
        self.reached, self.last_loss, self._hits, self._next = state

    def on_train_begin(self, logs=None):
        self.reached, self.last_loss, self._hits, self._next = False, math.inf, 0, None

    def on_epoch_begin(self, epoch, logs=None):
        if self._next is None:
            self._next = self._count(epoch) + 1

    def on_train_batch_end(self, batch, logs=None):
        progress = self.batches.progress
        if self._count(progress) < self._next:
            return
        self._next = self._count(progress) + 1
        self.last_loss = float(self.loss())
        self._hits = self._hits + 1 if self.last_loss <= self.target else 0
        if self._hits >= self.patience or math.isnan(self.last_loss):
            self.reached = self._hits >= self.patience
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["target_reached"] = int(self.reached)

    def _count(self, progress):
        return math.floor(progress / self.every + 1e-9)
