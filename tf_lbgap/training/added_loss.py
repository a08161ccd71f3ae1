"""Further terms in the loss that the user's own `train_step` differentiates."""

import keras
import tensorflow as tf

from tf_lbgap.training import gradients
from tf_lbgap.training.held import held_in_thread


def step_with_loss(model, step, data, change, who):
    """Run a step in which the loss is `change(loss, compute, y, y_pred, sample_weight)`; return its logs.

    Args:
        model: A compiled Keras model.
        step: Function of a batch that applies `model.optimizer` once.
        data: The batch.
        change: Function of the loss, of the model's own `compute_loss(x, y, y_pred, sample_weight)`, and of what that was
            called with.
        who: Who asks, for messages.

    Raises:
        ValueError: If its `train_step` does not ask for the loss there.
    """
    takes_training, asked = model._compute_loss_has_training_arg, []

    def changed(own):
        def compute(x, y, y_pred, sample_weight):
            training = {"training": True} if takes_training else {}
            return own(x, y, y_pred, sample_weight, **training)

        def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
            asked.append(None)
            return change(compute(x, y, y_pred, sample_weight), compute, y, y_pred, sample_weight)

        return compute_loss

    with held_in_thread(model, "compute_loss", changed), gradients.taken(model.optimizer) as calls:
        logs = step(data)
    if len(asked) != 1:
        raise ValueError(
            f"{who} adds a term to the loss, but train_step of model {model.name!r} calls self.compute_loss(x, y, y_pred, "
            f"sample_weight) {len(asked)} times. Let it do so once, or train without {who}."
        )
    model.optimizer.apply(*gradients.once(calls, (who, f"train without {who}")))
    return logs


def forward(model, x):
    """Outputs of the model in training mode."""
    return model(x, training=True) if model._call_has_training_arg else model(x)


def one_input(data, who):
    """Return x, y and the sample weights of a batch, for a change that moves x.

    Raises:
        ValueError: If x is not one floating-point array.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if not tf.is_tensor(x) or not x.dtype.is_floating:
        what = x.dtype.name if tf.is_tensor(x) else f"a {type(x).__name__}"
        raise ValueError(
            f"{who} moves the input by small steps, and x is {what}: give fit one array of floating-point numbers, such as "
            f"x.astype('float32') / 255, or train without {who}."
        )
    return x, y, sample_weight


def check_one_output(model, who):
    """Raise if the loss of a model is not that of one output."""
    outputs = tf.nest.flatten(getattr(model, "outputs", None) or [None])
    if len(outputs) > 1 or model.loss is None or isinstance(model.loss, (list, tuple, dict)):
        has = "was compiled without a loss" if model.loss is None else "has several outputs or losses"
        raise ValueError(
            f"{who} needs the loss of one output, and model {model.name!r} {has}. Train a model with one, or without {who}."
        )
