"""Callbacks for `model.fit`: they apply rules (schedules) and take measures.

`BatchSizeScheduler` steers a `data.Batches`; `LearningRateScheduler` sets the rate per update.
"""

from tf_lbgap.callbacks.batch_size_scheduler import BatchSizeScheduler
from tf_lbgap.callbacks.learning_rate_scheduler import LearningRateScheduler

__all__ = ["BatchSizeScheduler", "LearningRateScheduler"]
