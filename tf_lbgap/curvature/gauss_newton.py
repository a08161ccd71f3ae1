"""The Gauss-Newton matrix: the part of the Hessian that is due to the loss, not to the network.

    G = Jᵀ (∂²ℓ/∂z²) J, with J = ∂z/∂w the Jacobian of the outputs z by the weights.

H - G is the curvature of the network itself, weighed by ∂ℓ/∂z: it fades as the training loss does. G has no
negative eigenvalue for a loss that is convex in z. A product needs first derivatives of the network only, and Jv
is had in two ways. For a block of vectors it is the derivative of Jᵀu by u in direction v (linear in u, so
exact): the network is linearised once, and it works for every layer that has a gradient. A single vector goes
forward with the network instead, which is cheaper, where TensorFlow can: not through recurrent layers.

References:
    Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", 2002.
    Townsend, "A new trick for calculating Jacobian vector products", 2017 (Jv by two reverse passes).
"""

import tensorflow as tf

from tf_lbgap.curvature.objective import num_examples
from tf_lbgap.curvature.second_order import exact_second_derivatives
from tf_lbgap.curvature.weights_operator import WeightsOperator

_NO_FORWARD = (ValueError, TypeError, LookupError, NotImplementedError, AttributeError)
"""What TensorFlow raises when it traces something that has no forward derivative, such as a loop."""


class LinearisedOperator(WeightsOperator):
    """A matrix Jᵀ F J, with J the Jacobian of some outputs and F given by its product with a change of these."""

    def _rows_of_batch(self, batch, statistics, vectors):
        x, y, *sample_weight = batch
        sample_weight = sample_weight[0] if sample_weight else None
        parameters, objective = self._parameters, self._objective
        with exact_second_derivatives():
            weights = parameters.tensors()
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
                with tf.GradientTape(persistent=True, watch_accessed_variables=False) as inner:
                    inner.watch(weights)
                    y_pred, _ = objective.prediction(weights, x, statistics)
                    outputs = self._outputs(y, y_pred, sample_weight)
                cotangents = [tf.zeros_like(z) for z in outputs]
                outer.watch(cotangents)
                pulled = _pulled(inner, outputs, weights, cotangents)
            curvature, total, count = self._curvature(y, y_pred, sample_weight, num_examples(x))
            penalty = self._penalty_product(x, statistics)

            def product(v):
                direction = parameters.unflatten(v)
                pushed = outer.gradient(
                    pulled, cotangents, output_gradients=direction, unconnected_gradients="zero"
                )
                row = parameters.flatten(_pulled(inner, outputs, weights, curvature(pushed)))
                return row if penalty is None else row + tf.cast(count, row.dtype) * penalty(direction)

            return tf.map_fn(product, vectors, parallel_iterations=1), total, count

    # A single vector.

    _forward = None

    def _sums_for(self, num_vectors):
        if num_vectors > 1 or self._forward is False:
            return self._sums
        if self._forward is None:
            self._forward = self._summed(self._of_batch_forward, 1, self.batches)
            try:
                self._forward.trace(self._forward.first())
            except _NO_FORWARD:
                self._forward = False
                return self._sums
        self._forward.batches = self.batches
        return self._forward

    def _of_batch_forward(self, batch, statistics, vectors):
        x, y, *sample_weight = batch
        sample_weight = sample_weight[0] if sample_weight else None
        parameters, objective = self._parameters, self._objective
        weights, direction = parameters.tensors(), parameters.unflatten(vectors[0])
        with exact_second_derivatives():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                with tf.autodiff.ForwardAccumulator(weights, direction) as accumulator:
                    y_pred, _ = objective.prediction(weights, x, statistics)
                    outputs = self._outputs(y, y_pred, sample_weight)
                pushed = [accumulator.jvp(z, unconnected_gradients="zero") for z in outputs]
            curvature, total, count = self._curvature(y, y_pred, sample_weight, num_examples(x))
            row = parameters.flatten(_pulled(tape, outputs, weights, curvature(pushed)))
            penalty = self._penalty_product(x, statistics)
            if penalty is not None:
                row += tf.cast(count, row.dtype) * penalty(direction)
        return [row[None], total], count

    # What a subclass says.

    def _outputs(self, y, y_pred, sample_weight):
        """The list of tensors whose Jacobian is J."""
        raise NotImplementedError

    def _curvature(self, y, y_pred, sample_weight, examples):
        """Function from a change of the outputs to F times it; the total loss; and the count."""
        raise NotImplementedError

    def _penalty_product(self, x, statistics):
        """Function from a direction to the Hessian of the penalties times it, or None."""
        objective, parameters = self._objective, self._parameters
        if not objective.regularization:
            return None
        weights = parameters.tensors()
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
            outer.watch(weights)
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(weights)
                penalties = objective.prediction(weights, x, statistics)[1]
                if not penalties:
                    return None
                value = objective.penalty(penalties, weights[0].dtype)
            gradient = inner.gradient(value, weights, unconnected_gradients="zero")
        return lambda direction: parameters.flatten(
            outer.gradient(gradient, weights, output_gradients=direction, unconnected_gradients="zero")
        )


class GaussNewtonOperator(LinearisedOperator):
    """The generalised Gauss-Newton matrix of a model's mean loss: Jᵀ (∂²ℓ/∂z²) J.

    Arguments and attributes are those of `HessianOperator`. With `regularization`, penalties add their own
    Hessian. A product costs about two gradients.

    Example:
        >>> x, y = np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]])
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> GaussNewtonOperator(model, "mse", (x, y)).matvec(np.ones(1))    # linear model: the Hessian
        array([10.], dtype=float32)
    """

    name = "Gauss-Newton matrix"

    def _outputs(self, y, y_pred, sample_weight):
        return tf.nest.flatten(y_pred)

    def _curvature(self, y, y_pred, sample_weight, examples):
        outputs = tf.nest.flatten(y_pred)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
            outer.watch(outputs)
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(outputs)
                total, count = self._objective.of_prediction(y, y_pred, sample_weight, examples)
            gradient = inner.gradient(total, outputs, unconnected_gradients="zero")

        def curvature(change):
            return outer.gradient(gradient, outputs, output_gradients=change, unconnected_gradients="zero")

        return curvature, total, count


def _pulled(tape, outputs, weights, cotangents):
    """Jᵀ times cotangents, a list of dense tensors."""
    rows = tape.gradient(outputs, weights, output_gradients=cotangents, unconnected_gradients="zero")
    return [tf.convert_to_tensor(row) for row in rows]
