"""`lbgap advise`: what was measured, or given as numbers, as tables, sentences, and an experiment.

Nothing here imports TensorFlow until a configuration is known to be right.
"""

from tf_lbgap.advice.branches import run as run_branched
from tf_lbgap.advice.command import BANDWIDTH, LATENCY, check_options, run
from tf_lbgap.advice.numbers import on_paper

__all__ = ["BANDWIDTH", "LATENCY", "check_options", "on_paper", "run", "run_branched"]
