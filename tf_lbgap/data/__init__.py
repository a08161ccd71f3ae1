"""Data: the stream that feeds `fit`, and where examples come from.

`Batches` is the stream; `datasets` loads the data sets that the experiments use; `held_out` cuts a training set in two.
"""

from tf_lbgap.data import datasets
from tf_lbgap.data.batches import Batches
from tf_lbgap.data.splits import held_out

__all__ = ["Batches", "datasets", "held_out"]
