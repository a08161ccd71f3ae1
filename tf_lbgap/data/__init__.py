"""Data: the stream that feeds `fit`, and where examples come from.

`Batches` is the stream; `datasets` loads the data sets that the experiments use.
"""

from tf_lbgap.data import datasets
from tf_lbgap.data.batches import Batches

__all__ = ["Batches", "datasets"]
