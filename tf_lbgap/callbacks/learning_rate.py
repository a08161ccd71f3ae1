"""Reading and writing the rate of a Keras optimizer, whatever it is made of.

An optimizer holds its rate in a variable, or computes it from a schedule of `iterations`, or is
wrapped in a `LossScaleOptimizer`. The callbacks go through these functions only.
"""

import keras


class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A Keras schedule times a factor that may change while training runs, without a new trace.

    Args:
        schedule: A Keras `LearningRateSchedule`, a function of the number of updates.
        factor: The factor to begin with.
    """

    def __init__(self, schedule, factor=1.0):
        self.schedule = schedule
        self.factor = keras.Variable(factor, trainable=False, dtype="float32", name="learning_rate_factor")

    def __call__(self, step):
        return self.schedule(step) * self.factor

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "factor": float(self.factor.numpy()),
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["factor"])


keras.saving.register_keras_serializable(package="tf_lbgap")(ScaledSchedule)


def innermost(optimizer):
    """Return the optimizer inside wrappers such as `LossScaleOptimizer`."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def schedule_of(optimizer):
    """Return the Keras schedule that the optimizer computes its rate from, or None."""
    # Keras gives no public way to tell: `learning_rate` evaluates the schedule.
    rate = innermost(optimizer)._learning_rate
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None


def read_rate(optimizer):
    """Return the rate of the next update, a float."""
    return float(innermost(optimizer).learning_rate.numpy())


def momentum_of(optimizer):
    """Return the momentum m of SGD (0 for an optimizer without one), as in the noise scale lr / (1 - m)."""
    return float(getattr(innermost(optimizer), "momentum", 0.0) or 0.0)


def check_momentum_correction(optimizer):
    """Raise if the optimizer has no momentum buffer that holds the rate."""
    inner = innermost(optimizer)
    if not isinstance(inner, keras.optimizers.SGD) or not momentum_of(inner):
        raise ValueError(
            f"momentum_correction=True needs keras.optimizers.SGD with momentum; the model has "
            f"{type(inner).__name__}. Leave momentum_correction out."
        )


def correct_momentum(optimizer, ratio):
    """Multiply the momentum buffers by `ratio`, new rate over old (Goyal et al. 2017, remark on momentum).

    Keras' SGD keeps the rate inside the buffer, m = momentum m - lr g, so after a jump of the rate the
    buffer still moves the weights at the old one.
    """
    for buffer in innermost(optimizer).momentums:
        buffer.assign(buffer * ratio)
