"""Attacks: examples moved by a little so that the loss rises, and how accurate a model stays under them.

Each attack is a function `(model, loss, x, y, *, epsilon, data_range=None, ...) -> x'` that leaves the model as it is
and works eagerly and inside a traced training step.
"""

from tf_lbgap.attacks.accuracy import AccuracyUnderAttack, Transfer, accuracy_under_attack, transfer
from tf_lbgap.attacks.gradient_sign import fgsm, l2grad
from tf_lbgap.attacks.input_hessian import NewtonDirections, fhsm, input_newton_direction, l2hess
from tf_lbgap.attacks.noise import gaussian, random_sign
from tf_lbgap.attacks.projected import fgsm_10, pgd

__all__ = [
    "AccuracyUnderAttack",
    "NewtonDirections",
    "Transfer",
    "accuracy_under_attack",
    "fgsm",
    "fgsm_10",
    "fhsm",
    "gaussian",
    "input_newton_direction",
    "l2grad",
    "l2hess",
    "pgd",
    "random_sign",
    "transfer",
]
