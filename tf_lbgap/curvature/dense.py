"""A matrix that is written down, behind the same face as one that is known only by its products."""

import numpy as np

from tf_lbgap.curvature.operator import Operator


class DenseOperator(Operator):
    """A symmetric matrix as an operator, for tests and examples.

    Args:
        matrix: Shape (n, n), symmetric.

    Attributes:
        matrix: The array.

    Raises:
        ValueError: If the matrix is not square.

    Example:
        >>> DenseOperator([[2.0, 0.0], [0.0, 3.0]]).matvec([1.0, 1.0])
        array([2., 3.])
    """

    def __init__(self, matrix):
        matrix = np.asarray(matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"A matrix of shape {matrix.shape} came, but an operator is square: (n, n).")
        self.matrix = matrix if matrix.dtype.kind == "f" else matrix.astype("float64")
        super().__init__(matrix.shape, self.matrix.dtype)

    def _multiply(self, rows):
        return rows @ self.matrix.T
