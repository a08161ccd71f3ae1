"""What a run was: batch size, rate and noise scale, progress, train and test loss, written while `fit` runs.

Steps are updates, `optimizer.iterations`. Beside what monitors measure it makes curves comparable: TensorBoard's
tab draws any of them against epochs, examples or training loss by what is written here.
"""

from typing import NamedTuple

import keras

from tf_lbgap import scaling
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.callbacks.described import described
from tf_lbgap.callbacks.learning_rate_scheduler import LearningRateScheduler
from tf_lbgap.callbacks.monitor import check_whole
from tf_lbgap.callbacks.stream import check_batches, fit_arguments
from tf_lbgap.callbacks.summaries import Summaries, call_when_steps_end
from tf_lbgap.callbacks.whereabouts import Whereabouts
from tf_lbgap.data.keras_calls import callbacks_of

CHANGE = 0.05  # of the rate, relative; smaller ones wait for the next point
LOOKS = 50  # updates between two looks at a Keras schedule, which takes 1 ms to evaluate
_RUNNING_MEAN = "Keras' running mean over the epoch, in training mode"
_UNITS = {"schedule/batch_size": "examples", "progress/epochs": "epochs", "progress/examples": "examples"}


class Point(NamedTuple):
    """An update, and how far training was after it; None for what is not known."""

    batch_size: int | None
    learning_rate: float
    epochs: float | None
    examples: int | None

    def differs(self, other):
        """Return whether size or rate are others; the rate by more than 5 %."""
        old, new = other.learning_rate, self.learning_rate
        return self.batch_size != other.batch_size or abs(new - old) > CHANGE * abs(old)


