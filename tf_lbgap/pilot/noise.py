"""The gradient noise scale at moments of the pilot, on the same examples each time."""

import math

import numpy as np

from tf_lbgap import batch_normalization, gradient_noise
from tf_lbgap.callbacks.separate_gradients import options_of
from tf_lbgap.pilot.results import NoiseRow
from tf_lbgap.pilot.streams import first_examples
from tf_lbgap.sharpness import Subject

EXAMPLES = 1024
MICRO_BATCHES = 32  # some 20 give a good interval


class NoisePoints:
    """Measures tr(Σ) / |G|² of a model as it stands, in inference mode, and keeps what it found.

    G is the gradient over the training set. With batch normalization the statistics are exact; dropout is off and `map` is
    left out, so the noise of both is not in it. A point costs two gradients of each of up to 1,024 examples.

    Args:
        model: A compiled Keras model.
        batches: `data.Batches`.

    Attributes:
        rows: `NoiseRow`s.
        reason: Why there are none, or None.
    """

    def __init__(self, model, batches):
        self.rows, self.reason = [], None
        self._num_examples = batches.num_examples
        self._count = min(EXAMPLES, batches.num_examples)
        mode = "recalibrated" if batch_normalization.recalibrated_layers(model) else "inference"
        options = {**options_of(model), "batch_normalization": mode}
        self._subject = Subject(model, model.loss, first_examples(batches, self._count), **options)

    def __call__(self, updates, progress, loss):
        """Measure now."""
        if self.reason is not None:
            return
        try:
            found = gradient_noise.measure(
                self._subject,
                micro_batch_size=max(self._count // MICRO_BATCHES, 1),
                num_examples=self._num_examples,
            )
        except ValueError as error:
            self.reason = str(error)
            return
        if not math.isnan(found.value):
            self.rows.append(
                NoiseRow(updates, progress, loss, float(found.value), float(found.low), float(found.high))
            )


def pair(rows):
    """Return B_noise at the beginning and at the end, as a curve that moves by a constant factor per update; None of none.

    Single points scatter, and the first, before any update, says little of the rest. So log(B_noise) is a straight line fitted to
    all of them, each with the weight of the updates around it, which stays within the points.

    Args:
        rows: `NoiseRow`s; those that are not positive and finite are left out.
    """
    rows = [row for row in rows if 0 < row.noise_scale < math.inf]
    if not rows:
        return None
    updates = np.array([row.updates for row in rows], dtype=float)
    logs = np.log([row.noise_scale for row in rows])
    if len(rows) < 3 or updates[-1] == updates[0]:
        return rows[0].noise_scale, rows[-1].noise_scale
    share = (updates - updates[0]) / (updates[-1] - updates[0])
    weights = np.gradient(share) + 1e-3
    slope, start = np.polyfit(share, logs, 1, w=np.sqrt(weights))
    ends = np.exp(np.clip([start, start + slope], logs.min(), logs.max()))
    return float(ends[0]), float(ends[1])


def mean(start, end):
    """Return the mean of a noise scale that moves by a constant factor per unit of progress."""
    return start if np.isclose(start, end) else (end - start) / math.log(end / start)
