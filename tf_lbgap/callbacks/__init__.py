"""Callbacks for `model.fit`: they apply rules (schedules) and take measures.

`BatchSizeScheduler` steers a `data.Batches` by a schedule, `AdaptiveBatchSize` by what it measures;
`LearningRateScheduler` sets the rate per update; `TargetLoss` stops at a given loss; `CurvatureMonitor` and
`SharpnessMonitor` measure and `RobustnessMonitor` attacks, and they leave training as it is; so does
`GradientNoiseMonitor`, to rounding or on request to the bit; `RunSummary` writes down for TensorBoard what a run was;
`Checkpoint` lets `fit` go on after a crash.
"""

from tf_lbgap.callbacks.adaptive_batch_size import AdaptiveBatchSize
from tf_lbgap.callbacks.adversarial_share import AdversarialShare
from tf_lbgap.callbacks.batch_size_scheduler import BatchSizeScheduler
from tf_lbgap.callbacks.change_updates import ChangeUpdates
from tf_lbgap.callbacks.checkpoint import Checkpoint
from tf_lbgap.callbacks.curvature_monitor import CurvatureMonitor
from tf_lbgap.callbacks.gradient_noise_monitor import GradientNoiseMonitor
from tf_lbgap.callbacks.learning_rate_scheduler import LearningRateScheduler
from tf_lbgap.callbacks.recalibration import Recalibration
from tf_lbgap.callbacks.robustness_monitor import RobustnessMonitor
from tf_lbgap.callbacks.run_summary import RunSummary
from tf_lbgap.callbacks.sharpness_monitor import SharpnessMonitor
from tf_lbgap.callbacks.stability import PreconditionedOperator, edge_of_stability
from tf_lbgap.callbacks.target_loss import TargetLoss
from tf_lbgap.callbacks.weight_averaging import WeightAveraging

__all__ = [
    "AdaptiveBatchSize",
    "AdversarialShare",
    "BatchSizeScheduler",
    "ChangeUpdates",
    "Checkpoint",
    "CurvatureMonitor",
    "GradientNoiseMonitor",
    "LearningRateScheduler",
    "PreconditionedOperator",
    "Recalibration",
    "RobustnessMonitor",
    "RunSummary",
    "SharpnessMonitor",
    "TargetLoss",
    "WeightAveraging",
    "edge_of_stability",
]
