"""The largest eigenvalue of the Hessian at the end of an epoch, for criteria that ask for it."""

import math

from tf_lbgap.callbacks.curvature_monitor import CurvatureMonitor
from tf_lbgap.callbacks.monitor import Monitor

TOLERANCE = 1e-2  # of the residual; Yao et al. end their power iteration at that change of the eigenvalue
NAME, PREFIX = "top_eigenvalue", "growth_"


class TopEigenvalue(CurvatureMonitor):
    """A `CurvatureMonitor` that another callback asks, and that knows nothing of edges of stability.

    It looks for two eigenvalues and tells the first. A search for one may end at the second, and does so where the two
    have changed places since the last measurement, whose eigenvector it starts from: the batch would grow for a
    fall that was none. That costs twice the products. Names begin with "growth_", so another monitor may stand beside it.

    Args:
        sample: `(x, y)`, or other batches: the examples whose mean loss is differentiated.
        log_dir: Where to write for TensorBoard.
    """

    def __init__(self, sample, log_dir=None):
        super().__init__(sample, tolerance=TOLERANCE, preconditioned=False, prefix=PREFIX, log_dir=log_dir)
        self._latest = None

    def names(self):
        """Return the names of the scalars, without prefix."""
        return [NAME, f"{NAME}_residual"]

    def get_state(self):
        """Return what it has found, or None before the first epoch."""
        return None if self._latest is None else super().get_state()

    def on_train_begin(self, logs=None):
        Monitor.on_train_begin(self, logs)  # not CurvatureMonitor's, which warns where no edge is known

    def at_epoch_end(self, epoch, logs):
        """Measure, put it into the logs, and return the eigenvalue, NaN if it is not to be trusted."""
        found = {}
        self.on_epoch_end(epoch, found)
        logs.update(found)
        return found[PREFIX + NAME]

    def skip_epoch_end(self, logs):
        """Measure nothing; in the logs stands NaN, so that each epoch's have the same names."""
        logs.update({PREFIX + name: math.nan for name in self.names()})

    def _make(self, loss, batches, options):
        self.k = min(2, sum(math.prod(v.shape) for v in self.model.trainable_variables))
        return super()._make(loss, batches, options)

    def _scalars(self, row):
        found = super()._scalars(row)
        return {name: found[name] for name in self.names()}
