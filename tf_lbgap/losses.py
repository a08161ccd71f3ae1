"""Losses that Keras has not: smoothed labels and squared errors for labels that are whole numbers, and sentences of unequal length.

Keras' `CategoricalCrossentropy` smooths, but wants one-hot labels; its `SparseCategoricalCrossentropy` takes whole
numbers, which all data sets here have, and does not smooth. With `ignore_class` it leaves out padding, but is then a mean over
the tokens of a batch: which sentences share a batch decides what each of them weighs.
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


@keras.saving.register_keras_serializable("tf_lbgap")
class TokenCrossentropy(keras.losses.Loss):
    """Cross-entropy of the tokens of a sentence, padding left out: the mean over its own tokens, one value per example.

    Its mean over examples is additive over examples, however these are cut into batches: so a short last batch,
    accumulated micro-batches and measures on any subset are those of one function of the weights. A token of a short sentence
    weighs more than one of a long sentence. A sentence of padding alone has loss 0.

    Args:
        ignore_class: Token of the padding. `experiment` leaves it out of accuracies, too, those that `fit` logs among them.
        from_logits: Whether the model gives logits, as the networks of `networks` do.
        reduction, name, dtype: As for any Keras loss.

    Raises:
        ValueError: When it is called, if labels and predictions do not fit.

    Example:
        >>> loss = TokenCrossentropy()
        >>> tokens = np.array([[1, 1, 0], [1, 0, 0]])                                 # two tokens, and one
        >>> round(float(loss(tokens, np.zeros((2, 3, 4)))), 4)                        # log 4, whatever the tokens
        1.3863
    """

    def __init__(
        self,
        ignore_class=0,
        from_logits=True,
        reduction="sum_over_batch_size",
        name="token_crossentropy",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if isinstance(ignore_class, bool) or not isinstance(ignore_class, int):
            raise ValueError(
                f"ignore_class={ignore_class!r} should be a whole number, the token of the padding."
            )
        if not isinstance(from_logits, bool):
            raise ValueError(f"from_logits={from_logits!r} should be True or False.")
        self.ignore_class, self.from_logits = ignore_class, from_logits

    def call(self, y_true, y_pred):
        """Return the loss of each example.

        Args:
            y_true: Tokens, shape (n, length).
            y_pred: Logits or probabilities, shape (n, length, K).
        """
        if len(y_pred.shape) != 3 or len(y_true.shape) != 2:
            raise ValueError(
                "TokenCrossentropy takes tokens of shape (n, length) for predictions of shape (n, length, K), but got tokens of "
                f"shape {tuple(y_true.shape)} and predictions of shape {tuple(y_pred.shape)}."
            )
        y_true = ops.cast(y_true, "int32")
        is_token = ops.not_equal(y_true, self.ignore_class)
        values = ops.sparse_categorical_crossentropy(
            ops.where(is_token, y_true, 0), y_pred, from_logits=self.from_logits
        )
        counted = ops.cast(is_token, values.dtype)
        return ops.sum(values * counted, -1) / ops.maximum(ops.sum(counted, -1), 1)

    def get_config(self):
        """Return the arguments, plain values."""
        return {**super().get_config(), "ignore_class": self.ignore_class, "from_logits": self.from_logits}


@keras.saving.register_keras_serializable("tf_lbgap")
class OneHotSquaredError(keras.losses.Loss):
    """Half the squared distance between the outputs and the one-hot label, ½ Σ_k (z_k - onehot(c)_k)².

    A sum over classes, a mean over examples, as in the code of Cohen et al.; so it is K / 2 times Keras' `MeanSquaredError` of
    one-hot labels. Its curvature does not fade as the fit gets perfect, as that of cross-entropy does.

    Args:
        reduction, name, dtype: As for any Keras loss.

    Raises:
        ValueError: When it is called, if labels and predictions do not fit.

    References:
        Cohen, Kaur, Li, Kolter & Talwalkar, "Gradient descent on neural networks typically occurs at the edge of
        stability", 2021.

    Example:
        >>> float(OneHotSquaredError()(np.array([0]), np.array([[0.0, 2.0]])))    # ½ (1 + 4)
        2.5
    """

    def __init__(self, reduction="sum_over_batch_size", name="one_hot_squared_error", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each example, for labels of shape (...) or (..., 1) and outputs of shape (..., K)."""
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, -1)
        if len(y_true.shape) != len(y_pred.shape) - 1:
            raise ValueError(
                f"OneHotSquaredError takes whole numbers as labels, of shape (n,) for outputs of shape (n, K), but got "
                f"labels of shape {tuple(y_true.shape)} and outputs of shape {tuple(y_pred.shape)}. For one-hot labels use "
                "keras.losses.MeanSquaredError()."
            )
        one_hot = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return ops.sum(ops.square(y_pred - one_hot), axis=-1) / 2
