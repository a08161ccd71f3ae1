"""Curvature of the loss: the Hessian by its products, its eigenvalues with error bounds.

Two nouns. An *operator* is a symmetric matrix known by its products; it knows models and data. An *algorithm*
knows only `shape` and `matvec`, so any algorithm runs on any operator, a plain matrix (`DenseOperator`)
included.
"""

from tf_lbgap.curvature.dense import DenseOperator
from tf_lbgap.curvature.hessian import HessianOperator
from tf_lbgap.curvature.lanczos import Eigenpairs, top_eigenpairs
from tf_lbgap.curvature.second_order import check_second_derivatives, exact_second_derivatives

__all__ = [
    "DenseOperator",
    "Eigenpairs",
    "HessianOperator",
    "check_second_derivatives",
    "exact_second_derivatives",
    "top_eigenpairs",
]
