"""What the callbacks of a `fit` remember.

A callback with `get_state()` and `set_state(state)` says itself. Keras' own have no such methods, and forget how long
they have been patient when a fit begins; so their attributes are named here.
"""

import keras

_ATTRIBUTES = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: (
        "best",
        "epochs_since_last_save",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
    ),
    keras.callbacks.TensorBoard: ("_global_train_batch", "_global_test_batch"),
    keras.callbacks.History: ("epoch", "history"),
}


def read(callbacks):
    """Return the state of each callback that has one, by its class and its place among those of the class."""
    found = {}
    for name, callback in _named(callbacks):
        if hasattr(callback, "get_state"):
            found[name] = callback.get_state()
        for kind, attributes in _ATTRIBUTES.items():
            if isinstance(callback, kind):
                found[name] = {key: getattr(callback, key) for key in attributes if hasattr(callback, key)}
    return found


def write(callbacks, states):
    """Give the callbacks the state that `read` returned; return the names of those that are not there."""
    missing = set(states)
    for name, callback in _named(callbacks):
        if name not in states:
            continue
        missing.discard(name)
        if hasattr(callback, "set_state"):
            callback.set_state(states[name])
        else:
            for key, value in states[name].items():
                setattr(callback, key, value)
    return sorted(missing)


def _named(callbacks):
    counts = {}
    for callback in callbacks:
        kind = type(callback).__name__
        counts[kind] = counts.get(kind, 0) + 1
        yield f"{kind}_{counts[kind]}", callback
