"""Which predictions are right: of C classes, or of two by one output, with labels as Keras' losses take them."""

import keras
import tensorflow as tf

from tf_lbgap.curvature.objective import checked_loss, loss_name

_ADVICE = "Pass correct=, a function (y, y_pred) that returns a bool for each example."


def right_predictions(loss):
    """Return the function `(y, y_pred) -> bool of each example` that belongs to a loss of classification.

    With C > 1 outputs the largest counts, against a class number (examples,) or (examples, 1), or a row with a
    one for the class (examples, C). One output is of two classes: labels 0 and 1, or -1 and 1, against a
    threshold of 0 for logits and hinge losses, of 1/2 for probabilities.

    Args:
        loss: A `keras.losses.Loss`, the name of one, or a function.
    """
    loss = checked_loss(loss)

    def right(y, y_pred):
        if y_pred.shape.rank == 1:
            y_pred = y_pred[:, None]
        if y_pred.shape.rank != 2 or y_pred.shape[-1] is None:
            raise ValueError(
                f"The model's output has shape {y_pred.shape}, but accuracy is known for (examples, classes) alone. {_ADVICE}"
            )
        if y_pred.shape[-1] == 1:
            return tf.equal(tf.cast(_column(y, y_pred), tf.float32) > 0.5, y_pred[:, 0] > _threshold(loss))
        _refuse_labels_side_by_side(loss)
        if y.shape.rank == 2 and y.shape[-1] == y_pred.shape[-1]:
            y = tf.argmax(y, -1)
        return tf.equal(tf.cast(_column(y, y_pred), tf.int64), tf.argmax(y_pred, -1))

    return right


def _column(y, y_pred):
    if y.shape.rank == 2 and y.shape[-1] == 1:
        y = y[:, 0]
    if y.shape.rank != 1:
        raise ValueError(
            f"y has shape {y.shape} and the model's output {y_pred.shape}: these are neither class numbers nor rows with "
            f"a one for the class. {_ADVICE}"
        )
    return y


_HINGES = (keras.losses.Hinge, keras.losses.SquaredHinge, keras.losses.hinge, keras.losses.squared_hinge)
_BINARY = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
_BINARY_FUNCTIONS = (keras.losses.binary_crossentropy, keras.losses.binary_focal_crossentropy)


def _is_one_of(loss, known):
    return any(loss is each or (isinstance(each, type) and isinstance(loss, each)) for each in known)


def _threshold(loss):
    if _is_one_of(loss, _HINGES):
        return 0.0
    if _is_one_of(loss, _BINARY):
        return 0.0 if loss.from_logits else 0.5
    if _is_one_of(loss, _BINARY_FUNCTIONS):
        return 0.5
    raise ValueError(
        f"The model has one output, and loss {loss_name(loss)!r} does not say from where on it means the second class. {_ADVICE}"
    )


def _refuse_labels_side_by_side(loss):
    if _is_one_of(loss, (*_HINGES, *_BINARY, *_BINARY_FUNCTIONS)):
        raise ValueError(
            f"Loss {loss_name(loss)!r} takes each of several outputs for a question of its own, so an example may be "
            f"partly right. {_ADVICE}"
        )
