"""Curvature of the loss: operators by their products, and algorithms that say how sure they are.

Two nouns. An *operator* is a symmetric matrix known by its products; it knows models and data. An *algorithm*
knows only `shape`, `dtype` and products, so any algorithm runs on any operator, a plain matrix (`DenseOperator`)
included.
"""

from tf_lbgap.curvature.check import check_model
from tf_lbgap.curvature.conditioning import Condition, condition
from tf_lbgap.curvature.dense import DenseOperator
from tf_lbgap.curvature.determinants import LogDeterminant, log_determinant
from tf_lbgap.curvature.fisher import FisherOperator
from tf_lbgap.curvature.gauss_newton import GaussNewtonOperator
from tf_lbgap.curvature.hessian import HessianOperator
from tf_lbgap.curvature.hutchinson import Trace, trace
from tf_lbgap.curvature.input_hessian import InputHessianOperator
from tf_lbgap.curvature.lanczos import Eigenpairs, top_eigenpairs
from tf_lbgap.curvature.operator import Operator
from tf_lbgap.curvature.quadrature import SpectralDensity, spectral_density
from tf_lbgap.curvature.second_order import check_second_derivatives, exact_second_derivatives
from tf_lbgap.curvature.surface import LossSurface

__all__ = [
    "Condition",
    "DenseOperator",
    "Eigenpairs",
    "FisherOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "InputHessianOperator",
    "LogDeterminant",
    "LossSurface",
    "Operator",
    "SpectralDensity",
    "Trace",
    "check_model",
    "check_second_derivatives",
    "condition",
    "exact_second_derivatives",
    "log_determinant",
    "spectral_density",
    "top_eigenpairs",
    "trace",
]
