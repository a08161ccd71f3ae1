"""Data: the stream that feeds `fit`, and where examples come from.

`Batches` is the stream; `datasets` loads the data sets that the experiments use, `text` windows
of characters, `translations` pairs of sentences; `held_out` cuts a training set in two;
`augmentation` makes random images for its `map`, `corruption` noisy labels, and `neighbours` training sets
that differ in one example.
"""

from tf_lbgap.data import augmentation, corruption, datasets, neighbours, text, translations
from tf_lbgap.data.batches import Batches
from tf_lbgap.data.splits import held_out

__all__ = [
    "Batches",
    "augmentation",
    "corruption",
    "datasets",
    "held_out",
    "neighbours",
    "text",
    "translations",
]
