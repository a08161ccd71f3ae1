"""Reading and writing the rate of a Keras optimizer, whatever it is made of.

An optimizer holds its rate in a variable, or computes it from a schedule of `iterations`, or is
wrapped in a `LossScaleOptimizer`. The callbacks go through these functions only.

The rate is multiplied for an update and put back after it. So whoever reads, writes or saves it between
updates (a checkpoint, `ReduceLROnPlateau`, a `fit` after an interrupted one) meets the optimizer's own.
"""

import weakref

import keras
import tensorflow as tf

from tf_lbgap.optimizers import Lars
from tf_lbgap.training.wrapped import innermost

_scaled = weakref.WeakKeyDictionary()  # optimizer -> (its own rate, the rate it has for this update)
_momentum_factors = weakref.WeakKeyDictionary()  # optimizer -> factor of the rate that is in its buffers


class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A Keras schedule times a factor that may change while training runs, without a new trace.

    Args:
        schedule: A Keras `LearningRateSchedule`, a function of the number of updates.
        factor: The factor to begin with.
    """

    def __init__(self, schedule, factor=1.0):
        self.schedule, self._value = schedule, factor
        dtype = "float64" if keras.config.floatx() == "float64" else "float32"
        self.factor = keras.Variable(factor, trainable=False, dtype=dtype, name="learning_rate_factor")

    def __call__(self, step):
        return self.schedule(step) * self.factor

    def set_factor(self, factor):
        if factor != self._value:
            self.factor.assign(factor)
            self._value = factor

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "factor": self._value}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["factor"])


keras.saving.register_keras_serializable(package="tf_lbgap")(ScaledSchedule)


def schedule_of(optimizer):
    """Return the Keras schedule that the optimizer computes its rate from, or None."""
    # Keras gives no public way to tell: `learning_rate` evaluates the schedule.
    rate = innermost(optimizer)._learning_rate
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None


def read_rate(optimizer):
    """Return the rate of the next update, a float."""
    copies = _copies(innermost(optimizer)._learning_rate)
    if not copies:
        return float(innermost(optimizer).learning_rate.numpy())
    # Operations by themselves, here and below: once per update, the ways around them take as long as the rest of it.
    return float(tf.raw_ops.ReadVariableOp(resource=copies[0].handle, dtype=copies[0].dtype).numpy())


def write_rate(optimizer, rate):
    """Give the optimizer, which has no schedule, a rate for the next updates; return it as `read_rate` will."""
    inner = innermost(optimizer)
    copies = _copies(inner._learning_rate)
    if not copies:
        inner.learning_rate = rate
        return read_rate(inner)
    value = tf.constant(rate, copies[0].dtype)
    for copy in copies:
        tf.raw_ops.AssignVariableOp(resource=copy.handle, value=value)
    return float(value.numpy())


def _copies(rate):
    """The variables of TensorFlow, one per replica, that a Keras variable consists of; nothing if it is none, or other."""
    if not isinstance(rate, keras.Variable):
        return ()
    copies = getattr(rate.value, "values", None) or (rate.value,)
    return copies if all(hasattr(copy, "handle") for copy in copies) else ()


def read_last_rate(optimizer):
    """Return the own rate of the last update, a float: a Keras schedule has moved on since."""
    schedule = schedule_of(optimizer)
    if schedule is None:
        return read_rate(optimizer)
    return float(keras.ops.convert_to_numpy(schedule(innermost(optimizer).iterations - 1)))


def used_rate(optimizer, stream=None, params=None):
    """Return the rate that the last update was made with (before the first: that of the next), a float.

    It does not matter whether the batch's factor has been taken out of the optimizer again, so callbacks may ask
    on either side of those that steer.

    Args:
        optimizer: A Keras optimizer.
        stream: The `data.Batches` that `fit` reads, or None.
        params: The `params` of the callback that asks.
    """
    scheduler = stream.rate_scheduler(params) if stream is not None else None
    if scheduler is not None and scheduler.rate is not None:
        return scheduler.rate
    schedule = schedule_of(optimizer)
    began = schedule is not None and int(innermost(optimizer).iterations.numpy()) > 0
    rate = read_last_rate(optimizer) if began else read_rate(optimizer)
    if stream is None or not stream.is_steered:
        return rate
    in_it = schedule._value if isinstance(schedule, ScaledSchedule) else rate_factor(optimizer)
    return rate / in_it * stream.learning_rate_factor


def scale_rate(model, factor):
    """Multiply the rate by `factor`, until `unscale_rate`."""
    inner, schedule = innermost(model.optimizer), schedule_of(model.optimizer)
    if schedule is None:
        unscale_rate(model.optimizer)
        if factor != 1.0:
            own = read_rate(inner)
            _scaled[inner] = own, write_rate(inner, own * factor)
        return
    if not isinstance(schedule, ScaledSchedule):
        if factor == 1.0:
            return
        schedule = inner._learning_rate = ScaledSchedule(schedule)
        model.make_train_function(force=True)
    schedule.set_factor(factor)


def unscale_rate(optimizer):
    """Put the optimizer's own rate back, unless somebody has written another since."""
    inner, schedule = innermost(optimizer), schedule_of(optimizer)
    own, scaled = _scaled.pop(inner, (None, None))
    if isinstance(schedule, ScaledSchedule):
        schedule.set_factor(1.0)
    elif own is not None and read_rate(inner) == scaled:
        write_rate(inner, own)


def rate_factor(optimizer):
    """Return what `scale_rate` has multiplied the rate by, 1 between updates."""
    own, scaled = _scaled.get(innermost(optimizer), (1.0, 1.0))
    return float(scaled / own) if own else 1.0


def momentum_of(optimizer):
    """Return the momentum m of SGD (0 for an optimizer without one), as in the noise scale lr / (1 - m)."""
    return float(getattr(innermost(optimizer), "momentum", 0.0) or 0.0)


def kind_of(optimizer):
    """Return the name of the optimizer's class, without wrappers, and its momentum: what rules of the rate depend on."""
    return type(innermost(optimizer)).__name__, momentum_of(optimizer)


def check_momentum_correction(optimizer):
    """Raise if the optimizer has no momentum buffer that holds the rate."""
    inner = innermost(optimizer)
    if not isinstance(inner, keras.optimizers.SGD | Lars) or not momentum_of(inner):
        raise ValueError(
            f"momentum_correction=True needs keras.optimizers.SGD or optimizers.Lars, with momentum; the model has "
            f"{type(inner).__name__} with momentum {momentum_of(inner):g}. Leave momentum_correction out."
        )


def correct_momentum(optimizer, ratio):
    """Multiply the momentum buffers by `ratio`, new rate over old (Goyal et al. 2017, remark on momentum).

    Keras' SGD keeps the rate inside the buffer, m = momentum m - lr g, so after a jump of the rate the
    buffer still moves the weights at the old one.
    """
    for buffer in getattr(innermost(optimizer), "momentums", ()):  # none before the first update
        buffer.assign(buffer * ratio)


def correct_momentum_to(optimizer, factor):
    """Correct the buffers for a rate that is `factor` times the optimizer's own."""
    old = momentum_factor(optimizer)
    if factor != old:
        correct_momentum(optimizer, factor / old)
        set_momentum_factor(optimizer, factor)


def momentum_factor(optimizer):
    """Return the factor for which `correct_momentum_to` corrected the buffers last."""
    return _momentum_factors.get(innermost(optimizer), 1.0)


def set_momentum_factor(optimizer, factor):
    """Say which factor the buffers hold, as after restoring them."""
    _momentum_factors[innermost(optimizer)] = factor
