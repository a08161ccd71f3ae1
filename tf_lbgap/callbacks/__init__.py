"""Callbacks for `model.fit`: they apply rules (schedules) and take measures.

`BatchSizeScheduler` steers a `data.Batches`; `LearningRateScheduler` sets the rate per
update; `TargetLoss` stops at a given loss.
"""

from tf_lbgap.callbacks.batch_size_scheduler import BatchSizeScheduler
from tf_lbgap.callbacks.learning_rate_scheduler import LearningRateScheduler
from tf_lbgap.callbacks.target_loss import TargetLoss

__all__ = ["BatchSizeScheduler", "LearningRateScheduler", "TargetLoss"]
