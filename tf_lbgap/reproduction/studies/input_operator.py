"""The Hessian by the input for many networks' weights and examples one after the other, traced once."""

from tf_lbgap.curvature import InputHessianOperator
from tf_lbgap.curvature.batches import TensorBatches
from tf_lbgap.curvature.sums import CHUNK_SIZE


class InputOperator(InputHessianOperator):
    """An `InputHessianOperator` at its model's present weights that takes other examples, and knows both ends of spectra."""

    _sign = 1

    def take(self, batches):
        """Go on with other examples of the same shape and type; batches are joined to one."""
        self._batches = TensorBatches(batches, self.dtype, CHUNK_SIZE)
        self.num_examples = sum(int(batch[0].shape[0]) for batch in self._batches)
        self.shape = (self.num_examples * self.size,) * 2

    def products(self, V):
        """Each example's Hessian times its own vector; see `InputHessianOperator.products`."""
        return self._sign * super().products(V)

    def least_eigenvalues(self):
        """The smallest eigenvalue of each H_i, (N,), by Lanczos' method on -H_i, in at most 30 products."""
        self._sign = -1
        try:
            return -self.top_eigenvalues()[0]
        finally:
            self._sign = 1
