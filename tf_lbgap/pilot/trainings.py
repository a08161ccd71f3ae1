"""Short trainings of one model, each from where it stood, by `fit` itself on a stream of its own."""

import contextlib
import math

from tf_lbgap import batch_normalization, callbacks, schedules
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.experiment.evaluation import Evaluation
from tf_lbgap.pilot.recorder import Recorder
from tf_lbgap.pilot.snapshot import Snapshot
from tf_lbgap.pilot.streams import first_examples, twin

UNLIMITED = 10**6  # epochs; something else ends training


class Trainings:
    """Trains a model again and again, and puts it back.

    Args:
        model: A compiled and built Keras model.
        batches: The user's `data.Batches`, which is not read.
        clock: Function that returns the time in seconds.
        learning_rate: The rate as a function of progress, or None for the optimizer's own.
        check_examples: How many examples the clean loss is over.
        steering: Further arguments of `callbacks.BatchSizeScheduler`.

    Attributes:
        start_loss: The clean loss of the model as it came.
    """

    def __init__(self, model, batches, clock, *, learning_rate=None, check_examples=1000, steering=None):
        self._model, self._batches, self._clock = model, batches, clock
        self._schedule, self._steering = learning_rate, steering or {}
        self._streams = {}  # seed -> stream: making one takes as long as a hundred short updates
        self._first_seconds = {}  # size -> from the start of a fit to the end of its first update, of each fit
        self._snapshot = Snapshot(model)
        self._sample = first_examples(batches, check_examples)
        self._evaluation = Evaluation(model, model.loss)
        self.start_loss = self.clean_loss()

    def clean_loss(self):
        """Return the loss over the first examples, in inference mode with exact statistics; it may be NaN."""
        try:
            with batch_normalization.recalibrated(self._model, self._sample):
                return float(self._evaluation(*self._sample[:2])[0])
        except ValueError:  # the statistics of a model that diverged are not finite
            return math.nan

    @property
    def rate(self):
        """The user's own learning rate; None where it is a schedule."""
        return None if self._schedule or self.has_keras_schedule else rates.read_rate(self._model.optimizer)

    @property
    def has_keras_schedule(self):
        """Whether the optimizer computes its rate from the number of updates, which is left alone."""
        return rates.schedule_of(self._model.optimizer) is not None

    @property
    def compile_seconds(self):
        """Seconds of tracing and compiling: what the first update of each size took more than it took later."""
        return sum(max(first - min(later), 0.0) for first, *later in self._first_seconds.values() if later)

    def run(self, batch_size, is_enough, *, rate_factor=1.0, seed=0, schedule=None, looks=False, probe=None):
        """Train the model from where it stood, put it back, and return the `Recorder`.

        Args:
            batch_size: Examples per update.
            is_enough: Function of the recorder; true ends training.
            rate_factor: The rate over the user's own: a number, or with a schedule of sizes a function of progress.
            seed: Of the order of the examples.
            schedule: Function of progress that gives the batch size in place of `batch_size`.
            looks: Whether to look at the clean loss.
            probe: As for `Recorder`.
        """
        stream = self._stream(batch_size, seed)
        recorder = Recorder(
            stream,
            self._clock,
            is_enough,
            clean_loss=self.clean_loss if looks else None,
            start_loss=self.start_loss,
            probe=probe,
        )
        sizes = schedule or schedules.constant(batch_size)
        steering = callbacks.BatchSizeScheduler(stream, sizes, **self._steering)
        with self.put_back():
            scheduler = self._set_rate(stream, rate_factor)
            fit = {"epochs": UNLIMITED, "shuffle": False, "verbose": 0}
            try:
                self._model.fit(stream, callbacks=[steering, *scheduler, recorder], **fit)
            except BaseException:
                self.end()  # memory was out, say, and callbacks had no chance to leave the model as it was
                raise
        if recorder.stamps:
            taken = recorder.stamps[0].seconds - recorder.began
            self._first_seconds.setdefault(batch_size, []).append(taken)
        return recorder

    @contextlib.contextmanager
    def put_back(self):
        """Put weights, optimizer, metrics and seeds back after the block."""
        try:
            yield
        finally:
            self._snapshot.restore()

    def end(self):
        """Leave the model as it came, the functions that Keras keeps in it too."""
        self._snapshot.end()

    def _stream(self, batch_size, seed):
        """Return the stream of a seed, at the beginning of its first epoch."""
        if seed not in self._streams:
            self._streams[seed] = twin(self._batches, batch_size, seed)
        stream = self._streams[seed]
        stream.batch_size, stream.position = batch_size, (0, 0)
        return stream

    def _set_rate(self, stream, factor):
        """Give the model its rate; return the callback that does so, in a list."""
        own = self._schedule or (schedules.constant(self.rate) if callable(factor) else None)
        if own is not None:
            return [callbacks.LearningRateScheduler(stream, schedules.scaled(own, factor))]
        if factor != 1.0:
            rates.write_rate(self._model.optimizer, rates.read_rate(self._model.optimizer) * factor)
        return []
