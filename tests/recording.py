"""A model that tells which examples it was trained on, and how often its optimizer acted.

Its inputs are ids. The loss is zero whatever the weights, so nothing but weight decay moves them:
w = (1 - rate decay)^updates counts the decays, also those of an update without data.
"""

import keras
import numpy as np
import tensorflow as tf

RATE, DECAY = 0.5, 0.01


class Recorder(keras.layers.Layer):
    """Passes its input on and notes the ids of each training batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, inputs, training=False):
        if training:

            def note(ids):
                self.seen.append(ids[:, 0].astype(int))
                return ids

            shape = inputs.shape
            inputs = tf.numpy_function(note, [inputs], tf.float32)
            inputs.set_shape(shape)
        return inputs


def recording_model(**compile_options):
    """Return a compiled model; `model.layers[0].seen` is the list of id arrays, one per batch."""
    recorder = Recorder()
    model = keras.Sequential([keras.Input((1,)), recorder, keras.layers.Dense(1, kernel_initializer="ones")])
    options = {
        "optimizer": keras.optimizers.SGD(RATE, weight_decay=DECAY),
        "loss": no_loss,
        **compile_options,
    }
    model.compile(**options)
    return model


def no_loss(y_true, y_pred):
    return 0.0 * keras.ops.mean(y_pred, axis=-1)


def sizes_seen(model):
    """Return the batch sizes in the order they came; under a strategy, of each replica's share."""
    return [len(ids) for ids in model.layers[0].seen]


def epochs_seen(model, num_updates):
    """Return the ids of each epoch, given the number of updates of each."""
    seen, epochs = list(model.layers[0].seen), []
    for count in num_updates:
        epochs.append(np.concatenate(seen[:count]))
        seen = seen[count:]
    assert not seen
    return epochs


def num_decays(model):
    """Return how often weight decay was applied."""
    kernel = float(model.layers[1].kernel.numpy()[0, 0])
    return round(np.log(kernel) / np.log(1 - RATE * DECAY))


def num_iterations(model):
    return int(model.optimizer.iterations.numpy())


def ids(n):
    """Return inputs and targets whose values are their own indices."""
    values = np.arange(n, dtype=np.float32)[:, None]
    return values, values
