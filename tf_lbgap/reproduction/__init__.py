"""Reproductions: the experiments of a paper, what is measured on the weights they leave, and verdicts fixed beforehand."""

from tf_lbgap.reproduction import studies

__all__ = ["studies"]
