"""Where the seconds of a run go: compile, input wait, train, evaluate, measure."""

import contextlib
import time

import tensorflow as tf

from tf_lbgap import strategy

PARTS = ("compile", "input", "train", "evaluate", "measure")


class Clock:
    """Adds up seconds by part. A part that begins inside another is not counted twice.

    Attributes:
        seconds: By the clock on the wall.
        cpu_seconds: Of the process, all its threads together.
    """

    def __init__(self):
        self.seconds, self.cpu_seconds = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)
        self._stack = []
        self._since = self._cpu_since = None

    @contextlib.contextmanager
    def part(self, name):
        """Count the time in the block as `name`."""
        self._settle()
        self._stack.append(name)
        try:
            yield
        finally:
            self._settle()
            self._stack.pop()

    def get_state(self):
        """Return the seconds so far, by part, and those of the processor."""
        self._settle()
        return {**self.seconds, **{f"cpu_{part}": value for part, value in self.cpu_seconds.items()}}

    def set_state(self, seconds):
        """Add those of a process that this one goes on from."""
        for part in PARTS:
            self.seconds[part] += seconds[part]
            self.cpu_seconds[part] += seconds.get(f"cpu_{part}", 0.0)

    def _settle(self):
        now, cpu = time.perf_counter(), time.process_time()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
            self.cpu_seconds[self._stack[-1]] += cpu - self._cpu_since
        self._since, self._cpu_since = now, cpu


class TimedSteps:
    """A train function of Keras that tells waiting for data, compiling and training apart.

    Given a plain Python iterator, Keras' train function takes single batches from it and runs its
    compiled step on each, so the wait for a batch is seen on its own. The first call compiles.
    Under a strategy the wait cannot be told apart and counts as training.

    Args:
        function: A train function, as `model.make_train_function()` makes it.
        clock: Function that returns the `Clock` of the run going on.
        model: The model.
    """

    def __init__(self, function, clock, model):
        self._function, self._clock = function, clock
        self._split = strategy.is_default(strategy.of(model))
        self._compiled = False

    @classmethod
    def install(cls, model, clock):
        """Time every train function that is made for a model from now on, whoever asks for it.

        Args:
            model: A compiled model without a train function.
            clock: Function that returns the `Clock` of the run going on.
        """
        make = model.make_train_function

        def make_train_function(force=False):
            if model.train_function is None or force:
                make(force=True)
                model.train_function = cls(model.train_function, clock, model)
            return model.train_function

        vars(model)["make_train_function"] = make_train_function  # past Keras' tracking of attributes

    def __call__(self, iterator):
        with self._clock().part("train" if self._compiled else "compile"):
            self._compiled = True
            return self._function(self._batches(iterator) if self._split else iterator)

    def _batches(self, iterator):
        while True:
            with self._clock().part("input"):
                try:
                    batch = next(iterator)
                except (StopIteration, tf.errors.OutOfRangeError):
                    return
            yield batch
