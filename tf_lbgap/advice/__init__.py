"""`lbgap advise`: what was measured, or given as numbers, as tables, sentences, and an experiment.

Nothing here imports TensorFlow until a configuration is known to be right.
"""

from tf_lbgap.advice.command import run

__all__ = ["run"]
