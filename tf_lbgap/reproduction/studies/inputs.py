"""Curvature of the loss by the input: how far does an adversary come with a small step?

A step of length r along the top eigenvector of an example's own Hessian raises its loss by r²λ/2, beside what
the gradient gives. Yao et al. ask whether large batches, whose Hessian by the *weights* has larger
eigenvalues, have larger ones by the *input*, too. By their Theorem 1 a network of ReLU and softmax
cross-entropy has no negative ones.
"""

import numpy as np

from tf_lbgap.experiment.checks import whole
from tf_lbgap.reproduction.studies.rows import rows_of

KEYS = (
    "input_eigenvalue",
    "input_gradient",
    "train_input_eigenvalue",
    "train_input_gradient",
    "least_input_eigenvalue",
)


def input_hessian(run, *, arms=None, examples=100, seeds=None):
    """Measure eigenvalues of the Hessian by the input, example by example, at the final weights.

    Products for all examples are computed at once; there are up to 60, each of two to three gradients. The
    network runs in inference mode.

    Args:
        run: A `FinishedRun` of networks with one floating-point input.
        arms: Names of arms; None: all.
        examples: How many of the test set, and how many of the training set.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `input_eigenvalue`, the mean over test examples of their largest eigenvalue, in loss /
        input²; `input_gradient`, the mean norm of their gradients, in loss / input; `train_input_eigenvalue`
        and `train_input_gradient`, of training examples; and `least_input_eigenvalue`, the least eigenvalue
        of any example divided by the largest of any: by Theorem 1 not below 0, but for rounding (float32:
        some -1e-6).

    References:
        Yao, Gholami, Lei, Keutzer & Mahoney, "Hessian-based analysis of large batch training and robustness
        to adversaries", 2018, Table 1 and Theorem 1.
    """
    whole(examples, "examples")

    def measure(arm, seed):
        from tf_lbgap.reproduction.studies.input_operator import InputOperator

        test, train = run.test_sample(arm, seed, examples), run.sample(arm, seed, examples)
        operator = run.made(arm, seed, "input_operator", lambda model, loss: InputOperator(model, loss, test))
        operator.take([test, train])
        largest, gradients = operator.top_eigenvalues()[0], np.linalg.norm(operator.gradients(), axis=1)
        least = operator.least_eigenvalues()
        count = len(test[1])
        found = {
            "input_eigenvalue": largest[:count].mean(),
            "input_gradient": gradients[:count].mean(),
            "train_input_eigenvalue": largest[count:].mean(),
            "train_input_gradient": gradients[count:].mean(),
            "least_input_eigenvalue": least.min() / largest.max(),
        }
        return {key: float(value) for key, value in found.items()}

    return {"rows": rows_of(run, arms, seeds, KEYS, measure), "curves": []}
