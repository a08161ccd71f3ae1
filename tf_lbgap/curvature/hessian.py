"""The Hessian of the training loss, known by its products with vectors.

    H = ∂²L/∂w², with L the mean loss over all examples of the given batches (see `objective`).

A product costs two to three gradients and the memory of a few; the matrix is never formed. Differentiation is
reverse over reverse in a plain `tf.function`: the one mode that works for every layer, recurrent ones
included, and that XLA does not spoil (its second derivative of max pooling is wrong).

References:
    Pearlmutter, "Fast exact multiplication by the Hessian", 1994.
"""

import numpy as np
import tensorflow as tf

from tf_lbgap.curvature.batches import TensorBatches, signature_of, widened
from tf_lbgap.curvature.objective import Objective
from tf_lbgap.curvature.second_order import check_second_derivatives, exact_second_derivatives


class HessianOperator:
    """The matrix of second derivatives of a model's mean loss by its trainable weights.

    The model runs in inference mode: Dropout is off and BatchNormalization uses its moving statistics
    (`recalibrate` makes them exact). Each product reads the present weights: after more training the same
    operator is the new Hessian, without compiling anew. Nothing in the model changes, seeds and metrics
    included.

    A product is as accurate as the model's arithmetic: about 1e-6 of the largest eigenvalue in float32. Each
    batch is one chunk of work, in memory a few times what a gradient takes; 512 to 2048 examples are
    efficient.

    Args:
        model: A built Keras model.
        loss: A `keras.losses.Loss`, the name of one, or a function `loss(y_true, y_pred)`.
        batches: The data over which the loss is averaged. A tuple is one batch `(x, y)` or `(x, y,
            sample_weight)`; a list or another iterable yields batches, of any sizes; an iterator is kept as a
            list; `data.Batches` is read in storage order. x and y may be nested.
        regularization: Whether to add `model.losses` once.

    Attributes:
        shape: `(n, n)`, n the number of trainable weights.
        dtype: Of the products: that of the weights, float32 at least.
        num_products: How many products were computed so far.

    Raises:
        ValueError: If the model is not built, or `batches` is empty or not made of batches.

    Example:
        >>> x, y = np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]])
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> HessianOperator(model, "mse", (x, y)).matvec(np.ones(1))    # 2/N Σ x² = 10
        array([10.], dtype=float32)
    """

    def __init__(self, model, loss, batches, *, regularization=False):
        check_second_derivatives()
        self._objective = Objective(model, loss, regularization)
        shapes = [tuple(v.shape) for v in self._objective.variables]
        self._shapes = shapes
        self._sizes = [int(np.prod(shape)) for shape in shapes]
        n = sum(self._sizes)
        self.shape = (n, n)
        self.dtype = np.result_type("float32", *(_numpy_dtype(v) for v in self._objective.variables))
        self.num_products = 0
        self._signature = None
        self._products = None
        self.batches = batches

    @property
    def batches(self):
        """The data, as tensors. Assign other data of the same structure: nothing is compiled anew."""
        return self._batches

    @batches.setter
    def batches(self, batches):
        self._batches = TensorBatches(batches, self.dtype)
        try:
            self._accept(self._batches.signature)
        except ValueError:  # another structure altogether: forget the old one
            self._signature = None
            self._accept(self._batches.signature)

    def matvec(self, v):
        """The product Hv.

        Args:
            v: Shape (n,): the model's trainable variables in order, each flattened row by row.

        Returns:
            A NumPy array of shape (n,) and of the operator's dtype, in loss / weight² times the unit of v.

        Raises:
            ValueError: If v has another shape, or the product is not finite.
        """
        v = np.asarray(v)
        if v.shape not in ((self.shape[0],), (self.shape[0], 1)):
            raise ValueError(
                f"v has shape {v.shape}, but the model has {self.shape[0]} trainable weights. Pass a vector of shape "
                f"({self.shape[0]},): the trainable variables in order, each flattened."
            )
        return self._multiply(v.reshape(1, -1))[0].reshape(v.shape)

    def matmat(self, V):
        """The product HV with several vectors, cheaper than one by one: each batch is linearised once.

        Args:
            V: Shape (n, k), a vector per column.

        Returns:
            A NumPy array of shape (n, k).

        Raises:
            ValueError: If V has another shape, or the product is not finite.
        """
        V = np.asarray(V)
        if V.ndim != 2 or V.shape[0] != self.shape[0]:
            raise ValueError(
                f"V has shape {V.shape}, but should have {self.shape[0]} rows, one per trainable weight, and a column "
                "per vector."
            )
        return self._multiply(V.T).T

    def __matmul__(self, other):
        return self.matvec(other) if np.ndim(other) == 1 else self.matmat(other)

    def _multiply(self, rows):
        rows = np.ascontiguousarray(rows, self.dtype)
        total, count = np.zeros(rows.shape), 0.0
        vectors = tf.constant(rows)
        for batch in self._batches:
            part, part_count = self._traced_for(batch)(batch, vectors)
            total += part.numpy()
            count += float(part_count)
        self.num_products += len(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            result = total / count
        if not np.isfinite(result).all():
            raise ValueError(self._explain(rows, count))
        return result.astype(self.dtype)

    def _explain(self, rows, count):
        name = self._objective.loss_name
        if not np.isfinite(rows).all():
            return f"The vector to multiply the Hessian of loss {name!r} with has NaN or infinite entries."
        if count == 0:
            return (
                f"Loss {name!r} was averaged over nothing: the batches are empty, or all of their entries are masked or "
                "of weight 0. Pass at least one example that counts."
            )
        return (
            f"The Hessian of loss {name!r} has NaN or infinite entries at the present weights. Check that the loss itself is "
            "finite (has training diverged?) and that it has second derivatives there: sqrt and norms at 0 have none."
        )

    def _accept(self, signature):
        wider = signature if self._signature is None else widened(self._signature, signature)
        if wider != self._signature:
            self._signature, self._products = wider, None

    def _traced_for(self, batch):
        self._accept(signature_of(batch))
        if self._products is None:
            vectors = tf.TensorSpec([None, self.shape[0]], self.dtype)
            function = tf.function(self._products_of_batch, autograph=False, jit_compile=False)
            self._products = function.get_concrete_function(self._signature, vectors)
        return self._products

    def _products_of_batch(self, batch, vectors):
        """Count times Hessian of one batch times each row of `vectors`, shape [k, n]; and the count."""
        with exact_second_derivatives():
            weights = [tf.convert_to_tensor(v.value) for v in self._objective.variables]
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
                outer.watch(weights)
                with tf.GradientTape(watch_accessed_variables=False) as inner:
                    inner.watch(weights)
                    total, count = self._objective.total_and_count(weights, *batch)
                gradient = _dense(inner.gradient(total, weights, unconnected_gradients="zero"))

            def product(v):
                direction = self._unflatten(v)
                rows = outer.gradient(
                    gradient, weights, output_gradients=direction, unconnected_gradients="zero"
                )
                return self._flatten(_dense(rows))

            return tf.map_fn(product, vectors, parallel_iterations=1), count

    def _unflatten(self, v):
        parts = zip(tf.split(v, self._sizes), self._objective.variables, strict=True)
        return [tf.cast(tf.reshape(part, variable.shape), variable.dtype) for part, variable in parts]

    def _flatten(self, tensors):
        return tf.concat([tf.cast(tf.reshape(t, [-1]), self.dtype) for t in tensors], 0)


def _dense(gradients):
    """Gradients of Embedding weights are IndexedSlices, which cannot be differentiated again as such."""
    return [tf.convert_to_tensor(g) for g in gradients]


def _numpy_dtype(variable):
    return "float64" if variable.dtype == "float64" else "float32"
