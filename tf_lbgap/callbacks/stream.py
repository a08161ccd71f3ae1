"""Whether `fit` reads the stream that a callback was given.

A callback on one stream and `fit` on another would train on, but on sizes and rates that nobody
asked for.
"""

from tf_lbgap.data.keras_calls import keras_calls


def check_batches(batches, callback):
    """Raise unless `batches` is a stream that can be steered."""
    if not hasattr(batches, "steer"):
        raise ValueError(
            f"{type(callback).__name__} works with a tf_lbgap.data.Batches, not with {type(batches).__name__}. "
            "Write batches = lb.data.Batches(x, y, batch_size=...) and give it to fit and to the callback."
        )


def check_read(callback):
    """Raise unless the `fit` that calls reads the callback's stream."""
    arguments = fit_arguments()
    if arguments is not None and arguments.get("x") is not callback.batches:
        raise ValueError(
            f"{type(callback).__name__} was given a stream that fit does not read. Give both the same Batches, "
            "unchanged: model.fit(batches, callbacks=[...(batches, ...)]). To transform batches use Batches(..., map=)."
        )


def fit_arguments():
    """Return the arguments of the `fit` that calls, or None in somebody's own training loop."""
    return next((arguments for method, arguments in keras_calls() if method == "fit"), None)
