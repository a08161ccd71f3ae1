"""What a short training notes of itself: when updates ended, how the clean loss fell; and when it has seen enough."""

import math

import keras

from tf_lbgap.pilot.curve import Point
from tf_lbgap.pilot.stopwatch import Stamp

EVERY = 1 / 12  # epochs between two looks at the loss, as `callbacks.TargetLoss`
GROWTH = 0.04  # or this share of the training so far, if that is longer


class Recorder(keras.callbacks.Callback):
    """Notes the end of each update, looks at the clean loss, and ends the training.

    What it spends on looks, probes and noting is not counted: its clock stands still.

    Args:
        stream: The `data.Batches` that is given to `fit`.
        clock: Function that returns the time in seconds.
        is_enough: Function of this recorder; true ends training.
        clean_loss: Function without arguments that returns the loss of the model as it stands; None does not look.
        start_loss: The loss before training.
        probe: Function (updates, progress, loss) that is called at looks, as the updates double, and at the end; or None.

    Attributes:
        stamps: `Stamp`s.
        points: `Point`s.
        diverged: Whether a loss was not finite.
        began: When training began, by its clock.
    """

    def __init__(self, stream, clock, is_enough, *, clean_loss=None, start_loss=math.nan, probe=None):
        super().__init__()
        self._stream, self._clock, self._is_enough = stream, clock, is_enough
        self._clean_loss, self._probe = clean_loss, probe
        self.stamps, self.points, self.diverged = [], [Point(0, 0.0, start_loss)], False
        self._paused, self._next_look, self._probed = 0.0, EVERY, 0
        self.began = clock()

    def on_train_begin(self, logs=None):
        self._first = int(self.model.optimizer.iterations.numpy())

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        now = self._clock()
        updates = int(self.model.optimizer.iterations.numpy()) - self._first
        self.stamps.append(Stamp(updates, self._epoch, batch, now - self._paused))
        self.diverged = not math.isfinite((logs or {}).get("loss", 0.0))
        if self._clean_loss is not None and not self.diverged:
            self._look(updates)
        if self.diverged or self._is_enough(self):
            self.model.stop_training = True
        self._paused += self._clock() - now

    def on_train_end(self, logs=None):
        if self._probe is not None and not self.diverged and self._probed < self.updates:
            self._probe(self.updates, float(self._stream.progress), self.points[-1].loss)

    @property
    def updates(self):
        """How many were made."""
        return self.stamps[-1].updates if self.stamps else 0

    @property
    def seconds(self):
        """Seconds from the first update's end to the last's."""
        return self.stamps[-1].seconds - self.stamps[0].seconds if self.stamps else 0.0

    def is_at(self, level):
        """Whether the last two looks were at or below a level."""
        return len(self.points) > 2 and max(point.loss for point in self.points[-2:]) <= level

    def _look(self, updates):
        progress = float(self._stream.progress)
        if progress < self._next_look - 1e-9:
            return
        self._next_look = progress + max(EVERY, GROWTH * progress)
        loss = float(self._clean_loss())
        self.points.append(Point(updates, progress, loss))
        self.diverged = not math.isfinite(loss)
        if self._probe is not None and updates >= 2 * self._probed and not self.diverged:
            self._probed = updates
            self._probe(updates, progress, loss)
