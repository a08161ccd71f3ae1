"""What the callbacks that measure share: when, on which examples, at what cost, and where the numbers go.

Measuring leaves training as it is, bit for bit: weights, statistics, optimizer, metrics, seeds.
"""

import copy
import math
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

from tf_lbgap.callbacks import sample
from tf_lbgap.callbacks.cadence import Budget, Epochs, cadence_of
from tf_lbgap.callbacks.described import described, name_of_loss
from tf_lbgap.callbacks.stream import fit_arguments
from tf_lbgap.callbacks.summaries import Summaries, call_when_steps_end
from tf_lbgap.curvature import LossSurface
from tf_lbgap.curvature.modes import checked_mode
from tf_lbgap.data.keras_calls import callbacks_of


class Monitor(keras.callbacks.Callback):
    """Base of the callbacks that measure; subclasses say what.

    Args:
        batches: The sample measured on: a tuple `(x, y)` is one batch, a list or another iterable yields
            batches, `data.Batches` is read in storage order.
        loss: What is measured. Defaults to the loss that the model was compiled with.
        every: When: see `cadence.cadence_of`.
        max_overhead: Share of the run's time that measuring may take, instead of `every`.
        subsets: Number of disjoint parts of the sample that are measured one by one.
        batch_normalization: As for `curvature.HessianOperator`.
        log_dir: Where to write summaries for TensorBoard.
        at_start: Whether to measure before the first update of a fit, too.
        prefix: Put before the names in the logs and the tags, so that two monitors of one kind do not clash.
        measured: More on what is measured, for captions: a dict such as `{"data": "digits"}`.
        **options: `regularization`, `variables`, `loss_weights`, `chunk_size`.

    Attributes:
        history: A row, a dict of plain values, per measurement, over all fits.
        tracing_seconds: What compiling the measures took, once.
        seconds: What measuring took without that.
    """

    def __init__(
        self,
        batches,
        loss=None,
        *,
        every="epoch",
        max_overhead=None,
        subsets=1,
        batch_normalization="recalibrated",
        log_dir=None,
        at_start=False,
        prefix="",
        measured=None,
        **options,
    ):
        super().__init__()
        unknown = set(options) - {"regularization", "variables", "loss_weights", "chunk_size"}
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no argument {sorted(unknown)[0]!r}; beside its own it takes regularization, "
                "variables, loss_weights and chunk_size."
            )
        check_whole(1, subsets=subsets)
        self.batches, self.loss = sample.readable_again(batches), loss
        self.subsets, self.batch_normalization = int(subsets), checked_mode(batch_normalization)
        self.log_dir, self.at_start, self.prefix, self.options = log_dir, at_start, prefix, options
        self.measured = dict(measured or {})
        self._cadence = cadence_of(every, max_overhead)
        self.history, self.seconds, self.tracing_seconds = [], 0.0, 0.0
        self._subject = self._parts = self._summaries = None

    # Subclasses.

    def names(self):
        """Return the names of the scalars, without prefix."""
        raise NotImplementedError

    def _make(self, batches):
        """Return what measures `self.model` on batches, and takes other batches at its attribute `batches`."""
        raise NotImplementedError

    def _trace(self):
        """Compile what a measurement needs; the sample's first part is set."""

    def _measure(self, parts):
        """Return a row of plain values, and scalars by the names of `names()`; NaN for what is not to be trusted.

        Args:
            parts: Iterator which sets one part after the other and yields its index.
        """
        raise NotImplementedError

    def _unmeasured(self):
        """Return the row of weights that are not finite."""
        raise NotImplementedError

    def _write_more(self, writer, row, named, measured):
        """Write what is not a scalar.

        Args:
            writer: A `tb_plugin.writer.Writer`.
            row: A row of the history.
            named: Function from the last part of a tag to that with the prefix.
            measured: What was measured, a dict.
        """

    def _description(self):
        """Return what was measured, a dict of plain values."""
        return {}

    def _unit(self, name):
        """Return the unit of a scalar, empty if it has none."""
        return ""

    # What a user asks.

    @property
    def cadence(self):
        """When it measures, as `every=` takes it for other runs: a dict of plain numbers.

        Within a budget it is None until the first measurement, and final once the line with it was printed.
        If `every` is a function, that function.
        """
        return self._cadence.plain()

    @property
    def is_within_budget(self):
        """Whether `max_overhead` says when to measure."""
        return isinstance(self._cadence, Budget)

    @property
    def _is_calibrating(self):
        return self.is_within_budget and not self._cadence.is_frozen

    def __deepcopy__(self, memo):
        """A monitor of the same sample and settings; what belongs to a model stays with this one."""
        twin = copy.copy(self)
        twin._cadence, twin.history = copy.deepcopy((self._cadence, self.history), memo)
        twin._subject = twin._parts = twin._summaries = twin._model = None
        return twin

    # State.

    def get_state(self):
        """Return what it has found, plain values and arrays, for `Checkpoint`."""
        return {
            "history": copy.deepcopy(self.history),
            "latest": dict(self._latest),
            "seconds": [self.seconds, self.tracing_seconds],
            "cadence": self._cadence.get_state(),
            "steps": [self._first, self._first_epoch, self._steps, self._learned_steps],
            "starts": self._starts_of_searches(),
        }

    def set_state(self, state):
        """Go on from `get_state()`, in a `fit` that has just begun."""
        self.history = copy.deepcopy(state["history"])
        self.seconds, self.tracing_seconds = state["seconds"]
        self._cadence.set_state(state["cadence"])
        self._restored = state

    def _starts_of_searches(self):
        """Return what the next measurement begins from, plain values and arrays."""
        return

    def _take_starts(self, starts):
        """Begin the next measurement from there."""

    # Hooks.

    def on_train_begin(self, logs=None):
        self._check_names()
        self._set_up()
        if self.log_dir is not None and self._summaries is None:
            self._summaries = Summaries(self.log_dir, self.model)
        if self._summaries is not None:
            call_when_steps_end(self._summaries.flush)
        self._last = None
        self._began = self._restored = None
        self._warned = set()
        self._learned_steps = None
        if self.is_within_budget:
            self._cadence.begin_fit()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._steps = epoch, 0
        if self._restored is not None:
            self._take_up(self._restored)
            return
        if self._last is None:
            self._last = self._first = self._update()
            self._first_epoch = epoch
            if self.at_start:
                self._take(float(epoch))
        self._latest = dict.fromkeys(self.names(), math.nan)

    def on_train_batch_begin(self, batch, logs=None):
        if self._is_calibrating:
            self._began = self._clock()

    def on_train_batch_end(self, batch, logs=None):
        self._steps = batch + 1
        if isinstance(self._cadence, Epochs):
            return  # reading the number of updates costs some 0.1 ms
        update = self._update()
        if self._is_calibrating and self._began is not None:
            self._cadence.note_training(self._clock() - self._began, update - self._last)
        progress = self._progress()
        if self._cadence.at_update(self._last, update, progress):
            self._take(progress)
        self._last = update

    def on_epoch_end(self, epoch, logs=None):
        self._learned_steps = self._steps
        if self._cadence.at_epoch_end(epoch):
            self._take(epoch + 1.0)
        if logs is not None:
            logs.update({self.prefix + key: value for key, value in self._latest.items()})
        if self._summaries is not None:
            self._summaries.flush()

    def on_train_end(self, logs=None):
        if self._summaries is not None:
            self._summaries.close()
            self._summaries = None

    def _take_up(self, state):
        self._restored, self._last = None, self._update()
        self._first, self._first_epoch, self._steps, self._learned_steps = state["steps"]
        self._latest = dict.fromkeys(self.names(), math.nan) | state["latest"]
        self._take_starts(state["starts"])

    # A measurement.

    def _take(self, progress):
        update = self._update()
        row = {"update": update, "epoch": self._epoch, "progress": progress}
        seconds, reason = None, "The weights are not finite: training has diverged."
        if self._is_finite():
            try:
                measured, scalars, seconds = self._timed()
            except ValueError as error:
                # What could be measured before cannot be of the wrong kind: it is the numbers. Training goes on.
                if not self._has_measured and not self._has_diverged():
                    raise
                reason = str(error)
        if seconds is None:
            self._warn_once(
                "diverged", f"at update {update} nothing could be measured, so NaN is logged. {reason}"
            )
            measured, scalars = self._unmeasured(), dict.fromkeys(self.names(), math.nan)
        row |= {
            "seconds": seconds or 0.0,
            "examples": self._num_examples,
            "subsets": self.subsets,
            "batch_normalization": self.batch_normalization,
            **measured,
        }
        self.history.append(row)
        self._latest = scalars
        if seconds is not None:
            self._has_measured = True
            self.seconds += seconds
            self._note_cost(update, row)
        self._write(row, scalars)

    def _timed(self):
        start = self._clock()
        if not self._is_traced:
            self._select(0)
            self._trace()
            self._is_traced = True
            self.tracing_seconds += self._clock() - start
            start = self._clock()
        row, scalars = self._measure(self._each_part())
        return row, scalars, self._clock() - start

    def _each_part(self):
        for index in range(self.subsets):
            self._select(index)
            yield index

    def _select(self, index):
        if self.subsets > 1:
            self._subject.batches = self._parts[index]

    def _is_finite(self):
        return all(np.isfinite(v.numpy()).all() for v in self.model.trainable_variables)

    def _has_diverged(self):
        """Whether the loss of the sample is infinite or NaN, although the weights are finite."""
        _, loss, _ = self._wanted
        part = self._parts[0] if self._parts else self.batches
        try:
            surface = LossSurface(self.model, loss, part)
            return not math.isfinite(surface.value(surface.weights()))
        except ValueError:
            return False

    def _write(self, row, scalars):
        if self._summaries is None:
            return
        if self._measured is None:
            self._measured = self._all_described()
        writer, update = self._summaries.writer, row["update"]
        for name, value in scalars.items():
            tag = f"sharpness/{self.prefix}{name}"
            writer.scalar(tag, value, update, unit=self._unit(name), measured=self._measured)
        self._write_more(writer, row, lambda last: self.prefix + last, self._measured)
        self._summaries.flush_if_due()

    def _all_described(self):
        """What was measured, for captions; a tag keeps that of its first measurement."""
        return {
            **described(self.model),
            "loss": name_of_loss(self._wanted[1]),
            "examples": self._num_examples,
            "subsets": self.subsets,
            "batch_normalization": self.batch_normalization,
            **self._description(),
            **self.measured,
        }

    # Cost.

    def _note_cost(self, update, row):
        budget = self._cadence
        if not self._is_calibrating:
            return
        known = budget.updates is not None
        budget.note_measurement(update, row["seconds"], self._products_to_cap(row))
        if budget.updates is None:
            return
        total = self._updates_of_fit(row["progress"])
        count = budget.updates.count(total) - budget.updates.count(self._first) if total else math.inf
        if budget.is_frozen:
            self._tell(row)
        if count < 3 and (budget.is_frozen or (not known and count < 2)):
            warnings.warn(
                f"max_overhead={budget.share:g} leaves room for {max(count, 1):.0f} measurement(s) in the {total - self._first} "
                f"updates of this fit: one takes {row['seconds']:.3g} s, an update {budget.seconds_per_update():.3g} s. Pass a "
                "larger max_overhead, a smaller sample, or every=.",
                stacklevel=2,
            )

    def _tell(self, row):
        budget = self._cadence
        products = row.get("products")
        cost = f"{row['seconds']:.3g} s" + (f" and {products} products" if products else "")
        most = budget.max_products
        cap = f" (at most {most} products per eigenvalue problem)" if most else ""
        print(
            f"{type(self).__name__}: from now on every {budget.updates.number} updates, at {cost} each{cap}; an update takes "
            f"{budget.seconds_per_update():.3g} s, tracing took {self.tracing_seconds:.3g} s. "
            f"Other runs measure at the same updates with every={self.cadence}."
        )

    def _products_to_cap(self, row):
        """The most products that one eigenvalue problem of a measurement took, or None where none are counted."""
        return

    def _updates_of_fit(self, progress):
        """What `optimizer.iterations` will be at the end of this fit, as far as the run so far tells; or None."""
        epochs, done = self.params.get("epochs"), progress - self._first_epoch
        if not epochs or not done > 0:
            return None
        return self._first + round((self._update() - self._first) / done * (epochs - self._first_epoch))

    @staticmethod
    def _clock():
        """Seconds: of the process on a CPU, where other processes take turns; of the wall with an accelerator."""
        return time.perf_counter() if tf.config.list_logical_devices("GPU") else time.process_time()

    # Where training is.

    def _update(self):
        return int(self.model.optimizer.iterations.numpy())

    def _progress(self):
        """Epochs so far, with the part of the running one where its number of updates can be known."""
        stream = self._stream()
        if stream is not None and stream.is_steered:
            return float(stream.progress)
        steps = self.params.get("steps") or self._learned_steps
        return self._epoch + min(self._steps / steps, 1.0) if steps else float(self._epoch)

    def _stream(self):
        """The `data.Batches` that `fit` reads, or None."""
        return self._read if hasattr(self._read, "is_steered") else None

    # Before training.

    def _check_names(self):
        arguments = fit_arguments() or {}
        self._read = arguments.get("x")
        ours = {self.prefix + key for key in self.names()}
        for other in callbacks_of(arguments):
            if isinstance(other, Monitor) and other is not self:
                common = sorted(ours & {other.prefix + key for key in other.names()})
                if common:
                    raise ValueError(
                        f"Two monitors would log {common[0]!r}. Tell them apart with prefix=, such as "
                        f'{type(self).__name__}(..., prefix="test_").'
                    )

    def _set_up(self):
        """Make what measures, unless it is there for this model, its loss and its trainable weights."""
        loss, options = self.loss, dict(self.options)
        if loss is None:
            loss = self.model.loss
            if loss is None:
                raise ValueError(
                    f"{type(self).__name__} has no loss to measure: the model was compiled without one. Pass loss=."
                )
            if isinstance(loss, (list, tuple, dict)) and "loss_weights" not in options:
                options["loss_weights"] = (self.model.get_compile_config() or {}).get("loss_weights")
        wanted = (self.model, loss, [id(v) for v in self.model.trainable_variables])
        if self._subject is not None and all(
            a is b or (i == 2 and a == b) for i, (a, b) in enumerate(zip(wanted, self._wanted, strict=True))
        ):
            return
        if self.subsets > 1:
            self._parts = sample.disjoint_parts(self.batches, self.subsets)
            self._num_examples = sum(sample.num_examples(part) for part in self._parts)
        else:
            self._num_examples = sample.num_examples(self.batches)
        self._subject = self._make(loss, self._parts[0] if self._parts else self.batches, options)
        self._wanted, self._is_traced, self._has_measured, self._measured = wanted, False, False, None

    def _warn_once(self, key, message):
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(f"{type(self).__name__}: {message}", stacklevel=2)


def check_whole(least, **numbers):
    """Raise unless all the arguments are whole numbers of at least `least`."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
            raise ValueError(f"{name}={value!r} should be a whole number of at least {least}.")


def mean_and_spread(values):
    """Return mean and standard deviation (n - 1) over the first axis; of one row NaN."""
    values = np.asarray(values, "float64")
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], math.nan)
    return values.mean(axis=0), spread
