"""The Hessian of each example's loss by its input.

    H_i = ∂²ℓ(x_i)/∂x_i², a (d, d) matrix for each of N examples, all at the present weights.

Examples do not touch each other at inference, so one product with the sum of losses multiplies all H_i at once.
For a network of piecewise linear activations and softmax cross-entropy H_i = Jᵀ(diag(p) - ppᵀ)J is positive
semidefinite of rank at most C - 1, C classes.

References:
    Yao, Gholami, Lei, Keutzer & Mahoney, "Hessian-based analysis of large batch training and robustness to
    adversaries", 2018 (the top eigenvalue λ₁ of H_i; Theorem 1: positive semidefinite).
"""

import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.batches import TensorBatches, signature_of
from tf_lbgap.curvature.krylov import rounding
from tf_lbgap.curvature.objective import Objective
from tf_lbgap.curvature.operator import Operator
from tf_lbgap.curvature.second_order import check_second_derivatives, exact_second_derivatives
from tf_lbgap.curvature.sums import CHUNK_SIZE
from tf_lbgap.curvature.traced import checked_graph


class InputHessianOperator(Operator):
    """Second derivatives of the loss of each example by its own input, as one block-diagonal matrix.

    The model runs in inference mode and nothing in it changes. An example's loss is the mean over its entries,
    without sample weights.

    Args:
        model: A built Keras model with one floating-point input.
        loss: A `keras.losses.Loss`, the name of one, or a function with a value per example.
        batches: `(x, y)`: N examples. An iterable of batches is joined to one.
        chunk_size: How many examples are worked off at a time.

    Attributes:
        shape: `(N d, N d)`, d the numbers of one input.
        num_examples: N.
        size: d.
        dtype: Of the products.
        num_products: How many products were computed so far.

    Raises:
        ValueError: If the inputs are not one floating-point array, or the loss has one value per batch.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[1.0], [2.0]])])                  # ℓ = (x0 + 2 x1)²
        >>> InputHessianOperator(model, "mse", (np.zeros((3, 2)), np.zeros((3, 1)))).products(
        ...     np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        array([[ 2.,  4.],
               [ 4.,  8.],
               [ 6., 12.]], dtype=float32)
    """

    entry = "number of the inputs, example by example"

    def __init__(self, model, loss, batches, *, chunk_size=CHUNK_SIZE):
        check_second_derivatives()
        self._objective = Objective(model, loss)
        dtype = self._objective.parameters.dtype
        parts = [batch[:2] for batch in TensorBatches(batches, dtype)]
        x = tf.nest.map_structure(lambda *leaves: tf.concat(leaves, 0), *(part[0] for part in parts))
        y = tf.nest.map_structure(lambda *leaves: tf.concat(leaves, 0), *(part[1] for part in parts))
        if tf.nest.is_nested(x) or not x.dtype.is_floating:
            raise ValueError(
                "The Hessian by the input needs a single array of floating-point numbers, but x is "
                f"{tf.nest.map_structure(lambda t: t.dtype.name, x)}. For tokens, cut the model after its Embedding."
            )
        self.num_examples, self.size = int(x.shape[0]), int(np.prod(x.shape[1:]))
        n = self.num_examples * self.size
        super().__init__((n, n), dtype)
        self._batches = TensorBatches((x, y), dtype, chunk_size)
        self._function = tf.function(self._of_batch, autograph=False, jit_compile=False)
        vectors = tf.TensorSpec([None, None, self.size], dtype)
        self._traced = self._function.get_concrete_function(signature_of((x, y)), vectors)
        checked_graph(self._traced.graph, jit_compile=False)

    def products(self, V):
        """Each example's Hessian times its own vector.

        Args:
            V: Shape (N, d), or that of x.

        Returns:
            The same shape.
        """
        V = np.asarray(V)
        if V.size != self.shape[0]:
            raise ValueError(
                f"V has shape {V.shape}, but should have ({self.num_examples}, {self.size}): a vector per example."
            )
        return self._counted(V.reshape(1, -1)).reshape(V.shape)

    def losses(self):
        """The loss of each example, shape (N,)."""
        return self._all(self._zeros())[1]

    def gradients(self):
        """The gradient of each example's loss by its input, shape (N, d)."""
        return self._all(self._zeros())[2]

    def top_eigenvalues(self, *, tolerance=1e-3, max_products=None, seed=0):
        """The largest eigenvalue of each H_i, by Lanczos' method on all examples at once.

        Args:
            tolerance: Of the residuals, relative to the value.
            max_products: Where to stop in any case; by default 30, and d at most.
            seed: Of the random starts.

        Returns:
            Values (N,), float64, and bounds of their errors (N,): an eigenvalue of H_i is that close.
        """
        limit = min(self.size, 30 if max_products is None else max_products)
        rng = np.random.default_rng(seed)
        q = rng.standard_normal((self.num_examples, self.size))
        basis, alphas, betas, scale = [], [], [], np.zeros(self.num_examples)
        while True:
            q /= np.linalg.norm(q, axis=1, keepdims=True)
            basis.append(q)
            product = self.products(q).astype("float64")
            scale = np.maximum(scale, np.linalg.norm(product, axis=1))
            alphas.append(np.einsum("nd,nd->n", q, product))
            q = product
            for _ in range(2):  # the second pass removes what rounding left of the first
                for row in basis:
                    q = q - np.einsum("nd,nd->n", row, q)[:, None] * row
            beta = np.linalg.norm(q, axis=1)
            values, errors = _top_of_tridiagonal(alphas, betas, beta)
            errors += rounding(self.dtype) * scale
            spent = beta <= 8 * np.finfo(self.dtype).eps * scale
            done = spent | (errors <= tolerance * np.abs(values))
            if done.all() or len(basis) == limit:
                return values, errors
            beta = np.where(spent, 0, beta)
            betas.append(beta)
            q[spent] = rng.standard_normal((int(spent.sum()), self.size))
            for row in basis:
                q = q - np.einsum("nd,nd->n", row, q)[:, None] * row

    def _zeros(self):
        return np.zeros((1, self.num_examples, self.size), self.dtype)

    def _multiply(self, rows):
        return self._all(rows.reshape(len(rows), self.num_examples, self.size))[0].reshape(rows.shape)

    def _all(self, vectors):
        start, parts = 0, []
        for batch in self._batches:
            stop = start + int(batch[0].shape[0])
            parts.append([t.numpy() for t in self._traced(batch, tf.constant(vectors[:, start:stop]))])
            start = stop
        rows, losses, gradients = zip(*parts, strict=True)
        if not all(np.isfinite(part).all() for part in losses + rows):
            raise ValueError(
                f"Loss {self._objective.loss_name!r} of some examples, or its Hessian by the input, is NaN or infinite. "
                "Check the weights, the data, and the vectors."
            )
        return np.concatenate(rows, 1), np.concatenate(losses), np.concatenate(gradients)

    def _of_batch(self, batch, vectors):
        x, y = batch
        weights = self._objective.parameters.tensors()
        with exact_second_derivatives():
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
                outer.watch(x)
                with tf.GradientTape(watch_accessed_variables=False) as inner:
                    inner.watch(x)
                    y_pred, _ = self._objective.prediction(weights, x)
                    losses = self._objective.of_examples(y, y_pred)
                gradient = inner.gradient(losses, x, unconnected_gradients="zero")

            def product(v):
                direction = tf.reshape(v, tf.shape(x))
                rows = outer.gradient(gradient, x, output_gradients=direction, unconnected_gradients="zero")
                return tf.reshape(rows, tf.shape(v))

            rows = tf.map_fn(product, vectors, parallel_iterations=1)
        return rows, losses, tf.reshape(gradient, [-1, self.size])


def _top_of_tridiagonal(alphas, betas, beta):
    """Largest eigenvalue of each tridiagonal matrix, and the residual that `beta`, what follows it, leaves."""
    m = len(alphas)
    matrices = np.zeros((len(beta), m, m))
    for i, alpha in enumerate(alphas):
        matrices[:, i, i] = alpha
    for i, off in enumerate(betas):
        matrices[:, i, i + 1] = matrices[:, i + 1, i] = off
    values, vectors = np.linalg.eigh(matrices)
    return values[:, -1], beta * np.abs(vectors[:, -1, -1])
