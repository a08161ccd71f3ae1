"""Averages of the weights that training passes: flat, over epochs, or exponential, with a half-life in epochs."""

import contextlib
import math
import warnings

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap.batch_normalization import recalibrate, recalibrated_layers
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.callbacks.cadence import Epochs, cadence_of
from tf_lbgap.callbacks.recalibration import check_alone, statistics_of
from tf_lbgap.callbacks.sample import readable_again
from tf_lbgap.callbacks.stream import fit_arguments
from tf_lbgap.callbacks.whereabouts import Whereabouts
from tf_lbgap.data.keras_calls import callbacks_of


class WeightAveraging(keras.callbacks.Callback):
    """Average the weights along training, and put the average into the model when `fit` ends.

    Two averages, both kept on the device:

    - *flat* (stochastic weight averaging, the default): (w₁ + .. + wₙ) / n of the weights at the end of each epoch from
      `start` on. It wants a rate that stays high there, or rises and falls with each epoch.
    - *exponential*, with `half_life`: after each update a ← a + (1 - d) (w - a) with d = 2^(-examples / (N half_life)),
      N the size of the training set. What the weights were a half-life ago counts half as much as what they are,
      whatever the batch size. (With a fixed d per update the memory is 1 / (1 - d) updates, more epochs as the batch grows.)
      It begins as the weights that it meets first.

    Only trainable weights are averaged. Statistics of batch normalization belong to the weights that they were taken
    under, so for the average they are taken anew, exactly, over `recalibrate`. Training itself is as without it, bit for
    bit: optimizer, statistics and weights are what they would be until the end. Then `restore()` gives the last
    weights back, and `averaged()` lends the average to a model that trains.

    A new `fit` begins a new average, unless `Checkpoint` goes on with an old one. The memory is that of the trainable
    weights, twice once `fit` has ended, and a step of the average is one call of a small graph. Let Keras'
    `EarlyStopping(restore_best_weights=True)` stand before it, or it overwrites the average.

    Example:

    ```python
    batches = lb.data.Batches(x, y, batch_size=1024, seed=0)
    model.fit(batches, epochs=100, shuffle=False, callbacks=[
        lb.callbacks.BatchSizeScheduler(batches),
        lb.callbacks.WeightAveraging(start=75, recalibrate=batches),
    ])
    ```

    Args:
        half_life: Epochs after which a weight counts half, above 0; None: all count the same.
        start: Epochs (progress) from which on weights are averaged, those at that very point included. 0.75 of the
            budget in Izmailov et al., section 4.1.
        every: When weights are taken, as `cadence.cadence_of` reads it: "epoch", a number of updates, `{"epochs": 2}`,
            a function `(update, progress) -> bool`. Defaults to "epoch" for the flat average and to each update for the
            exponential one; with `steps_per_execution` above 1 at ends of executions.
        recalibrate: The training data, or thousands of it, as `batch_normalization.recalibrate` takes it; needed if the model
            has batch normalization. False: its statistics stay those of the last weights, for somebody else to replace.
        validate: Whether the validation of `fit` sees the average, once there is one, too.

    Attributes:
        num_averaged: How many weights are in the average.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit` if the model has batch normalization and
            `recalibrate` is missing, or something else averages, too; in it if a half-life is given and `fit` reads
            data whose number of steps is unknown.

    Warns:
        UserWarning: At the end of `fit`, if it came to no average.

    References:
        Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018, Algorithm 1 (flat;
        statistics anew at the end).
        Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """

    def __init__(self, *, half_life=None, start=0.0, every=None, recalibrate=None, validate=False):
        super().__init__()
        for name, value, is_right in (
            ("half_life", half_life, half_life is None or (_is_number(half_life) and half_life > 0)),
            ("start", start, _is_number(start) and start >= 0),
        ):
            if not is_right:
                raise ValueError(f"{name}={value!r} should be a number of epochs, such as 2.0.")
        if validate not in (True, False):
            raise ValueError(f"validate={validate!r} should be True or False.")
        if every is None:
            every = "epoch" if half_life is None else 1
        self.half_life, self.start, self.validate = half_life, start, validate
        self.recalibrate = (
            recalibrate if recalibrate is None or recalibrate is False else readable_again(recalibrate)
        )
        self._cadence = cadence_of(every)
        self._is_each_update = every == 1
        self._is_fitting = False
        self._averages = self._own = self._taken_at = self._pending = None
        self.num_averaged = 0

    @property
    def changes_evaluation(self):
        """Whether an evaluation within `fit` is of another model than the one that trains."""
        return self.validate

    # What a user asks.

    @contextlib.contextmanager
    def averaged(self):
        """Inside the `with` block the model has the average and its exact statistics, then its own again, bit for bit.

        Before there is an average it has its own weights inside, too. In `on_train_batch_end` of another callback, that
        one has to stand behind the one that steers the batch.

        Yields:
            The model.
        """
        self._take_pending()
        if self._averages is None:
            yield self.model
            return
        own = self._put_in()
        try:
            yield self.model
        finally:
            _put_back(own)

    def restore(self):
        """Give the model the weights and statistics that the last `fit` had come to, or a validation that broke off.

        Raises:
            ValueError: If there are none, for no `fit` of this callback has ended with an average.
        """
        if self._own is None:
            raise ValueError(
                "There are no weights to restore: they are kept when a fit with this callback has ended."
            )
        _put_back(self._own)

    # State.

    def get_state(self):
        """Return the average so far, for `Checkpoint`."""
        self._take_pending()
        return {
            "num_averaged": self.num_averaged,
            "progress": self._taken_at,
            "averages": None if self._averages is None else [a.numpy() for a in self._averages],
        }

    def set_state(self, state):
        """Go on from `get_state()`, in a `fit` that has just begun."""
        self.num_averaged, self._taken_at = state["num_averaged"], state["progress"]
        self._averages = None
        if state["averages"] is not None:
            self._begin_average([np.asarray(value) for value in state["averages"]])

    # Hooks.

    def on_train_begin(self, logs=None):
        arguments = fit_arguments() or {}
        self._check(arguments)
        stream = arguments.get("x")
        self._where = Whereabouts(stream if hasattr(stream, "is_steered") else None, arguments, self.params)
        self._averages = self._own = self._taken_at = self._pending = None
        self.num_averaged, self._is_fitting = 0, True

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._steps = epoch, 0
        self._first = self._last = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_begin(self, batch, logs=None):
        self._take_pending()

    def on_train_batch_end(self, batch, logs=None):
        self._steps = batch + 1
        if isinstance(self._cadence, Epochs):
            return
        # Where training is, a callback that steers may hear after this one. The weights stay until the next update.
        self._pending = self._update_at(batch)

    def on_epoch_end(self, epoch, logs=None):
        self._take_pending()
        if self._cadence.at_epoch_end(epoch):
            self._take(self._progress(ended=True))

    def on_test_begin(self, logs=None):
        if self._is_fitting and self.validate:
            check_alone(self)
            self._take_pending()
            if self._averages is not None:
                self._own = self._put_in()

    def on_test_end(self, logs=None):
        if self._is_fitting and self._own is not None:
            _put_back(self._own)
            self._own = None

    def on_train_end(self, logs=None):
        self._take_pending()
        self._is_fitting = False
        if self._averages is None:
            warnings.warn(
                f"WeightAveraging: fit ended before there was anything to average from start={self.start:g} on, so the model "
                "keeps its last weights. Pass a smaller start, or train for longer.",
                stacklevel=2,
            )
            return
        self._own = self._put_in()

    # The average in the model.

    def _put_in(self):
        """Give the model the average and its statistics; return what it had, pairs of a variable and a value."""
        own = [(variable, tf.identity(variable.value)) for variable in self.model.trainable_variables]
        own += [(variable, variable.numpy()) for variable in statistics_of(self.model)]
        for variable, average in zip(self.model.trainable_variables, self._averages, strict=True):
            variable.assign(tf.cast(average, variable.dtype))
        if self.recalibrate is not None and self.recalibrate is not False:
            try:
                recalibrate(self.model, self.recalibrate)
            except BaseException:  # whatever it is, the last weights must not be lost
                _put_back(own)
                raise
        return own

    # One update after the other.

    def _take_pending(self):
        """Take the weights of the last update into the average, if they are due."""
        update, self._pending = self._pending, None
        if update is None:
            return
        progress = self._progress()
        if self._cadence.at_update(self._last, update, progress):
            self._take(progress)
        self._last = update

    def _take(self, progress):
        if (self._epoch if progress is None else progress) < self.start - 1e-9:
            return
        self.num_averaged += 1
        if self._averages is None:
            self._begin_average([variable.value for variable in self.model.trainable_variables])
        else:
            self._move(tf.constant(self._weight_of_newest(progress), tf.float64))
        self._taken_at = progress

    def _weight_of_newest(self, progress):
        if self.half_life is None:
            return 1 / self.num_averaged
        if progress is None or self._taken_at is None:
            raise ValueError(
                "half_life is in epochs, but this fit reads data whose number of examples is unknown. Give fit arrays or "
                "lb.data.Batches, or pass steps_per_epoch."
            )
        return -math.expm1(-math.log(2) * (progress - self._taken_at) / self.half_life)

    def _begin_average(self, values):
        # In float32 at least: steps of a thousandth vanish in bfloat16.
        dtypes = [tf.as_dtype(variable.dtype) for variable in self.model.trainable_variables]
        dtypes = [dtype if dtype.size >= 4 else tf.float32 for dtype in dtypes]
        pairs = zip(values, dtypes, strict=True)
        self._averages = [tf.Variable(tf.cast(value, dtype), trainable=False) for value, dtype in pairs]
        variables = list(self.model.trainable_variables)

        @tf.function(autograph=False)
        def move(weight):
            for average, variable in zip(self._averages, variables, strict=True):
                newest = tf.cast(variable.value, average.dtype)
                average.assign_add(tf.cast(weight, average.dtype) * (newest - average))

        self._move = move

    # Where training is.

    def _update_at(self, batch):
        if self._is_each_update and self.model.steps_per_execution == 1:
            return self._first + batch + 1  # asking an accelerator would wait for it
        # Keras' index overshoots in a last execution that is not full, and a batch may be several updates, or none.
        return int(self.model.optimizer.iterations.numpy())

    def _progress(self, ended=False):
        return self._where.progress(self._epoch, self._steps, ended)[0]

    # Before training.

    def _check(self, arguments):
        others = [c for c in callbacks_of(arguments) if isinstance(c, WeightAveraging) and c is not self]
        if others or getattr(rates.innermost(self.model.optimizer), "use_ema", False):
            what = (
                "two WeightAveraging callbacks"
                if others
                else "an optimizer with use_ema=True and WeightAveraging"
            )
            raise ValueError(
                f"fit was given {what}, which would both replace the weights at its end. Keep one."
            )
        if self.recalibrate is None and recalibrated_layers(self.model):
            raise ValueError(
                "The model has batch normalization, whose statistics belong to the weights that train and not to their "
                "average. Pass WeightAveraging(recalibrate=(x, y)), training data to take them from anew, or "
                "recalibrate=False to do that yourself."
            )


def _put_back(own):
    for variable, value in own:
        variable.assign(value)


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
