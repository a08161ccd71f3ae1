"""The learning rate that a noise scale stands for."""

from tf_lbgap import scaling
from tf_lbgap.experiment.calls import ConfigError, as_schedule, is_call
from tf_lbgap.experiment.checks import positive
from tf_lbgap.experiment.config import DEFAULTS
from tf_lbgap.search.space import DIGITS, is_range

_MOMENTS = 500  # of training, at which a schedule is looked at


def with_rate(arm, num_train):
    """Return the keys of an arm with `learning_rate` in the place of `noise_scale`, if that is there.

    A schedule of the rate is multiplied by it: its values are shares of the rate that the noise scale gives.

    Args:
        arm: Dict without ranges.
        num_train: N, the training examples.

    Raises:
        ConfigError: If the batch is the whole training set, which has no noise.
    """
    arm = dict(arm)
    scale = arm.pop("noise_scale", None)
    if scale is None:
        return arm
    size = first_batch_size(arm)
    if size >= num_train:
        raise ConfigError(
            f"noise_scale: a batch of {size} of {num_train} training examples has no noise. Search over smaller batches."
        )
    rate = scaling.learning_rate_for_noise_scale(scale, size, num_train, momentum_of(arm))
    rate, shape = float(f"{rate:.{DIGITS}g}"), arm.get("learning_rate")
    if shape is not None:
        peak = rate_of({**arm, "learning_rate": shape})
        if abs(peak - 1) > 1e-3:
            raise ConfigError(
                f"learning_rate: beside noise_scale a schedule is a shape whose largest value is 1, but it is {peak:g}."
            )
        return {**arm, "learning_rate": {"call": "schedules.scaled", "schedule": shape, "factor": rate}}
    return {**arm, "learning_rate": rate}


def check_noise_scale(content):
    """Raise if `noise_scale` stands where it means nothing; ranges are allowed."""
    scale = content.get("noise_scale")
    if scale is None:
        return
    if not is_range(scale):
        positive(scale, "noise_scale", "or a range")
    rate = content.get("learning_rate")
    if rate is not None and not is_call(rate):
        raise ConfigError(
            "noise_scale: gives the learning rate. Leave out learning_rate, or give a schedule that begins at 1, by which it is "
            "multiplied."
        )
    if not is_sgd(content):
        call = content["optimizer"]["call"]
        raise ConfigError(
            f"noise_scale: is one of SGD, not of {call}. Give learning_rate a range instead, or use keras.optimizers.SGD."
        )


def is_sgd(arm):
    """Return whether an arm's optimizer is SGD, as far as its name tells."""
    call = str(_optimizer(arm).get("call"))
    return not call.startswith("keras.optimizers.") or call.endswith(".SGD")


def first_batch_size(arm):
    """Return the batch size that an arm begins with."""
    size = arm["batch_size"]
    return round(as_schedule(size, "batch_size")(0.0)) if is_call(size) else size


def rate_of(arm):
    """Return the learning rate of an arm, of a schedule its highest; None if only Keras knows it."""
    rate = arm.get("learning_rate")
    if is_call(rate):
        schedule, epochs = as_schedule(rate, "learning_rate"), arm.get("epochs") or 1
        return max(float(schedule(epochs * i / _MOMENTS)) for i in range(_MOMENTS))
    if rate is None:
        rate = _optimizer(arm).get("learning_rate")
    return float(rate) if isinstance(rate, (int, float)) else None


def momentum_of(arm):
    """Return the momentum of an arm's optimizer, 0 if it names none."""
    given = _optimizer(arm).get("momentum", 0.0)
    return float(given) if isinstance(given, (int, float)) else 0.0


def _optimizer(arm):
    """Return the optimizer's call; an empty dict if that is none, which is told elsewhere."""
    optimizer = arm.get("optimizer") or DEFAULTS["optimizer"]
    return optimizer if isinstance(optimizer, dict) else {}
