"""Probes of the gradient noise: every so many updates, the gradients of an update's micro-batches.

Run as micro-batches an update tells the squared norms of small and of large batches at once, and with them |G|² and
tr(Σ), for little more than it costs anyway. Without BatchNormalization and Dropout it agrees with the plain update to
rounding. A separate probe draws examples of its own and leaves training as it is, bit for bit, for
the price of a gradient.
"""

import warnings
from typing import NamedTuple

import keras
import numpy as np

from tf_lbgap import gradient_noise
from tf_lbgap.callbacks.executions import executions_of
from tf_lbgap.callbacks.monitor import check_whole
from tf_lbgap.callbacks.separate_gradients import SeparateGradients

PROBES = ("update", "separate")


class Probe(NamedTuple):
    """What one probe found."""

    batch_size: int
    traces: (
        np.ndarray
    )  # (V,) tr(Σ) by trainable variable, of single examples; unbiased, so it may be negative
    squared_norms: np.ndarray  # (V,) |G|², unbiased, likewise
    batch_squared_norm: float  # |g_B|², of the batch as a whole
    inner_product_variance: float | None

    @property
    def trace(self):
        """tr(Σ)."""
        return float(self.traces.sum())

    @property
    def squared_norm(self):
        """|G|²."""
        return float(self.squared_norms.sum())


class NoiseProbe:
    """Takes probes during a `fit`.

    Args:
        batches: The `data.Batches` that is given to `fit`.
        every: Updates from one probe to the next.
        num_micro_batches: Micro-batches of a probe; more than 2 make single probes less noisy and dearer.
        probe: "update" or "separate".
        inner_products: Whether to compute the variance of inner products, which holds all gradients of a probe
            in memory at a time.
        examples: Of a separate probe; defaults to the batch size.
    """

    def __init__(
        self, batches, *, every, num_micro_batches=2, probe="update", inner_products=False, examples=None
    ):
        check_whole(1, every=every)
        check_whole(2, num_micro_batches=num_micro_batches)
        if probe not in PROBES:
            raise ValueError(f"probe={probe!r} must be one of {', '.join(map(repr, PROBES))}.")
        if probe == "separate" and inner_products:
            raise ValueError('Inner products of gradients need probe="update".')
        if examples is not None:
            check_whole(num_micro_batches, examples=examples)
            if probe == "update":
                raise ValueError('examples= is for probe="separate"; a probe of an update has its batch.')
        self._batches, self.every, self.num_micro_batches = batches, every, num_micro_batches
        self.kind, self._inner_products, self._examples = probe, inner_products, examples
        self.is_owed = False  # the next update is to be probed, for the last one was too small to be cut

    def begin_fit(self, model, who):
        """Get ready, and say once if a probed update will differ from a plain one."""
        self._model, self._due, self.is_owed = model, False, False
        if self.kind == "separate":
            self._separate = SeparateGradients(model, self._batches)
            return
        self._executions = executions_of(model)
        self._executions.begin_fit()
        reason = _differs_as_micro_batches(model)
        if reason:
            warnings.warn(
                f"{who}: every {self.every} updates one is run as {self.num_micro_batches} micro-batches, and {reason}: "
                'training is not bit for bit what it is without. Pass probe="separate" to leave it alone.',
                stacklevel=3,
            )

    def begin_epoch(self):
        """Note how many updates were made; the batches of an epoch are counted from there."""
        self._first = self._done = int(self._model.optimizer.iterations.numpy())

    def begin_execution(self, batch):
        """Probe the execution that begins, if it is its turn, or was that of one whose batch was too small to be cut.

        Args:
            batch: The number of updates of this epoch before it.
        """
        update = self._first + batch
        steps = self._model.steps_per_execution
        self._due = self.is_owed or (update + steps) // self.every > update // self.every
        if self.kind == "separate":
            return
        size = self._micro_batch_size() if self._due else None
        self.is_owed = self._due and size is None
        self._due = size is not None
        self._executions.probe(self, size, self._inner_products)

    def end_execution(self):
        """Return the `Probe` of the execution that has ended, or None if there was none to be had."""
        if not self._due:
            return None
        if self.kind == "separate":
            size = self._examples or self._batches.batch_size_in_force
            return self._checked(
                self._separate(size, self.num_micro_batches, int(self._model.optimizer.iterations.numpy()))
            )
        gradients = self._executions.gradients
        self.is_owed = gradients.num_micro_batches < 2
        return self._checked(gradients)

    def end_fit(self):
        """Give the model its own train function back."""
        if self.kind == "update":
            self._executions.restore()

    def _micro_batch_size(self):
        size = self._batches.begin_update()
        return max(-(-size // self.num_micro_batches), 1) if size > 1 else None

    def _checked(self, gradients):
        """Return the `Probe` of gradients, unless a last batch was too small to be cut, or training diverges."""
        if gradients is None or gradients.num_micro_batches < 2:
            return None
        if not np.isfinite(gradients.squared_norms).all():  # also where a loss scale was too large
            return None
        trace, squared_norm = gradient_noise.unbiased(
            gradients.squared_norms,
            gradients.squared_norm,
            gradients.mean_inverse_size,
            gradients.batch_size,
            num_examples=self._batches.num_examples,
        )
        return Probe(
            gradients.batch_size,
            trace,
            squared_norm,
            float(gradients.squared_norm.sum()),
            gradients.inner_product_variance,
        )


def _differs_as_micro_batches(model):
    """Return why an update of micro-batches differs from a plain one by more than rounding, or None."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            return f"BatchNormalization {layer.name!r} sees one micro-batch at a time"
        if getattr(layer, "_seed_generators", None) and not isinstance(layer, keras.Model):
            return f"{type(layer).__name__} {layer.name!r} draws other random numbers for each micro-batch"
    return None
