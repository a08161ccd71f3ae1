"""Growth: criteria that choose the next batch size from what was measured.

    >>> decision = NormTest(theta=0.5)(64, {"trace": 32.0, "batch_squared_norm": 0.2})
    >>> decision.batch_size
    640.0

`callbacks.AdaptiveBatchSize(batches, criterion)` measures, asks and obeys. Nothing here imports TensorFlow. Formulas,
costs and limits of each, side by side: docs/growth.md.
"""

from tf_lbgap.growth.absa import Absa
from tf_lbgap.growth.big_batch import BigBatch
from tf_lbgap.growth.cabs import Cabs
from tf_lbgap.growth.decision import Criterion, Decision
from tf_lbgap.growth.friedlander_schmidt import FriedlanderSchmidt
from tf_lbgap.growth.noise_scale import GradientNoiseScale
from tf_lbgap.growth.norm_test import InnerProductTest, NormTest
from tf_lbgap.growth.plateau import Plateau

__all__ = [
    "Absa",
    "BigBatch",
    "Cabs",
    "Criterion",
    "Decision",
    "FriedlanderSchmidt",
    "GradientNoiseScale",
    "InnerProductTest",
    "NormTest",
    "Plateau",
]
