"""Further terms in the loss that the user's own `train_step` differentiates."""

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
    if not asked:
        raise ValueError(
            f"{who} adds a term to the loss, but train_step of model {model.name!r} does not call self.compute_loss(x, y, "
            f"y_pred, sample_weight). Let it, or train without {who}."
        )
    model.optimizer.apply(*gradients.once(calls, (who, f"train without {who}")))
    return logs


def forward(model, x):
    """Outputs of the model in training mode."""
    return model(x, training=True) if model._call_has_training_arg else model(x)
