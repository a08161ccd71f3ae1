"""Experiments: arms x seeds from a YAML file, into a run directory.

TensorFlow is imported when training begins, so that a mistake in a file is told at once.
"""

from tf_lbgap.experiment.calls import ConfigError
from tf_lbgap.experiment.config import Experiment, from_dict, load
from tf_lbgap.experiment.measure import measure
from tf_lbgap.experiment.run import RunFailed, run

__all__ = ["ConfigError", "Experiment", "RunFailed", "from_dict", "load", "measure", "run"]
