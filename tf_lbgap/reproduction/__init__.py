"""Reproductions: the experiments of a paper, what is measured on the weights they leave, and verdicts fixed beforehand."""

from tf_lbgap.reproduction import studies
from tf_lbgap.reproduction.expected import expected
from tf_lbgap.reproduction.paper import SCALES, Paper, has_scale, known_papers, load
from tf_lbgap.reproduction.rehearsal import rehearse
from tf_lbgap.reproduction.running import finished_results, reproduce

__all__ = [
    "SCALES",
    "Paper",
    "expected",
    "finished_results",
    "has_scale",
    "known_papers",
    "load",
    "rehearse",
    "reproduce",
    "studies",
]
