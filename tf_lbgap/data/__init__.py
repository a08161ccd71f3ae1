"""Data: the stream that feeds `fit`, and where examples come from.

`Batches` is the stream; `datasets` loads the data sets that the experiments use; `held_out` cuts a training set in two;
`augmentation` makes random images for its `map`, and `corruption` noisy labels.
"""

from tf_lbgap.data import augmentation, corruption, datasets
from tf_lbgap.data.batches import Batches
from tf_lbgap.data.splits import held_out

__all__ = ["Batches", "augmentation", "corruption", "datasets", "held_out"]
