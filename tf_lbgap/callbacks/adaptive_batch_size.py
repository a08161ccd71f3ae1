"""A batch size that follows what is measured while `fit` runs."""

import copy
import difflib
import math
import warnings

from tf_lbgap import gradient_noise
from tf_lbgap.callbacks import learning_rate as rates
from tf_lbgap.callbacks.batch_size_callback import BatchSizeCallback
from tf_lbgap.callbacks.gradient_noise_monitor import TAG
from tf_lbgap.callbacks.ladder import SIZES, next_size
from tf_lbgap.callbacks.mean_loss import MeanLoss
from tf_lbgap.callbacks.monitor import check_whole
from tf_lbgap.callbacks.noise_probe import NoiseProbe, Probe
from tf_lbgap.callbacks.summaries import Summaries, call_when_steps_end
from tf_lbgap.callbacks.top_eigenvalue import TopEigenvalue
from tf_lbgap.data.plan import check_batch_size

PROBES_OF_GAIN = 50
"""Probes that AdaScale's gain is made of, at least: a window of one would make the rate jump with each."""

_FROM_PROBES = {
    "trace",
    "squared_norm",
    "noise_scale",
    "noise_scale_low",
    "noise_scale_high",
    "batch_squared_norm",
    "inner_product_variance",
    "first_trace",
}
_FROM_TRAINING = {
    "loss",
    "losses",
    "top_eigenvalues",
    "learning_rate",
    "momentum",
    "updates",
    "progress",
    "num_examples",
    "first_batch_size",
}