class RunSummary(keras.callbacks.Callback):
    """Write schedules, progress and the generalization gap of a run for TensorBoard's tab SHARPNESS.

    - `schedule/batch_size`, `learning_rate` and `noise_scale` of the update that a step counts, and
      `progress/epochs` and `examples` after it: at the first update, whenever the batch size changes or `every`
      updates have passed, and at the end of an epoch; rate and noise scale also whenever the rate has changed by
      5 %. The rate is that which the update was made with, whoever set it.
    - `generalization/train_loss`, `train_accuracy`, `test_loss` and `test_accuracy` at the end of an epoch, from
      the logs. What Keras calls the training loss is a running mean over the epoch, in training mode: with dropout,
      and of weights that were still moving. What it calls `val_loss` is the test loss here, in inference mode.

    What is not known is not written: the noise scale needs the number of examples, which a `tf.data.Dataset`
    does not tell. Stand it behind callbacks that put `val_loss` into the logs; before or behind
    `BatchSizeScheduler` makes no difference.

    It costs some 0.01 ms per update and 0.3 ms per point, and leaves training as it is. The rate is read
    where it may change: at each update if a callback that is neither Keras' nor ours acts there (0.03 ms), else
    at the first of an epoch, and with a new batch size. A Keras schedule, slow to ask, is asked each 50 updates.

    Example:

    ```python
    model.fit(batches, epochs=30, validation_data=(x_test, y_test), callbacks=[
        lb.callbacks.BatchSizeScheduler(batches, growth),
        lb.callbacks.RunSummary("runs/grown/0"),
    ])
    ```

    Args:
        log_dir: Directory of the run; monitors may write into the same.
        batches: The `data.Batches` that is given to `fit`. Defaults to that which `fit` reads, if it is one; with
            arrays, and with a data set of known length, sizes come from `fit`'s arguments.
        every: The most updates between two points.
        measured: A dict of plain values for captions, such as `{"data": "digits", "seed": 0}`.

    Raises:
        ValueError: If `every` is below 1 or `batches` is no `data.Batches`.
    """

    def __init__(self, log_dir, batches=None, *, every=100, measured=None):
        super().__init__()
        check_whole(1, every=every)
        if batches is not None:
            check_batches(batches, self)
        self.log_dir, self.batches, self.every, self.measured = log_dir, batches, every, measured
        self._summaries = None

    def __deepcopy__(self, memo):
        return type(self)(self.log_dir, self.batches, every=self.every, measured=self.measured)

    # Hooks.

    def on_train_begin(self, logs=None):
        if self._summaries is None:
            self._summaries = Summaries(self.log_dir, self.model)
        call_when_steps_end(self._summaries.flush)
        arguments = fit_arguments() or {}
        self._stream = self.batches
        if self._stream is None and hasattr(arguments.get("x"), "is_steered"):
            self._stream = arguments["x"]
        self._where = Whereabouts(self._stream, arguments, self.params)
        self._is_schedule = rates.schedule_of(self.model.optimizer) is not None
        self._is_restless = any(map(_acts_between_updates, callbacks_of(arguments))) and not self._is_schedule
        self._about = self._described()
        self._begin = self._update()
        self._done = 0  # updates of this fit in earlier epochs
        self._taken = None  # size and rate of an update whose point waits for the other callbacks
        self._last = self._written = None  # (updates of this fit, point)
        self._steps, self._has_begun = 0, False

    def get_state(self):
        """Return which points are written, plain values, for `Checkpoint`."""
        return {
            "begin": self._begin,
            "done": self._done + self._steps,
            "has_begun": self._has_begun,
            "points": [self._taken, self._last, self._written],
        }

    def set_state(self, state):
        """Go on from `get_state()`, in a `fit` that has just begun."""
        self._begin, self._done, self._has_begun = state["begin"], state["done"], state["has_begun"]
        taken, *points = state["points"]
        self._taken = taken and tuple(taken)
        self._last, self._written = (p and (p[0], Point(*p[1])) for p in points)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._steps = epoch, 0
        if not self._has_begun:
            self._has_begun = True
            self._write_progress(self._begin, *self._where.progress(epoch, 0))

    def on_train_batch_begin(self, batch, logs=None):
        self._settle()

    def on_train_batch_end(self, batch, logs=None):
        self._steps = batch + 1
        size = self._where.batch_size()
        self._taken = size, self._learning_rate(size)

    def on_epoch_end(self, epoch, logs=None):
        if self._is_schedule and self._taken is not None:
            self._taken = self._taken[0], rates.used_rate(self.model.optimizer, self._stream, self.params)
        self._settle(ended=True)
        self._done = self._update() - self._begin  # the last execution may have been shorter than the others
        self._steps = 0
        self._write_generalization(logs or {})
        self._summaries.flush()

    def on_train_end(self, logs=None):
        self._summaries.close()
        self._summaries = None

    # A point is settled when the next update begins: then all callbacks have heard of the end of the last one.

    def _settle(self, ended=False):
        taken, self._taken = self._taken, None
        if taken is None and ended and self._last is not None:
            taken = self._last[1][
                :2
            ]  # an epoch of unknown length begins an update for which there are no data
        if taken is None:
            return
        count = self._done + self._steps
        point = Point(*taken, *self._where.progress(self._epoch, self._steps, ended))
        if ended or self._is_due(count) or point.batch_size != self._written[1].batch_size:
            self._write(count, point, self._write_all)
        elif point.differs(self._written[1]):
            self._write(count, point, self._write_rate)
        self._last = count, point

    def _is_due(self, count):
        return self._written is None or count - self._written[0] >= self.every

    def _write(self, count, point, write):
        update = self._update()
        if self._last is not None and self._last[0] > self._written[0] and point.differs(self._last[1]):
            before, old = self._last  # so that a line between points shows a jump as one
            write(update - (count - before), old)
        write(update, point)
        self._written = count, point
        self._summaries.flush_if_due()

    def _learning_rate(self, size):
        """The rate of the update that has ended, read only if it may be another than that of the last."""
        count = self._done + self._steps
        if (
            self._is_restless
            or self._steps == 1
            or self._last is None
            or size != self._last[1].batch_size
            or self._is_due(count)
            or (self._is_schedule and count % LOOKS == 0)
        ):
            return rates.used_rate(self.model.optimizer, self._stream, self.params)
        return self._last[1].learning_rate

    def _update(self):
        return int(self.model.optimizer.iterations.numpy())

    # What is written.

    def _described(self):
        about = described(self.model)
        if self._where.num_examples:
            about["examples"] = self._where.num_examples
        return {**about, **(self.measured or {})}

    def _write_all(self, update, point):
        self._scalar("schedule/batch_size", point.batch_size, update)
        self._write_rate(update, point)
        self._write_progress(update, point.epochs, point.examples)

    def _write_rate(self, update, point):
        self._scalar("schedule/learning_rate", point.learning_rate, update)
        self._scalar("schedule/noise_scale", self._noise_scale(point), update)

    def _write_progress(self, update, epochs, examples):
        self._scalar("progress/epochs", epochs, update)
        self._scalar("progress/examples", examples, update)

    def _noise_scale(self, point):
        size, total = point.batch_size, self._where.num_examples
        if not size or not total or not 0 <= point.learning_rate < float("inf"):
            return None
        momentum = rates.momentum_of(self.model.optimizer)
        rate = point.learning_rate
        return scaling.noise_scale(rate, min(size, total), total, momentum) if rate else 0.0

    def _write_generalization(self, logs):
        update = self._update()
        accuracy = next((key for key in logs if _is_accuracy(key)), None)
        for quantity, key in (("loss", "loss"), ("accuracy", accuracy)):
            tag = f"generalization/train_{quantity}"
            self._scalar(tag, logs.get(key), update, description=_RUNNING_MEAN)
            self._scalar(f"generalization/test_{quantity}", logs.get(f"val_{key}"), update)

    def _scalar(self, tag, value, update, description=""):
        if value is not None:
            self._summaries.writer.scalar(
                tag, value, update, unit=_UNITS.get(tag, ""), description=description, measured=self._about
            )


def _acts_between_updates(callback):
    """Return whether a callback may set the rate between two updates: LearningRateScheduler, or somebody's own."""
    if isinstance(callback, (LearningRateScheduler, keras.callbacks.LambdaCallback)):
        return True  # ours tells its rate for nothing
    if isinstance(callback, RunSummary):
        return False
    if type(callback).__module__.partition(".")[0] in ("keras", "tf_lbgap"):
        return False
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    theirs = keras.callbacks.Callback
    return any(
        getattr(getattr(callback, hook, None), "__func__", None) is not getattr(theirs, hook)
        for hook in hooks
    )


def _is_accuracy(key):
    return not key.startswith("val_") and ("accuracy" in key or key == "acc")
