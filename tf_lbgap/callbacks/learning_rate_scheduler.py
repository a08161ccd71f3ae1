"""A learning rate that follows a schedule of progress, update by update."""

import math

import keras

from tf_lbgap import schedules
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.callbacks.stream import check_batches, check_read


class LearningRateScheduler(keras.callbacks.Callback):
    """Set the rate before each update to schedule(progress), in epochs, times the batch's factor.

    Keras' own schedules count updates, so they bend when the batch grows; this one counts examples.
    With a `BatchSizeScheduler(learning_rate="linear")` beside it, the rate is the product of both.
    With `steps_per_execution` above 1 the rate holds for an execution. Puts `learning_rate`, that of
    the last update, into the logs.

    Example:

    ```python
    rate = lb.schedules.warmup(lb.schedules.cosine(0.1, epochs=200), epochs=5)
    model.fit(batches, epochs=200, shuffle=False, callbacks=[lb.callbacks.LearningRateScheduler(batches, rate)])
    ```

    Args:
        batches: The `data.Batches` that is given to `fit`.
        schedule: Function progress -> learning rate. See `schedules`.
        momentum_correction: Whether the momentum buffers of SGD are multiplied by new rate / old rate
            when the rate changes (Goyal et al. 2017). Keras keeps the rate inside them.

    Raises:
        ValueError: If the schedule returns no finite number of at least 0, when it does; if the
            optimizer was built with a Keras schedule.
    """

    def __init__(self, batches, schedule, *, momentum_correction=False):
        super().__init__()
        check_batches(batches, self)
        if not callable(schedule):
            raise ValueError(
                f"schedule={schedule!r} must be a function of progress: lb.schedules.constant({schedule!r}), or another."
            )
        self.batches, self.schedule, self.momentum_correction = batches, schedule, momentum_correction
        self._rate = None
        self.rate_at(0.0)

    def get_config(self):
        """Return the arguments but `batches`, with the schedule as `schedules.from_config` reads it."""
        return {
            "schedule": schedules.get_config(self.schedule),
            "momentum_correction": self.momentum_correction,
        }

    @classmethod
    def from_config(cls, config, batches):
        """Make the callback of `get_config()` for a stream."""
        return cls(batches, **{**config, "schedule": schedules.from_config(config["schedule"])})

    def rate_at(self, progress):
        """Return schedule(progress) as a float, checked."""
        value = self.schedule(progress)
        try:
            rate = float(value)
        except (TypeError, ValueError):
            rate = math.nan
        if not 0 <= rate < math.inf:
            raise ValueError(
                f"The schedule gave a learning rate of {value!r} at progress {progress:g}, but a rate is a finite "
                "number of at least 0."
            )
        return rate

    @property
    def rate(self):
        """The rate of the last update of this fit, a float, or None before the first."""
        return self._rate

    def on_train_begin(self, logs=None):
        optimizer = self.model.optimizer
        if rates.schedule_of(optimizer) is not None:
            raise ValueError(
                "The optimizer was built with a Keras schedule, and LearningRateScheduler would overrule it. Compile "
                "with a number, learning_rate=0.1, or leave LearningRateScheduler out."
            )
        if self.momentum_correction:
            rates.check_momentum_correction(optimizer)
        check_read(self)
        rates.unscale_rate(optimizer)  # after a fit that was interrupted within an update
        self._rate = None
        self.batches.set_rate_scheduler(self)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if not self.batches.is_steered:
            self.batches.begin_epoch(epoch, 0, self.batches.batch_size)

    def on_train_batch_begin(self, batch, logs=None):
        optimizer, old = self.model.optimizer, rates.read_rate(self.model.optimizer)
        if self._rate is not None and old != self._written:
            raise ValueError(
                f"Something else set the learning rate to {old:g}, but LearningRateScheduler sets it before each "
                "update. Leave out the other callback (ReduceLROnPlateau, keras' LearningRateScheduler), or ours."
            )
        self.batches.begin_update()
        rate = self.rate_at(self._progress(batch)) * self.batches.learning_rate_factor
        if rate != self._rate:
            self._rate = rate
            self._written = rates.write_rate(optimizer, rate)
            in_buffers = old * rates.momentum_factor(optimizer)
            if self.momentum_correction and in_buffers:
                rates.correct_momentum(optimizer, self._written / in_buffers)
                rates.set_momentum_factor(optimizer, 1.0)

    def on_train_batch_end(self, batch, logs=None):
        if logs is not None:
            logs["learning_rate"] = self._rate

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = self._rate

    def _progress(self, batch):
        if self.batches.is_steered:
            return self.batches.progress
        return self._epoch + min(batch * self.batches.batch_size / self.batches.num_examples, 1.0)
