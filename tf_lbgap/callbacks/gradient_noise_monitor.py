"""The gradient noise scale while `fit` runs: which batch is large enough to drown the noise?"""

import copy
import math
import warnings

import keras
import numpy as np

from tf_lbgap import gradient_noise
from tf_lbgap.callbacks.described import described
from tf_lbgap.callbacks.monitor import check_whole
from tf_lbgap.callbacks.noise_probe import NoiseProbe, Probe
from tf_lbgap.callbacks.separate_gradients import options_of
from tf_lbgap.callbacks.stream import check_batches, check_read
from tf_lbgap.callbacks.summaries import Summaries, call_when_steps_end
from tf_lbgap.sharpness import Subject

TAG = "schedule/gradient_noise_scale"
MICRO_BATCHES_WITH_HESSIAN = 16  # each costs a Hessian product over the sample


class GradientNoiseMonitor(keras.callbacks.Callback):
    """Estimate tr(Σ) / |G|², the gradient noise scale, during `fit`, with a 95 % interval.

    Σ is the covariance of the gradient of single examples, G the gradient over the training set: a batch of
    B examples has a gradient of squared error tr(Σ) / B. Far below the noise scale B examples say B times as much as
    one; far above, they say the same again (McCandlish et al. 2018). In examples.

    Every `every` updates one is run as micro-batches: the squared norms of their gradients and of their
    mean give unbiased tr(Σ) and |G|². Both are averaged over the last `window` probes, and only then divided; the
    interval is that of `gradient_noise.noise_scale`. Early in training |G|² falls fast, and an average over it
    describes no moment: the first `burn_in` probes of a model that was not trained before are left out.

    Where there is BatchNormalization or Dropout, an update run as micro-batches differs from a plain one; the
    monitor says so. `probe="separate"` draws examples of its own instead, without `map`, measures in inference mode, and
    leaves training as it is, bit for bit. A probe of two micro-batches costs up to one more update, where updates are short:
    2 % of `fit` at `every=50`. Regularization of the loss is part of G.

    Into the logs at the end of an epoch come `gradient_noise_scale` and `gradient_noise_scale_low` and `_high`, NaN
    before there are enough probes, infinite where the data are compatible with |G|² = 0.

    Example:

    ```python
    monitor = lb.callbacks.GradientNoiseMonitor(batches, every=16)
    model.fit(batches, epochs=30, shuffle=False, callbacks=[monitor])
    monitor.history[-1]["noise_scale"], monitor.history[-1]["noise_scale_low"]
    ```

    Args:
        batches: The `data.Batches` that is given to `fit`.
        every: Updates from one probe to the next. With `steps_per_execution` above 1 the last update of an
            execution is the one probed.
        window: Probes that an estimate is made of. There is one whenever so many are new, and at the end of an epoch.
        burn_in: Probes that are left out at the beginning of training, of a model whose optimizer made no update yet.
        num_micro_batches: Parts of a probed update. Batches that are accumulated anyway keep their micro-batches.
        probe: `"update"` or `"separate"`.
        per_layer: Whether rows of the history tell `layers`, too, a dict from the path of a layer to its own estimate.
        hessian: Whether to estimate tr(HΣ) / (GᵀHG), too: the noise scale without the assumption that the
            Hessian is a multiple of the identity (McCandlish et al. 2018, equation 2.8), on `examples` examples in
            inference mode, at the end of each epoch. Dear: a Hessian product per micro-batch.
        examples: Of a separate probe; defaults to the batch size. With `hessian` defaults to 512.
        log_dir: Where to write summaries for TensorBoard.
        prefix: Put before the names in the logs, to tell two such monitors apart.
        measured: More on what is measured, for captions: a dict such as `{"data": "digits"}`.

    Attributes:
        history: A row per estimate, a dict of plain values: `update`, `epoch`, `progress`, `batch_size`,
            `noise_scale`, `noise_scale_low`, `noise_scale_high`, `trace`, `squared_norm`, `num_probes`, `burn_in`.
        probes: A row per probe: `update`, `batch_size`, `trace`, `squared_norm`, unbiased, so they may be negative.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit` if its updates cannot be run as micro-batches.

    References:
        McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018, appendix A.1.
    """

    def __init__(
        self,
        batches,
        *,
        every=50,
        window=50,
        burn_in=10,
        num_micro_batches=2,
        probe="update",
        per_layer=False,
        hessian=False,
        examples=None,
        log_dir=None,
        prefix="",
        measured=None,
    ):
        super().__init__()
        check_batches(batches, self)
        check_whole(2, window=window)
        check_whole(0, burn_in=burn_in)
        for_probe = examples if probe == "separate" else None
        if examples is not None and probe != "separate" and not hessian:
            raise ValueError('examples= is for probe="separate" and for hessian=True; leave it out.')
        self.batches, self.window, self.burn_in = batches, int(window), int(burn_in)
        self.per_layer, self.hessian, self.examples = bool(per_layer), bool(hessian), examples
        self.log_dir, self.prefix, self.measured = log_dir, prefix, dict(measured or {})
        self._probe = NoiseProbe(
            batches, every=every, num_micro_batches=num_micro_batches, probe=probe, examples=for_probe
        )
        self.history, self.probes, self._recent, self._new = [], [], [], 0
        self._left_out = self._to_leave_out = 0
        self._summaries = self._subject = None

    def __deepcopy__(self, memo):
        """A monitor of the same stream and settings, without what it has found."""
        twin = copy.copy(self)
        twin._probe = copy.copy(self._probe)
        twin.history, twin.probes, twin._recent, twin._new = [], [], [], 0
        twin._left_out = twin._to_leave_out = 0
        twin._summaries = twin._subject = twin._model = None
        return twin

    # State.

    def get_state(self):
        """Return what it has found, plain values and arrays, for `Checkpoint`."""
        return {
            "history": copy.deepcopy(self.history),
            "probes": copy.deepcopy(self.probes),
            "recent": [probe._asdict() for probe in self._recent],
            "new": self._new,
            "left_out": [self._left_out, self._to_leave_out],
            "is_owed": self._probe.is_owed,
        }

    def set_state(self, state):
        """Go on from `get_state()`, in a `fit` that has just begun."""
        self.history, self.probes = copy.deepcopy(state["history"]), copy.deepcopy(state["probes"])
        self._recent, self._new = [Probe(**row) for row in state["recent"]], state["new"]
        self._left_out, self._to_leave_out = state["left_out"]
        self._probe.is_owed = state["is_owed"]

    # Hooks.

    def on_train_begin(self, logs=None):
        check_read(self)
        self._probe.begin_fit(self.model, type(self).__name__)
        if not self._update():
            self._recent, self._new, self._left_out = [], 0, 0
            self._to_leave_out = self.burn_in
        if self.log_dir is not None:
            self._summaries = Summaries(self.log_dir, self.model)
            call_when_steps_end(self._summaries.flush)
        self._about = {**described(self.model), "examples": self.batches.num_examples, **self.measured}

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._probe.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        self._probe.begin_execution(batch)

    def on_train_batch_end(self, batch, logs=None):
        probe = self._probe.end_execution()
        if probe is None:
            return
        self.probes.append(
            {
                "update": self._update(),
                "batch_size": probe.batch_size,
                "trace": probe.trace,
                "squared_norm": probe.squared_norm,
            }
        )
        if self._left_out < self._to_leave_out:
            self._left_out += 1
            return
        self._recent = [*self._recent, probe][-self.window :]
        self._new += 1
        if self._new == self.window:
            self._estimate(self._update(), self._progress(batch))

    def on_epoch_end(self, epoch, logs=None):
        if self._new:
            self._estimate(self._update(), epoch + 1.0)
        if self.hessian:
            self._estimate_with_hessian(epoch)
        if logs is not None:
            last = self.history[-1] if self.history else {}
            for key in self.names():
                logs[f"{self.prefix}gradient_{key}"] = last.get(key, math.nan)
        if self._summaries is not None:
            self._summaries.flush()

    def on_train_end(self, logs=None):
        self._probe.end_fit()
        if not self.history:
            warnings.warn(
                f"GradientNoiseMonitor has no estimate: after {self._update()} updates there are {len(self.probes)} probes, "
                f"one every {self._probe.every}, and the first {self.burn_in} are left out. Pass a smaller every= or burn_in=.",
                stacklevel=2,
            )
        if self._summaries is not None:
            self._summaries.close()
            self._summaries = None

    # An estimate.

    def names(self):
        """Return the names of the values that come into the logs, without `gradient_`."""
        names = ["noise_scale", "noise_scale_low", "noise_scale_high"]
        return names + ["noise_scale_with_hessian"] * self.hessian

    def _estimate(self, update, progress):
        recent, self._new = self._recent, 0
        scale = gradient_noise.noise_scale([p.trace for p in recent], [p.squared_norm for p in recent])
        row = {
            "update": update,
            "epoch": self._epoch,
            "progress": progress,
            "batch_size": recent[-1].batch_size,
            **as_row(scale),
            "burn_in": self._left_out,
        }
        if self.per_layer:
            row["layers"] = {
                path: as_row(
                    gradient_noise.noise_scale(
                        [p.traces[where].sum() for p in recent],
                        [p.squared_norms[where].sum() for p in recent],
                    )
                )
                for path, where in gradient_noise.by_layer(self.model.trainable_variables).items()
            }
        self.history.append(row)
        self._write(row)

    def _estimate_with_hessian(self, epoch):
        row = self.history[-1] if self.history else {"update": self._update(), "epoch": epoch}
        scale = self._with_hessian(row["update"])
        row |= {
            "noise_scale_with_hessian": scale.value,
            "noise_scale_with_hessian_low": scale.low,
            "noise_scale_with_hessian_high": scale.high,
        }
        if not self.history:
            self.history.append(row)

    def _with_hessian(self, update):
        """Return the `gradient_noise.NoiseScale` with the Hessian of examples drawn at random."""
        sample = self._sample(update)
        if self._subject is None or self._subject[0] is not self.model:
            self._subject = self.model, Subject(self.model, self.model.loss, sample, **options_of(self.model))
        self._subject[1].batches = sample
        found = gradient_noise.measure(
            self._subject[1],
            micro_batch_size=max(self._num_examples // MICRO_BATCHES_WITH_HESSIAN, 1),
            num_examples=self.batches.num_examples,
            hessian=True,
        )
        return found.with_hessian

    def _sample(self, update):
        rng = np.random.default_rng([self.batches.seed % 2**63, update])
        return self.batches.examples_at(
            rng.choice(self.batches.num_examples, self._num_examples, replace=False)
        )

    @property
    def _num_examples(self):
        return min(self.examples or 512, self.batches.num_examples)

    def _write(self, row):
        if self._summaries is None:
            return
        about = {**self._about, "probes": row["num_probes"], "interval": "95 %"}
        for suffix in ("", "_low", "_high"):
            value = row[f"noise_scale{suffix}"]
            self._summaries.writer.scalar(TAG + suffix, value, row["update"], unit="examples", measured=about)
        self._summaries.flush_if_due()

    def _update(self):
        return int(self.model.optimizer.iterations.numpy())

    def _progress(self, batch):
        if self.batches.is_steered:
            return float(self.batches.progress)
        return self._epoch + min((batch + 1) * self.batches.batch_size / self.batches.num_examples, 1.0)


def as_row(scale):
    """Return a `gradient_noise.NoiseScale` as plain values by the names that rows have."""
    return {
        "noise_scale": float(scale.value),
        "noise_scale_low": float(scale.low),
        "noise_scale_high": float(scale.high),
        "trace": scale.trace,
        "squared_norm": scale.squared_norm,
        "num_probes": scale.num_probes,
    }
