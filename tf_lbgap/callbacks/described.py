"""What was trained and measured, in words for captions: plain values, kept beside the numbers in event files."""

import tensorflow as tf

from tf_lbgap.callbacks import learning_rate as rates


def described(model):
    """Return the names of a compiled model, its optimizer and its device, a dict."""
    return {
        "model": model.name,
        "optimizer": type(rates.innermost(model.optimizer)).__name__,
        "device": _device(),
    }


def name_of_loss(loss):
    """Return what a loss is called: a name, a function or a Keras loss."""
    if isinstance(loss, (str, type(None))):
        return str(loss)
    return getattr(loss, "__name__", None) or type(loss).__name__


def _device():
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
