"""The small callbacks that an arm trains with: when it stops, what it logs and tells."""

import math
import time

import keras

SECONDS_BETWEEN_CHECKPOINTS = 20.0


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' own with a point per epoch, without the fifth of a small batch's time that it spends on points of updates which it then drops."""

    def __init__(self, folder):
        super().__init__(folder, write_graph=False, update_freq="epoch")

    def on_train_batch_end(self, batch, logs=None):
        pass


class Validation(keras.callbacks.Callback):
    """Puts loss and accuracy on test examples into the logs, where TensorBoard looks for them."""

    def __init__(self, validate):
        super().__init__()
        self._validate = validate

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"], logs["val_accuracy"] = self._validate()


class StopAtNaN(keras.callbacks.Callback):
    """Keras' TerminateOnNaN without the line that it prints; the results say what happened."""

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self.model.stop_training = True


class StopAfterUpdates(keras.callbacks.Callback):
    """Stops after so many updates of the model."""

    def __init__(self, updates):
        super().__init__()
        self._updates = updates

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) >= self._updates:
            self.model.stop_training = True


class StopAfterSeconds(keras.callbacks.Callback):
    """Stops when `spent()` says that so many seconds have been."""

    def __init__(self, seconds, spent):
        super().__init__()
        self._seconds, self._spent = seconds, spent

    def on_train_batch_end(self, batch, logs=None):
        if self._spent() >= self._seconds:
            self.model.stop_training = True


class NowAndThen:
    """Asks for a checkpoint when the last is some seconds ago."""

    def __init__(self):
        self._last = time.monotonic()

    def __call__(self, update, progress):
        is_due = time.monotonic() - self._last >= SECONDS_BETWEEN_CHECKPOINTS
        if is_due:
            self._last = time.monotonic()
        return is_due


class Resumed(keras.callbacks.Callback):
    """Adds the seconds that a process which died had spent, and tells where training goes on."""

    def __init__(self, clock, model, tell):
        super().__init__()
        self._clock, self._trained, self._tell = clock, model, tell

    def get_state(self):
        return self._clock.get_state()

    def set_state(self, seconds):
        self._clock.set_state(seconds)
        self._tell(0.0, f"going on from update {int(self._trained.optimizer.iterations.numpy()):,}")


def tell_nobody(fraction, text):
    pass


class Progress(keras.callbacks.Callback):
    """Tells the run after each epoch how far training is."""

    def __init__(self, batches, fraction, stop, tell):
        super().__init__()
        self._batches, self._fraction, self._stop, self._tell = batches, fraction, stop, tell

    def on_epoch_end(self, epoch, logs=None):
        loss = f"loss {logs['loss']:.3g}" if "loss" in (logs or {}) else ""
        self._tell(min(self._fraction(self._batches, self._stop), 1.0), f"epoch {epoch + 1} {loss}")
