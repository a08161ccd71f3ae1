"""Losses that a remedy needs and Keras has not: smoothed labels for labels that are whole numbers.

Keras' `CategoricalCrossentropy` smooths, but wants one-hot labels; its `SparseCategoricalCrossentropy` takes whole
numbers, which all data sets here have, and does not smooth.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tf_lbgap")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy against labels of which a share ε is spread evenly over all K classes.

    The target of an example of class c is q = (1 - ε) onehot(c) + ε / K, so that

        loss = -Σ_k q_k log p_k = (1 - ε) · (-log p_c) + ε · (mean over k of -log p_k).

    It equals `keras.losses.CategoricalCrossentropy(label_smoothing=ε)` of one-hot labels. The smallest value there is
    is not 0 but the entropy of q, 0.50 for ε = 0.1 and ten classes: a target for the training loss has to lie above
    it, and losses with different ε are not to be compared. A label outside 0 .. K - 1 gives NaN.

    Args:
        label_smoothing: ε, from 0 (plain cross-entropy) to below 1; 0.1 in the paper.
        from_logits: Whether the model gives logits, as the networks of `networks` do. Keras' own default is False.
        reduction, name, dtype: As for any Keras loss.

    Raises:
        ValueError: If ε is out of range; when it is called, if labels and predictions do not fit.

    References:
        Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, section 7.

    Example:
        >>> loss = SmoothedCrossentropy(0.1)
        >>> round(float(loss(np.array([0]), np.array([[0.0, 0.0]]))), 4)    # log 2, whatever the labels
        0.6931
    """

    def __init__(
        self,
        label_smoothing=0.1,
        from_logits=True,
        reduction="sum_over_batch_size",
        name="smoothed_crossentropy",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        is_number = isinstance(label_smoothing, int | float) and not isinstance(label_smoothing, bool)
        if not is_number or not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing={label_smoothing!r} should be a number from 0 to below 1, such as 0.1."
            )
        if not isinstance(from_logits, bool):
            raise ValueError(f"from_logits={from_logits!r} should be True or False.")
        self.label_smoothing, self.from_logits = label_smoothing, from_logits

    def call(self, y_true, y_pred):
        """Return the loss of each entry.

        Args:
            y_true: Labels, shape (...) or (..., 1).
            y_pred: Logits or probabilities, shape (..., K).
        """
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        num_classes = y_pred.shape[-1]
        if len(y_true.shape) != len(y_pred.shape) - 1 or num_classes is None:
            raise ValueError(
                f"SmoothedCrossentropy takes whole numbers as labels, of shape (n,) for predictions of shape (n, K), but got "
                f"labels of shape {tuple(y_true.shape)} and predictions of shape {tuple(y_pred.shape)}. For one-hot labels "
                "use keras.losses.CategoricalCrossentropy(label_smoothing=...)."
            )
        one_hot = ops.one_hot(ops.cast(y_true, "int32"), num_classes, dtype=y_pred.dtype)
        values = keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=self.from_logits, label_smoothing=self.label_smoothing
        )
        is_class = (y_true >= 0) & (
            y_true < num_classes
        )  # else a row of zeros, and a loss that looks like one
        return ops.where(is_class, values, ops.cast(float("nan"), values.dtype))

    def get_config(self):
        """Return the arguments, plain values."""
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
        }
