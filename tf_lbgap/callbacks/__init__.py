"""Callbacks for `model.fit`: they apply rules (schedules) and take measures.

`BatchSizeScheduler` steers a `data.Batches`; `LearningRateScheduler` sets the rate per
update; `TargetLoss` stops at a given loss; `CurvatureMonitor` and `SharpnessMonitor` measure, and
leave training as it is; `RunSummary` writes down for TensorBoard what a run was.
"""

from tf_lbgap.callbacks.batch_size_scheduler import BatchSizeScheduler
from tf_lbgap.callbacks.curvature_monitor import CurvatureMonitor
from tf_lbgap.callbacks.learning_rate_scheduler import LearningRateScheduler
from tf_lbgap.callbacks.run_summary import RunSummary
from tf_lbgap.callbacks.sharpness_monitor import SharpnessMonitor
from tf_lbgap.callbacks.stability import PreconditionedOperator, edge_of_stability
from tf_lbgap.callbacks.target_loss import TargetLoss

__all__ = [
    "BatchSizeScheduler",
    "CurvatureMonitor",
    "LearningRateScheduler",
    "PreconditionedOperator",
    "RunSummary",
    "SharpnessMonitor",
    "TargetLoss",
    "edge_of_stability",
]
