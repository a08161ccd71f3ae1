"""A batch size that follows a schedule, or the user's own hand, while `fit` runs."""

import math
import numbers

from tf_lbgap import schedules
from tf_lbgap.callbacks.batch_size_callback import BatchSizeCallback
from tf_lbgap.data.plan import check_batch_size, cut


class BatchSizeScheduler(BatchSizeCallback):
    """Change the batch size during `fit`, by epoch or in the middle of one.

    Use it to grow the batch instead of decaying the rate (Smith et al. 2018), or with
    `schedule=None` to set `batches.batch_size` from a callback of your own: the new size then holds
    from the next update (with `steps_per_execution` above 1, from the next execution).

    Example:

    ```python
    batches = lb.data.Batches(x, y, batch_size=128, seed=0)
    growth = lb.schedules.staircase(128, factor=5, milestones=[60, 120, 160])
    model.fit(batches, epochs=200, shuffle=False, callbacks=[
        lb.callbacks.BatchSizeScheduler(batches, growth, maximum=5120),
    ])
    ```

    Args:
        batches: The `data.Batches` that is given to `fit`.
        schedule: Function progress -> batch size, with progress in epochs; rounded to the nearest
            whole number. See `schedules`. None leaves the size to `batches.batch_size`.
        maximum: The schedule is capped here. Defaults to `None`: a schedule that asks for more than
            the training set is an error.
        multiple_of: Sizes are rounded down to a multiple of this number.
        sizes: `"any"`, or `"ladder"` to use only the first size times powers of two, so that a
            compiler sees few shapes.
        learning_rate: How the rate follows the batch: `"none"`; `"linear"` (Goyal et al. 2017, for SGD);
            `"sqrt"` (for Adam); `"smith"` and `"seesaw"`, where the batch grows in place of a decay of the rate,
            which takes what `maximum` keeps the batch from taking; `"merrill"`. See `scaling.rate_factor`.
        check_rule: Whether to refuse a rule that is known not to hold for the model's optimizer, such as `"sqrt"`
            for SGD.
        momentum_correction: Whether momentum buffers follow a jump of the rate.
        micro_batch_size: Most examples of a forward pass, on each replica; larger batches are accumulated from
            several. `"auto"` finds by trying what fits into memory. Defaults to `None`: no limit.
        ghost_batch_size: Examples that batch normalization sees at a time, on each replica, whatever the batch, so
            that its noise stays as the batch grows (Hoffer et al. 2017; Smith et al. 2018 hold it fixed). Larger
            batches are accumulated from parts of that size. Its moving averages move once per part.
        static_shapes: Whether each batch is made of micro-batches of exactly `micro_batch_size` (on each replica), of which
            there are more as it grows: XLA then compiles one shape, whatever the batch, and a TPU needs that. Sizes are rounded
            down to multiples of it, and what would not fill one is left out of an epoch.

    Raises:
        ValueError: If the schedule asks for something that is no batch size, when it does; at the start of `fit` if
            the rule does not hold for the optimizer, or updates of the model cannot be accumulated.

    References:
        Smith, Kindermans, Ying, Le, "Don't decay the learning rate, increase the batch size", 2018.
    """

    def __init__(
        self,
        batches,
        schedule=None,
        *,
        maximum=None,
        multiple_of=1,
        sizes="any",
        learning_rate="none",
        check_rule=True,
        momentum_correction=False,
        micro_batch_size=None,
        ghost_batch_size=None,
        static_shapes=False,
    ):
        if schedule is not None and not callable(schedule):
            raise ValueError(
                f"schedule={schedule!r} must be a function of progress: lb.schedules.constant({schedule!r}), or another."
            )
        if sizes not in ("any", "ladder"):
            raise ValueError(f"sizes={sizes!r} must be 'any' or 'ladder'.")
        if learning_rate == "adascale":
            raise ValueError(
                'learning_rate="adascale" needs the gradient noise, which a schedule does not measure. Use '
                'AdaptiveBatchSize(..., learning_rate="adascale"), or "linear".'
            )
        super().__init__(
            batches,
            learning_rate=learning_rate,
            check_rule=check_rule,
            momentum_correction=momentum_correction,
            micro_batch_size=micro_batch_size,
            ghost_batch_size=ghost_batch_size,
            static_shapes=static_shapes,
        )
        if static_shapes and schedule is None:
            raise ValueError(
                "static_shapes=True needs a schedule: sizes set by hand are not cut into static micro-batches."
            )
        self.schedule, self.sizes = schedule, sizes
        self.multiple_of = check_batch_size(multiple_of, batches.num_examples, "multiple_of")
        self.maximum = None if maximum is None else check_batch_size(maximum, batches.num_examples, "maximum")
        self.live = schedule is None
        self._first = batches.batch_size if self.live else self._whole(0.0)
        self._reference = self._first if self.live else self.size_at(0.0)

    def get_config(self):
        """Return the arguments but `batches`, with the schedule as `schedules.from_config` reads it."""
        return {
            "schedule": None if self.schedule is None else schedules.get_config(self.schedule),
            "maximum": self.maximum,
            "multiple_of": self.multiple_of,
            "sizes": self.sizes,
            "learning_rate": self.learning_rate,
            "check_rule": self.check_rule,
            "momentum_correction": self.momentum_correction,
            "micro_batch_size": self.micro_batches.micro_batch_size,
            "ghost_batch_size": self.micro_batches.ghost_batch_size,
            "static_shapes": self.static_shapes,
        }

    @classmethod
    def from_config(cls, config, batches):
        """Make the callback of `get_config()` for a stream."""
        schedule = config["schedule"]
        return cls(batches, **{**config, "schedule": schedule and schedules.from_config(schedule)})

    def reference_batch_size(self):
        return self._reference

    def wanted_batch_size(self, size):
        if self.live or self.maximum is None:
            return size
        return max(float(self.schedule(self.batches.progress)), size)

    def largest_batch_size(self):
        if self.live:
            return self.maximum or self.batches.num_examples
        epochs = range(self.params["epochs"])[:1000]  # a fit without end is looked at so far
        return max(int(self.plan(epoch, 0)[1].max(initial=1)) for epoch in epochs)

    def size_at(self, progress):
        """Return the batch size at `progress` epochs, an int."""
        size = self._whole(progress)
        if self.sizes == "ladder":
            # +1e-9: 2 ** 3 must not fall to the rung below it by rounding
            size = int(self._first * 2.0 ** math.floor(math.log2(size / self._first) + 1e-9))
        if size < self.multiple_of:
            raise ValueError(
                f"multiple_of={self.multiple_of} is above the batch of {size} that the schedule asks for at progress "
                f"{progress:g}. Lower it, or begin with a larger batch."
            )
        size -= size % self.multiple_of
        return check_batch_size(size, self.batches.num_examples, f"At progress {progress:g}, batch size")

    def _whole(self, progress):
        size = self.schedule(progress)
        asked = f"The schedule asked for a batch of {size!r} at progress {progress:g}, but"
        if isinstance(size, bool) or (
            not isinstance(size, numbers.Real) and getattr(size, "shape", None) != ()
        ):
            raise ValueError(f"{asked} a batch size is a number.")
        size = float(size)
        if self.maximum is not None:
            size = min(size, self.maximum)
        most = self.batches.num_examples
        if not 0.5 <= size < most + 0.5:  # NaN fails, too
            raise ValueError(
                f"{asked} a batch is a whole number from 1 to {most}, the size of the training set. "
                f"Pass maximum={most} to BatchSizeScheduler, or change the schedule."
            )
        return round(size)

    def plan(self, epoch, start):
        most = self.batches.num_examples
        return cut(
            most,
            lambda at: self.size_at(epoch + at / most),
            start=start,
            last_batch=self.batches.last_batch,
            multiple_of=self.batches.multiple_of,
        )

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.model.jit_compile and not self.live and not self.static_shapes and self.verbose:
            shapes = set()
            for epoch in range(min(self.params["epochs"], 1000)):  # a fit without end plans no further
                boundaries, _ = self.plan(epoch, 0)
                shapes.update((boundaries[1:] - boundaries[:-1]).tolist())
            print(f"BatchSizeScheduler: XLA will compile {len(shapes)} batch shapes: {sorted(shapes)}.")
