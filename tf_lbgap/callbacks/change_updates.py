"""Puts changes of the update into `fit`, and takes them away again."""

import keras

from tf_lbgap.callbacks.batch_size_callback import BatchSizeCallback
from tf_lbgap.callbacks.stream import fit_arguments
from tf_lbgap.callbacks.summaries import call_when_steps_end
from tf_lbgap.data.keras_calls import callbacks_of
from tf_lbgap.training import Changes
from tf_lbgap.training.train_functions import build_optimizer, check_model


class ChangeUpdates(keras.callbacks.Callback):
    """Change how `fit` makes its updates: sharpness-aware, conservative, adversarial, ... or several of these.

    The model is not touched: between epochs, after the fit, and in a saved file it has its own `train_step`. Works with
    micro-batches, under MirroredStrategy, in mixed precision, and with the user's own `train_step` as long as that
    applies `model.optimizer` once.

    Several changes stand around each other, the first one outermost, see `training.update_change`. Clipping needs no
    change: it is `global_clipnorm` of Keras' optimizers, and acts on what the changes make.

    Args:
        changes: A `training.UpdateChange`, or a list of them.

    Raises:
        ValueError: If they cannot be combined; at the start of `fit` if the model's updates cannot be changed.

    Example:

    ```python
    model.fit(batches, epochs=20, callbacks=[
        lb.callbacks.ChangeUpdates([lb.training.SharpnessAware(rho=0.05), lb.training.Adversarial("fgsm", epsilon=0.02)]),
        lb.callbacks.BatchSizeScheduler(batches, schedule, micro_batch_size=256),
    ])
    ```
    """

    def __init__(self, changes):
        super().__init__()
        self._changes = changes if isinstance(changes, Changes) else Changes(changes)
        self.changes = self._changes.changes

    def on_train_begin(self, logs=None):
        check_model(self.model)
        build_optimizer(self.model)
        self._check_order()
        self._changes.begin_fit(self.model)
        if any(isinstance(c, BatchSizeCallback) and c.looks_at_updates for c in self._callbacks()):
            self._changes.put()
        self._watched = False

    def on_epoch_begin(self, epoch, logs=None):
        for change in self.changes:
            change.begin_epoch(self.model, epoch)
        # The model is changed while updates are made, and not before: a callback may yet refuse the fit. And this begins after
        # those who choose between train functions, whose choice has to be taken back first.
        if not self._watched and not call_when_steps_end(self._changes.take_away, begin=self._changes.put):
            self._changes.put()  # somebody's own loop
        self._watched = True

    def on_train_end(self, logs=None):
        self._changes.take_away()

    def get_state(self):
        """Return what the changes remember, for `Checkpoint`."""
        return [change.get_state() for change in self.changes]

    def set_state(self, state):
        """Go on from `get_state()`, in a `fit` that has just begun."""
        for change, its in zip(self.changes, state, strict=True):
            change.set_state(its)

    def _callbacks(self):
        return callbacks_of(fit_arguments() or {})

    def _check_order(self):
        for callback in self._callbacks():
            if callback is self:
                return
            if isinstance(callback, ChangeUpdates):
                raise ValueError(
                    "fit has two ChangeUpdates. Give all changes to one: ChangeUpdates([first, second])."
                )
            if isinstance(callback, BatchSizeCallback) and callback.looks_at_updates:
                raise ValueError(
                    f"{type(callback).__name__} looks at the updates when fit begins, before ChangeUpdates has changed them. Put "
                    "ChangeUpdates before it in fit's list of callbacks."
                )