class AdaptiveBatchSize(BatchSizeCallback):
    """Let a criterion choose the batch size during `fit`, from gradients, losses, or curvature.

    Every `every` updates one is run as micro-batches, which tells |G|² and tr(Σ) (see `GradientNoiseMonitor`). When
    `window` of these probes are there, they are averaged, the criterion decides, and a new window begins. A new
    size holds from the next update on (with `steps_per_execution` above 1, from the next execution). A criterion
    that needs no probes decides at the end of each epoch.

    For a criterion that needs `top_eigenvalues`, as `growth.Absa`, the largest eigenvalue of the Hessian of `sample` is
    measured at the end of each epoch, to a hundredth, in recalibrated mode (exact statistics of batch normalization over
    the sample, no Dropout), some 10 products at two to three gradients of the sample each; it is in the logs, as
    `growth_top_eigenvalue`. Training stays as it is, bit for bit. One that did not converge is NaN, with a warning.

    Example:

    ```python
    batches = lb.data.Batches(x, y, batch_size=64, seed=0)
    model.fit(batches, epochs=30, shuffle=False, callbacks=[
        lb.callbacks.AdaptiveBatchSize(batches, lb.growth.GradientNoiseScale(), maximum=4096, learning_rate="adascale"),
    ])
    ```

    Args:
        batches: The `data.Batches` that is given to `fit`; its batch size is the first.
        criterion: One of `growth`, or a function of your own: `criterion(batch_size, measured)` returns a
            `growth.Decision`, from the numbers that its attribute `needs` names.
        minimum: No smaller batch. Defaults to the first one: batches only grow.
        maximum: No larger batch. Defaults to the training set.
        sizes: `"ladder"`: the first size times powers of two, where the size moves when the criterion asks for at
            least twice as much or half as much; or `"any"`.
        learning_rate: How the rate follows the batch, one of `scaling.RATE_RULES`. `"adascale"` takes the gain from
            the last 50 probes, or of the window if that is longer, anew with each window.
        check_rule: Whether to refuse a rule that is known not to hold for the model's optimizer.
        momentum_correction: Whether momentum buffers follow a jump of the rate.
        every: Updates from one probe to the next.
        window: Probes to a decision. 1 decides from a single batch, as the tests of the papers do.
        num_micro_batches: Parts of a probed update.
        probe: `"update"`, or `"separate"` to probe other examples and leave all updates as they are.
        sample: For criteria that need `top_eigenvalues`, and for no others: `(x, y)`, or a list of batches, the examples
            on which curvature is measured; the same ones each time, of the training data and not augmented.
        micro_batch_size: As in `BatchSizeScheduler`.
        ghost_batch_size: As in `BatchSizeScheduler`.
        log_dir: Where to write decisions, the noise scale, and eigenvalues for TensorBoard.
        verbose: 1 prints a line whenever the size changes.

    Attributes:
        history: A row per decision, a dict of plain values: `update`, `progress`, `examples`, `batch_size` (before),
            `wanted`, `new_batch_size`, `reason`, `lag` (updates from the decision to the first one of the new size;
            None until then, or if the size stayed), and the `numbers` it was made from.

    Raises:
        ValueError: If an argument is out of range, or the criterion needs what nobody measures; at the start of `fit`
            if criterion or rule do not hold for the optimizer.
    """

    live = True

    def __init__(
        self,
        batches,
        criterion,
        *,
        minimum=None,
        maximum=None,
        sizes="ladder",
        learning_rate="none",
        check_rule=True,
        momentum_correction=False,
        every=16,
        window=20,
        num_micro_batches=2,
        probe="update",
        sample=None,
        micro_batch_size=None,
        ghost_batch_size=None,
        log_dir=None,
        verbose=0,
    ):
        super().__init__(
            batches,
            learning_rate=learning_rate,
            check_rule=check_rule,
            momentum_correction=momentum_correction,
            micro_batch_size=micro_batch_size,
            ghost_batch_size=ghost_batch_size,
        )
        self._needs = _checked_needs(criterion)
        if sizes not in SIZES:
            raise ValueError(f"sizes={sizes!r} must be 'any' or 'ladder'.")
        if sizes == "ladder" and getattr(criterion, "in_small_steps", False):
            raise ValueError(
                f"{type(criterion).__name__} asks for steps smaller than a rung of the ladder, and the size would never "
                'move. Pass sizes="any".'
            )
        check_whole(1, window=window)
        self.criterion, self.sizes, self.window = criterion, sizes, int(window)
        self._first = batches.batch_size
        most = batches.num_examples
        self.minimum = self._first if minimum is None else check_batch_size(minimum, most, "minimum")
        self.maximum = most if maximum is None else check_batch_size(maximum, most, "maximum")
        if not self.minimum <= self._first <= self.maximum:
            raise ValueError(
                f"The stream's batch_size={self._first} is the first size, but is not from minimum={self.minimum} to "
                f"maximum={self.maximum}. Make it with Batches(..., batch_size={min(max(self._first, self.minimum), self.maximum)})."
            )
        self._decides_by_epoch = not self._needs & _FROM_PROBES
        self._probe = None
        if self._needs & _FROM_PROBES or learning_rate == "adascale":
            self._probe = NoiseProbe(
                batches,
                every=every,
                num_micro_batches=num_micro_batches,
                probe=probe,
                inner_products="inner_product_variance" in self._needs,
            )
        self._curvature = _curvature(criterion, "top_eigenvalues" in self._needs, sample, log_dir)
        self.log_dir, self._tells = log_dir, bool(verbose)
        self.history, self._summaries, self._loss = [], None, MeanLoss()
        self._window, self._recent, self._pending = [], [], None
        self._wanted = self._first  # without the maximum
        self._noise = {}  # trace and squared norm of the last probes, for AdaScale
        self._decisive = {}  # what the first decision was made from
        self._losses = []  # of the epochs since the size moved
        self._top_eigenvalues = []  # of all epochs at whose end there was something to decide

    def reference_batch_size(self):
        return self._first

    def wanted_batch_size(self, size):
        return self._wanted if size == self.maximum else size

    def largest_batch_size(self):
        return self.maximum

    def noise(self):
        return self._noise

    def get_state(self):
        """Return what, beside weights and optimizer, a later `fit` needs to go on: a dict of plain values and arrays."""
        return {
            **super().get_state(),
            "wanted": self._wanted,
            "noise": dict(self._noise),
            "decisive": dict(self._decisive),
            "losses": list(self._losses),
            "top_eigenvalues": list(self._top_eigenvalues),
            "curvature": self._curvature.get_state() if self._curvature else None,
            "history": copy.deepcopy(self.history),
            "window": [probe._asdict() for probe in self._window],
            "recent": [probe._asdict() for probe in self._recent],
            "pending": self._place_of_pending(),
            "is_owed": self._probe is not None and self._probe.is_owed,
            "loss": self._loss.get_state(),
        }

    def set_state(self, state):
        """Go on from `get_state()`: restore weights, optimizer and metrics, then `fit(initial_epoch=state["epoch"])`."""
        super().set_state(state)
        self._wanted, self._noise = state["wanted"], dict(state["noise"])
        self._decisive, self._losses = dict(state["decisive"]), list(state["losses"])
        self._top_eigenvalues = list(state.get("top_eigenvalues", []))
        self.history = copy.deepcopy(state["history"])

    def _place_of_pending(self):
        if self._pending is None:
            return None
        return [next(i for i, row in enumerate(self.history) if row is self._pending), self._waited]

    def _take_up(self, state):
        """Go on with the windows of probes, and with a size that has not come yet."""
        self._window, self._recent = ([Probe(**row) for row in state[key]] for key in ("window", "recent"))
        if state["pending"] is not None:
            place, self._waited = state["pending"]
            self._pending = self.history[place]
        if self._probe is not None:
            self._probe.is_owed = state["is_owed"]
        if self._curvature is not None and state.get("curvature"):
            self._curvature.set_state(state["curvature"])
        self._loss.set_state(state["loss"])

    # Hooks.

    def set_model(self, model):
        super().set_model(model)
        if self._curvature is not None:
            self._curvature.set_model(model)

    def set_params(self, params):
        super().set_params(params)
        if self._curvature is not None:
            self._curvature.set_params(params)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        check = getattr(self.criterion, "check_optimizer", None)
        if check is not None:
            check(*rates.kind_of(self.model.optimizer))
        if self._probe is not None:
            self._probe.begin_fit(self.model, type(self).__name__)
        if self._curvature is not None:
            self._curvature.on_train_begin()
        if self.log_dir is not None:
            self._summaries = Summaries(self.log_dir, self.model)
            call_when_steps_end(self._summaries.flush)
        self._window, self._recent, self._pending = [], [], None
        self._loss = MeanLoss()

    def on_epoch_begin(self, epoch, logs=None):
        state = self._restored
        super().on_epoch_begin(epoch, logs)
        if state is not None:
            self._take_up(state)
        if state is None or not state["examples"]:
            self._loss.begin_epoch(self._end)
        if self._probe is not None:
            self._probe.begin_epoch()
        if self._curvature is not None:
            self._curvature.on_epoch_begin(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        if self._probe is not None:
            self._probe.begin_execution(batch)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        probe = self._probe.end_execution() if self._probe is not None else None
        if probe is None:
            return
        self._window = [*self._window, probe][-self.window :]
        self._recent = [*self._recent, probe][-max(self.window, PROBES_OF_GAIN) :]
        if len(self._window) < self.window:
            return
        if self._decides_by_epoch or self._nothing_is_left():
            self._noise = _mean_noise(self._recent)
        else:
            self._decide(_loss_of(logs))

    def on_epoch_end(self, epoch, logs=None):
        loss = _loss_of(logs)
        self._losses.append(loss)
        self._loss.end_epoch(loss, self._end)
        logs = {} if logs is None else logs
        if self._curvature is not None:
            self._measure_curvature(epoch, logs)
        super().on_epoch_end(epoch, logs)
        if self._pending is not None:  # it may have come too late to drop the rest of the epoch
            self.batches.batch_size = self._pending["new_batch_size"]
        if self._decides_by_epoch and not self._nothing_is_left():
            self._decide(loss)
        if self._summaries is not None:
            self._summaries.flush()

    def on_train_end(self, logs=None):
        if self._probe is not None:
            self._probe.end_fit()
        if self._curvature is not None:
            self._curvature.on_train_end()
        super().on_train_end(logs)
        if not self.history and self._probe is not None:
            warnings.warn(
                f"AdaptiveBatchSize made no decision: after {self._updates_made()} updates there are {len(self._window)} probes, "
                f"one every {self._probe.every}, and a decision takes {self.window}. Pass a smaller every= or window=.",
                stacklevel=2,
            )
        if self._summaries is not None:
            self._summaries.close()
            self._summaries = None

    def note_update(self, size):
        row = self._pending
        if row is None:
            return
        is_tail = self._end == self.batches.end_of_epoch and size < row["new_batch_size"]
        if size == row["new_batch_size"] or is_tail:
            row["lag"], self._pending = self._waited, None
        self._waited += 1

    # A decision.

    def _nothing_is_left(self):
        """Whether the batch is at the maximum, and the criterion has nothing to decide there."""
        most = self.batches.shared_equally(self.maximum)
        return getattr(self.criterion, "ends_at_maximum", False) and self.batches.batch_size >= most

    def _measure_curvature(self, epoch, logs):
        if self._nothing_is_left():
            self._curvature.skip_epoch_end(logs)
        else:
            self._top_eigenvalues.append(self._curvature.at_epoch_end(epoch, logs))

    def _decide(self, loss):
        size, measured = self.batches.batch_size, self._measured(loss)
        multiplies = getattr(self.criterion, "multiplies", False)
        given = self.wanted_batch_size(size) if multiplies else size
        decision = self._decision(given, measured)
        wanted = next_size(decision.batch_size, given, self._first, self.sizes)
        new = self.batches.shared_equally(min(max(wanted, self.minimum), self.maximum))
        # A criterion that is content at the maximum has not taken back what it wanted on the way there.
        before, self._wanted = self._wanted, max(wanted, self._wanted) if new == self.maximum else new
        if new != size or (multiplies and self._wanted != before):
            self._losses = []
        row = {
            "update": self._updates_made(),
            "progress": float(self.batches.progress),
            "examples": int(self._examples),
            "batch_size": size,
            "wanted": decision.batch_size,
            "new_batch_size": new,
            "reason": decision.reason,
            "lag": None,
            "numbers": dict(decision.numbers),
        }
        self.history.append(row)
        if not self._decides_by_epoch:
            self._window = []
        self._loss.restart(loss, self._end)
        self._write(row, measured)
        if new != size:
            self._move(row)

    def _decision(self, size, measured):
        decision = self.criterion(size, measured)
        if not all(hasattr(decision, name) for name in ("batch_size", "reason", "numbers")):
            raise ValueError(
                f"criterion {self.criterion!r} returned {decision!r}, but should return lb.growth.Decision(batch_size, "
                "reason, numbers)."
            )
        return decision

    def _move(self, row):
        self._pending, self._waited = row, 0
        if self._tells:
            print(
                f"\nUpdate {row['update']}: AdaptiveBatchSize setting the batch size to {row['new_batch_size']}. {row['reason']}"
            )
        self.batches.batch_size = row["new_batch_size"]

    def _measured(self, loss):
        optimizer = self.model.optimizer
        measured = {
            "loss": self._loss.value(loss, self._end),
            "losses": tuple(self._losses),
            "top_eigenvalues": tuple(self._top_eigenvalues),
            "learning_rate": rates.used_rate(optimizer, self.batches, self.params),
            "momentum": rates.momentum_of(optimizer),
            "progress": float(self.batches.progress),
            "num_examples": self.batches.num_examples,
            "first_batch_size": self._first,
        }
        if self._window:
            measured |= self._from_probes()
            self._noise = _mean_noise(self._recent)
        self._decisive = self._decisive or {
            "updates": self._updates_made(),
            "first_trace": measured.get("trace"),
        }
        measured["updates"] = self._updates_made() - self._decisive["updates"]
        measured["first_trace"] = self._decisive["first_trace"]
        return measured

    def _from_probes(self):
        probes = self._window
        scale = gradient_noise.noise_scale([p.trace for p in probes], [p.squared_norm for p in probes])
        products = [p.inner_product_variance for p in probes if p.inner_product_variance is not None]
        return {
            "trace": scale.trace,
            "squared_norm": scale.squared_norm,
            "noise_scale": scale.value,
            "noise_scale_low": scale.low,
            "noise_scale_high": scale.high,
            "batch_squared_norm": math.fsum(p.batch_squared_norm for p in probes) / len(probes),
            "inner_product_variance": math.fsum(products) / len(products) if products else math.nan,
        }

    def _updates_made(self):
        return int(self.model.optimizer.iterations.numpy())

    def _write(self, row, measured):
        if self._summaries is None:
            return
        writer, update = self._summaries.writer, row["update"]
        writer.scalar("schedule/wanted_batch_size", row["wanted"], update, unit="examples")
        for suffix in ("", "_low", "_high"):
            if f"noise_scale{suffix}" in measured:
                value = measured[f"noise_scale{suffix}"]
                writer.scalar(f"{TAG}{suffix}", value, update, unit="examples")
        self._summaries.flush_if_due()


def _mean_noise(probes):
    count = len(probes)
    trace, squared_norm = sum(p.trace for p in probes) / count, sum(p.squared_norm for p in probes) / count
    return {"trace": max(trace, 0.0), "squared_norm": max(squared_norm, 0.0)}


def _loss_of(logs):
    return float((logs or {}).get("loss", math.nan))


def _checked_needs(criterion):
    needs = getattr(criterion, "needs", None)
    if isinstance(criterion, type):
        raise ValueError(f"criterion={criterion.__name__} is a class. Make one: {criterion.__name__}().")
    if not callable(criterion) or needs is None:
        raise ValueError(
            f"criterion={criterion!r} should be one of lb.growth, such as lb.growth.GradientNoiseScale(), or a function "
            "criterion(batch_size, measured) with an attribute needs, the names that it takes from `measured`."
        )
    unknown = set(needs) - _FROM_PROBES - _FROM_TRAINING
    if unknown:
        name = sorted(unknown)[0]
        raise ValueError(
            f"criterion {criterion!r} needs {name!r}, which AdaptiveBatchSize does not measure. "
            f"{_nearest(name, _FROM_PROBES | _FROM_TRAINING)}"
        )
    return set(needs)


def _curvature(criterion, is_needed, sample, log_dir):
    """What measures curvature, or None if nobody asks for it."""
    name = getattr(criterion, "__name__", type(criterion).__name__)
    if not is_needed:
        if sample is not None:
            raise ValueError(
                f"sample= was given, but {name} does not need top_eigenvalues, for which it is. Leave it out."
            )
        return None
    if sample is None:
        raise ValueError(
            f"{name} needs top_eigenvalues, which are measured on a sample of the training data: pass "
            "sample=(x[:128], y[:128])."
        )
    if hasattr(sample, "shape"):
        raise ValueError(
            f"sample is an array of shape {tuple(sample.shape)}, but curvature needs targets, too: pass "
            "sample=(x[:128], y[:128])."
        )
    return TopEigenvalue(sample, log_dir)


def _nearest(name, known):
    close = difflib.get_close_matches(str(name), known, 1)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(sorted(known))}."
