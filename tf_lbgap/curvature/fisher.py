"""The Fisher matrix: what the model itself, or the gradients of the examples, say about its sensitivity.

True Fisher: F = Jᵀ E[∂²ℓ/∂z²] J, the expectation over labels drawn from the model's own predictions. For the
softmax cross-entropy and the squared error ∂²ℓ/∂z² does not depend on the label, so F is the Gauss-Newton matrix.

Empirical Fisher: F = Σ_e weight_e g_e g_eᵀ / count, with g_e the gradient of one entry of the loss (an example, or
a position of a sequence) at its given label. It is no approximation of the former away from a good fit.

References:
    Amari, "Natural gradient works efficiently in learning", 1998.
    Martens, "New insights and perspectives on the natural gradient method", 2020, sections 5 to 9.
    Kunstner, Balles & Hennig, "Limitations of the empirical Fisher approximation", 2019.
"""

import keras
import tensorflow as tf

from tf_lbgap.curvature.gauss_newton import LinearisedOperator


class FisherOperator(LinearisedOperator):
    """The Fisher matrix of a model, true or empirical. It is positive semidefinite.

    For the true one the loss is taken for the negative logarithm of a likelihood: (sparse) categorical and binary
    cross-entropy, of logits or of probabilities, and the mean squared error (a normal distribution of variance
    d/2, for outputs of d entries). The empirical one takes any loss that has a value per example. A product costs
    about two gradients.

    Args:
        model: As for `HessianOperator`.
        loss: As for `HessianOperator`; a single one.
        batches: As for `HessianOperator`.
        kind: "true", over labels drawn from the predictions, or "empirical", at the given labels.
        **options: Those of `HessianOperator`, but for batch_normalization="batch", which couples examples.

    Raises:
        ValueError: As `HessianOperator`; and if the loss is not known as a likelihood.

    Example:
        >>> x, y = np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]])
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> FisherOperator(model, "mse", (x, y)).matvec(np.ones(1))    # linear model: the Hessian
        array([10.], dtype=float32)
    """

    name = "Fisher matrix"

    def __init__(self, model, loss, batches, *, kind="true", **options):
        if kind not in ("true", "empirical"):
            raise ValueError(f"kind is {kind!r}, but should be 'true' or 'empirical'.")
        if options.get("batch_normalization") == "batch":
            raise ValueError(
                "batch_normalization='batch' couples the examples of a batch, so none has a likelihood of its own. "
                "Pass 'inference' or 'recalibrated'."
            )
        self.kind = kind
        super().__init__(model, loss, batches, **options)
        if kind == "true":
            self._likelihood = _likelihood(self._objective.loss)

    def _outputs(self, y, y_pred, sample_weight):
        if self.kind == "true":
            return [y_pred]
        self._entries = self._objective.entries(y, y_pred, sample_weight)
        return [self._entries[0]]

    def _curvature(self, y, y_pred, sample_weight, examples):
        if self.kind == "true":
            values, weights, count = self._objective.entries(y, y_pred, sample_weight)
            expected = _expected(self._likelihood, y_pred)
        else:
            values, weights, count = self._entries

        def curvature(change):
            (change,) = change
            scale = tf.cast(weights, change.dtype)
            if self.kind == "empirical":
                return [scale * change]
            return [scale[..., None] * expected(change)]

        return curvature, tf.reduce_sum(weights * values), tf.cast(count, tf.float64)


_CATEGORICAL = (keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy)


_CLASSES = (*_CATEGORICAL, keras.losses.BinaryCrossentropy, keras.losses.MeanSquaredError)
_FUNCTIONS = {
    keras.losses.sparse_categorical_crossentropy: _CATEGORICAL[0],
    keras.losses.categorical_crossentropy: _CATEGORICAL[1],
    keras.losses.binary_crossentropy: keras.losses.BinaryCrossentropy,
    keras.losses.mean_squared_error: keras.losses.MeanSquaredError,
}


def _likelihood(loss):
    """The loss as a Keras object, whose options say what the outputs are."""
    if isinstance(loss, _CLASSES):
        return loss
    if getattr(loss, "__hash__", None) and loss in _FUNCTIONS:  # "mse" and other names are functions to Keras
        return _FUNCTIONS[loss]()
    name = getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__)
    raise ValueError(
        f"Loss {name!r} is not known as the logarithm of a likelihood, from which labels could be drawn. Pass "
        "kind='empirical', GaussNewtonOperator, or one of the losses SparseCategoricalCrossentropy, "
        "CategoricalCrossentropy, BinaryCrossentropy, MeanSquaredError."
    )


def _expected(loss, y_pred):
    """Function from a change of the outputs to E[∂²ℓ/∂z²] times it, per entry (the last axis is the output's)."""
    z = y_pred
    width = tf.cast(tf.shape(z)[-1], z.dtype)
    if isinstance(loss, keras.losses.MeanSquaredError):
        return lambda v: v * 2 / width
    from_logits = loss.from_logits
    if isinstance(loss, keras.losses.BinaryCrossentropy):
        p = tf.sigmoid(z) if from_logits else _clipped(z)
        variance = p * (1 - p)
        return lambda v: v * (variance if from_logits else 1 / variance) / width
    if getattr(loss, "axis", -1) not in (-1, z.shape.rank - 1):
        raise ValueError(
            f"The loss has axis={loss.axis}, but here classes should be the last axis. Transpose the outputs."
        )
    if from_logits:
        p = tf.nn.softmax(z)
        return lambda v: p * (v - tf.reduce_sum(p * v, -1, keepdims=True))
    # Keras divides by the sum, which is 1: the derivative of that sum is what is subtracted.
    return lambda v: v / _clipped(z) - tf.reduce_sum(v, -1, keepdims=True)


def _clipped(p):
    return tf.clip_by_value(p, keras.config.epsilon(), 1 - keras.config.epsilon())
