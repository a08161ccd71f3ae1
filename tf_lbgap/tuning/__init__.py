"""Searches over batch size, learning rate and noise scale, on Keras Tuner.

TensorFlow and Keras Tuner are imported when a search begins, so that a mistake in a file is told at once.
"""

from tf_lbgap.tuning.config import Search, from_dict, load
from tf_lbgap.tuning.objectives import OBJECTIVES
from tf_lbgap.tuning.run import run

__all__ = ["OBJECTIVES", "Search", "from_dict", "load", "run"]
