"""The share of adversarial examples that falls as the batch grows, as in ABSA."""

import math

import keras

from tf_lbgap.callbacks.batch_size_callback import BatchSizeCallback
from tf_lbgap.callbacks.change_updates import ChangeUpdates
from tf_lbgap.callbacks.monitor import check_whole
from tf_lbgap.callbacks.stream import check_batches, check_read, fit_arguments
from tf_lbgap.callbacks.summaries import call_when_steps_end
from tf_lbgap.data.keras_calls import callbacks_of
from tf_lbgap.data.plan import check_batch_size
from tf_lbgap.training import Adversarial


class AdversarialShare(keras.callbacks.Callback):
    """Set the ratio of adversarial training at the beginning of each epoch of `fit`: less, the larger the batch is.

        ratio = r₀ B₀ / B,    0 in the second half of training, and 0 at the maximum batch

    B₀ is the size that the stream had when this was made, and r₀ the change's ratio then. So an update replaces as many
    examples, ⌊r₀ B₀⌋ up to rounding, whatever its batch. The second half begins with epoch ⌊epochs / 2⌋, counted from 0,
    `epochs` being those of `fit` unless they are given, but not with the first. A size that moves within an epoch counts
    from the next one on.

    `adversarial_ratio`, that of the epoch, comes into the logs. When the updates of an epoch have ended, or broke off, the
    change has r₀ again. `Checkpoint` goes on with the ratio of the epoch that was interrupted.

    Args:
        batches: The `data.Batches` that is given to `fit`.
        change: The `training.Adversarial` that `ChangeUpdates` makes in the same `fit`.
        half: Whether it is 0 in the second half.
        epochs: Of the whole training, where `fit` is told others because something else ends it.
        maximum: The batch from which on it is 0, if training has grown to it; None: no batch.

    Raises:
        ValueError: If an argument is none of these or the ratio is 0; at the start of `fit` if nobody makes the change,
            or if a callback that steers the batch stands behind this one.

    References:
        Yao, Gholami, Keutzer and Mahoney, "Large batch size training of neural networks with adversarial training and
        second-order information", 2018 (arXiv 1810.01021), and the authors' code, with ε = 0.005 and r₀ = 0.2.

    Example:

    ```python
    change = lb.training.Adversarial("fgsm", epsilon=0.005, ratio=0.2)
    absa = lb.callbacks.AdaptiveBatchSize(
        batches, lb.growth.Absa(), maximum=4096, learning_rate="linear", sample=(x[:128], y[:128])
    )
    model.fit(batches, epochs=90, shuffle=False, callbacks=[
        lb.callbacks.ChangeUpdates(change), absa, lb.callbacks.AdversarialShare(batches, change, maximum=4096),
    ])
    ```
    """

    def __init__(self, batches, change, *, half=True, maximum=None, epochs=None):
        super().__init__()
        check_batches(batches, self)
        if not isinstance(change, Adversarial):
            raise ValueError(
                f"change={change!r} must be the training.Adversarial that is given to ChangeUpdates, such as "
                'lb.training.Adversarial("fgsm", epsilon=0.005, ratio=0.2).'
            )
        if not change.ratio:
            raise ValueError(
                "The change has ratio=0, and a share of nothing is nothing. Make it with Adversarial(..., ratio=0.2)."
            )
        if not isinstance(half, bool):
            raise ValueError(f"half={half!r} must be True or False.")
        self._first, self._first_ratio = batches.batch_size, change.ratio
        if maximum is not None:
            maximum = check_batch_size(maximum, batches.num_examples, "maximum")
            if maximum < self._first:
                raise ValueError(
                    f"maximum={maximum} is below the stream's first batch_size={self._first}. Pass the largest batch that "
                    "training may grow to, as to AdaptiveBatchSize, or None."
                )
        if epochs is not None:
            check_whole(1, epochs=epochs)
        self.batches, self.change, self.half, self.maximum = batches, change, half, maximum
        self.epochs, self._ratio, self._restored = epochs, None, None

    def ratio_at(self, epoch, epochs, batch_size):
        """Return the ratio of an epoch, counted from 0, of so many, with a batch of so many examples."""
        if self.half and epoch >= max(epochs // 2, 1):
            return 0.0
        most = math.inf if self.maximum is None else self.batches.shared_equally(self.maximum)
        if batch_size >= most and batch_size > self._first:
            return 0.0
        return min(self._first_ratio * (self._first / batch_size), 1.0)

    def on_train_begin(self, logs=None):
        check_read(self)
        arguments = fit_arguments()
        if arguments is not None:
            self._check_others(callbacks_of(arguments))
        call_when_steps_end(self._put_back)

    def get_state(self):
        """Return the ratio of the epoch, if it is not over."""
        return {"ratio": self._ratio if self.batches.position[1] else None}

    def set_state(self, state):
        """Go on with it, in the epoch that was interrupted."""
        self._restored = state["ratio"]

    def on_epoch_begin(self, epoch, logs=None):
        self._ratio = self.ratio_at(epoch, self.epochs or self.params["epochs"], self.batches.batch_size)
        if self._restored is not None:
            self._ratio, self._restored = self._restored, None
        self.change.ratio = self._ratio

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["adversarial_ratio"] = self._ratio

    def _put_back(self):
        self.change.ratio = self._first_ratio

    def _check_others(self, callbacks):
        made = [change for other in callbacks if isinstance(other, ChangeUpdates) for change in other.changes]
        if not any(change is self.change for change in made):
            raise ValueError(
                "AdversarialShare sets the ratio of a change that this fit does not make. Put ChangeUpdates(change), with "
                "the same change, into fit's list of callbacks."
            )
        place = next((i for i, other in enumerate(callbacks) if other is self), len(callbacks))
        for other in callbacks[place:]:
            if isinstance(other, BatchSizeCallback):
                raise ValueError(
                    f"{type(other).__name__} chooses the batch of an epoch, and AdversarialShare looks at it before. Put "
                    f"AdversarialShare behind {type(other).__name__} in fit's list of callbacks."
                )
