"""What changes the update itself, inside `fit` and with the user's own model.

Batches beyond memory are accumulated from micro-batches; `SharpnessAware`, `Conservative`, `Adversarial`, `Stability`,
`NoisyGradient`, `Backtracking`, `VarianceReduced` and `QuasiNewton` are changes that `callbacks.ChangeUpdates` puts around the model's
`train_step`, alone or together. `FullBatch` minimises the loss of all data at once, without `fit`.
"""

from tf_lbgap.batch_normalization import recalibrate
from tf_lbgap.training.adversarial import Adversarial
from tf_lbgap.training.backtracking import Backtracking
from tf_lbgap.training.conservative import Conservative
from tf_lbgap.training.full_batch import FullBatch
from tf_lbgap.training.micro_gradients import MicroGradients
from tf_lbgap.training.noisy_gradient import NoisyGradient
from tf_lbgap.training.quasi_newton import QuasiNewton
from tf_lbgap.training.search import find_micro_batch_size
from tf_lbgap.training.sharpness_aware import SharpnessAware
from tf_lbgap.training.stability import Stability
from tf_lbgap.training.static_updates import StaticUpdates
from tf_lbgap.training.train_functions import TrainFunctions
from tf_lbgap.training.update_change import Changes, UpdateChange
from tf_lbgap.training.variance_reduction import VarianceReduced

__all__ = [
    "Adversarial",
    "Backtracking",
    "Changes",
    "Conservative",
    "FullBatch",
    "MicroGradients",
    "NoisyGradient",
    "QuasiNewton",
    "SharpnessAware",
    "Stability",
    "StaticUpdates",
    "TrainFunctions",
    "UpdateChange",
    "VarianceReduced",
    "find_micro_batch_size",
    "recalibrate",
]
