"""A matrix that is written down, behind the same face as one that is known only by its products."""

import numpy as np


class DenseOperator:
    """A symmetric matrix as an operator, for tests and examples.

    Args:
        matrix: Shape (n, n), symmetric.

    Attributes:
        shape: `(n, n)`.
        dtype: Of the products.
        num_products: How many products were computed so far.

    Raises:
        ValueError: If the matrix is not square.

    Example:
        >>> DenseOperator([[2.0, 0.0], [0.0, 3.0]]).matvec([1.0, 1.0])
        array([2., 3.])
    """

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix)
        if self.matrix.ndim != 2 or self.matrix.shape[0] != self.matrix.shape[1]:
            raise ValueError(
                f"A matrix of shape {self.matrix.shape} came, but an operator is square: (n, n)."
            )
        if self.matrix.dtype.kind != "f":
            self.matrix = self.matrix.astype("float64")
        self.shape = self.matrix.shape
        self.dtype = self.matrix.dtype
        self.num_products = 0

    def matvec(self, v):
        """The product of the matrix with v, shape (n,)."""
        self.num_products += 1
        return self.matrix @ np.asarray(v, self.dtype)

    def matmat(self, V):
        """The product of the matrix with the columns of V, shape (n, k)."""
        V = np.asarray(V, self.dtype)
        self.num_products += V.shape[1]
        return self.matrix @ V

    def __matmul__(self, other):
        return self.matvec(other) if np.ndim(other) == 1 else self.matmat(other)
