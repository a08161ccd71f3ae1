"""The Hessian of the training loss, known by its products with vectors.

    H = ∂²L/∂w², with L the mean loss over all examples of the given batches (see `objective`).

A product costs two to three gradients and the memory of a few; the matrix is never formed. Differentiation is
reverse over reverse in a plain `tf.function`: the one mode that works for every layer, recurrent ones
included, and that XLA does not spoil (its second derivative of max pooling is wrong).

References:
    Pearlmutter, "Fast exact multiplication by the Hessian", 1994.
"""

import tensorflow as tf

from tf_lbgap.curvature.second_order import exact_second_derivatives
from tf_lbgap.curvature.weights_operator import WeightsOperator


class HessianOperator(WeightsOperator):
    """The matrix of second derivatives of a model's mean loss by its trainable weights.

    A product is as accurate as the model's arithmetic: about 1e-6 of the largest eigenvalue in float32. It costs
    2.4 to 2.9 gradients alone and about 2.2 in a block (`matmat`), which is linearised once. Each of the two is
    traced when it is first asked for.

    The model is measured as a function of its weights: Dropout is off, and a product reads the present weights,
    so after more training the same operator is the new matrix, without compiling anew. Nothing in the model
    changes, seeds and metrics included. Layers of a mixed-precision policy compute in float32, which a warning
    says once.

    Args:
        model: A built Keras model.
        loss: A `keras.losses.Loss`, the name of one, or a function `loss(y_true, y_pred)`. With several
            outputs a list or dict of these, as in `compile`.
        batches: The data over which the loss is averaged. A tuple is one batch `(x, y)` or `(x, y,
            sample_weight)`; a list or another iterable yields batches, of any sizes; an iterator is kept as a
            list; `data.Batches` is read in storage order. x and y may be nested.
        regularization: Whether to add `model.losses` once, differentiated twice.
        variables: The weights that the matrix is restricted to: layers, names of layers, or variables. None:
            all trainable ones.
        batch_normalization: "inference" uses the moving statistics as they are; "recalibrated" the exact ones
            over `batches` at the present weights, held fixed; "batch" those of each batch, which depend on the
            weights (frozen layers excepted): then how the data are cut matters, and nothing is cut further.
        loss_weights: With several losses, as in `compile`.
        chunk_size: Longer batches are worked off in pieces of this many examples. Memory is bounded by it.
        check: Whether to compare a product with finite differences first (`check_model`; some seconds).
        jit_compile: Whether XLA compiles the product. Refused where XLA is wrong (max pooling), and slower
            than without on a CPU, where it takes seconds to compile each size of a batch.

    Attributes:
        shape: `(n, n)`, n the number of trainable weights, or of those chosen.
        dtype: Of the products: that of the weights, float32 at least.
        num_products: How many products were computed so far.
        precision: What the model computes in.
        loss: L at the weights of the last product, with which it comes; NaN before the first.

    Raises:
        ValueError: If the model is not built, random at inference, or has a loss with a state or one that is
            not finite; or if `batches` is empty or not made of batches.

    Example:
        >>> x, y = np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]])
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> HessianOperator(model, "mse", (x, y)).matvec(np.ones(1))    # 2/N Σ x² = 10
        array([10.], dtype=float32)
    """

    name = "Hessian"

    _single = None

    def _sums_for(self, num_vectors):
        """A single vector needs no loop over vectors, and without one TensorFlow leaves out more of the work."""
        if num_vectors > 1:
            return self._sums
        if self._single is None:
            self._single = self._summed(self._of_batch_single, 1, self.batches)
        self._single.batches = self.batches
        return self._single

    def _of_batch_single(self, batch, statistics, vectors):
        product, total, count = self._linearised(batch, statistics)
        return [product(vectors[0])[None], total], count

    def _rows_of_batch(self, batch, statistics, vectors):
        product, total, count = self._linearised(batch, statistics)
        return tf.map_fn(product, vectors, parallel_iterations=1), total, count

    def _linearised(self, batch, statistics):
        """Function from a vector to count times the Hessian of a batch times it; the total loss; and the count."""
        parameters = self._parameters
        with exact_second_derivatives():
            weights = parameters.tensors()
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
                outer.watch(weights)
                with tf.GradientTape(watch_accessed_variables=False) as inner:
                    inner.watch(weights)
                    total, count = self._objective.total_and_count(weights, *batch, statistics=statistics)
                gradient = inner.gradient(total, weights, unconnected_gradients="zero")
                gradient = [tf.convert_to_tensor(g) for g in gradient]

        def product(v):
            with exact_second_derivatives():
                return parameters.flatten(
                    outer.gradient(
                        gradient,
                        weights,
                        output_gradients=parameters.unflatten(v),
                        unconnected_gradients="zero",
                    )
                )

        return product, total, count
