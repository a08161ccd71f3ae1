"""What an advisor can be asked, and what it cannot."""

import math
import numbers

from tf_lbgap.data import Batches
from tf_lbgap.training.train_functions import check_model


def check_question(model, batches, target_loss, budget):
    """Raise a ValueError that says what came, what was wanted, and what to type, if one of these is wrong."""
    if not isinstance(batches, Batches):
        raise ValueError(
            f"batches is a {type(batches).__name__}, but other sizes are to be cut from it. Pass "
            "lb.data.Batches(x, y, batch_size=...), with the size you would have used."
        )
    check_model(model)
    if model.loss is None:
        raise ValueError(
            f"Model {model.name!r} was compiled without a loss, so there is no clean loss to race to. Compile it with one."
        )
    if not isinstance(batches.element_spec, tuple):
        raise ValueError(
            "batches holds no targets, which the loss is made from. Pass lb.data.Batches(x, y, batch_size=...)."
        )
    for name, value in {"budget": budget, "target_loss": target_loss}.items():
        if value is None and name == "target_loss":
            continue
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} must be a positive number.")


def check_start(start_loss, target_loss):
    """Raise if there is nothing to train."""
    if not math.isfinite(start_loss):
        raise ValueError(
            f"The loss of the model as it stands is {start_loss}, so nothing can be trained from here. Do the data or the "
            "weights hold NaN?"
        )
    if target_loss is not None and start_loss <= target_loss:
        raise ValueError(
            f"The training loss is {start_loss:.4g} before the first update, and target_loss={target_loss:g} is reached. "
            f"Pass a lower one, such as target_loss={start_loss / 10:.2g}, or a model that is not trained."
        )
