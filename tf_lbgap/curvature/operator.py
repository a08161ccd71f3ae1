"""What every operator can do: a symmetric matrix that is known by its products.

An algorithm needs `shape`, `dtype` and `matvec` or `matmat`, and nothing else; so any algorithm runs on any
operator, and on whatever else has those.
"""

import numpy as np
import scipy.sparse.linalg


class Operator:
    """A symmetric (n, n) matrix by its products. A subclass sets `shape` and `dtype`, and multiplies.

    Attributes:
        shape: `(n, n)`.
        dtype: Of the products.
        num_products: How many products were computed so far.
        entry: What an entry of a vector belongs to, for messages.
    """

    entry = "row of the matrix"

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.num_products = 0

    def matvec(self, v):
        """The product with a vector.

        Args:
            v: Shape (n,), or (n, 1).

        Returns:
            A NumPy array of the same shape and of the operator's dtype.

        Raises:
            ValueError: If v has another shape, or the product is not finite.
        """
        v = np.asarray(v)
        n = self.shape[0]
        if v.shape not in ((n,), (n, 1)):
            raise ValueError(
                f"v has shape {v.shape}, but the operator has shape {self.shape}. Pass a vector of shape ({n},): one "
                f"number per {self.entry}."
            )
        return self._counted(v.reshape(1, -1))[0].reshape(v.shape)

    def matmat(self, V):
        """The product with several vectors, cheaper than one by one where a model is linearised for it.

        Args:
            V: Shape (n, k), a vector per column.

        Returns:
            A NumPy array of shape (n, k) and of the operator's dtype.

        Raises:
            ValueError: If V has another shape, or the product is not finite.
        """
        V = np.asarray(V)
        if V.ndim != 2 or V.shape[0] != self.shape[0]:
            raise ValueError(
                f"V has shape {V.shape}, but the operator has shape {self.shape}: pass a vector per column, with "
                f"{self.shape[0]} rows, one per {self.entry}."
            )
        return self._counted(V.T).T if V.shape[1] else np.zeros(V.shape, self.dtype)

    def __matmul__(self, other):
        return self.matvec(other) if np.ndim(other) == 1 else self.matmat(other)

    def to_scipy(self):
        """The same operator for SciPy: `scipy.sparse.linalg.eigsh(operator.to_scipy(), k=3)`."""
        return scipy.sparse.linalg.LinearOperator(
            self.shape, matvec=self.matvec, rmatvec=self.matvec, matmat=self.matmat, dtype=self.dtype
        )

    def _counted(self, rows):
        self.num_products += len(rows)
        return self._multiply(np.ascontiguousarray(rows, self.dtype))

    def _multiply(self, rows):
        """Rows (k, n), k at least 1, times the matrix; the same shape and dtype."""
        raise NotImplementedError
