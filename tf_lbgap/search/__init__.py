"""Searches of YAML files over batch size, learning rate, noise scale and more, by Keras Tuner.

TensorFlow and Keras Tuner are imported when a search begins, so that a mistake in a file is told at once. For scripts see `tuning`.
"""

from tf_lbgap.search.config import Search, from_dict, load
from tf_lbgap.search.objectives import OBJECTIVES
from tf_lbgap.search.run import run

__all__ = ["OBJECTIVES", "Search", "from_dict", "load", "run"]
