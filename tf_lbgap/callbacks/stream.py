"""Whether `fit` reads the stream that a callback was given.

A callback on one stream and `fit` on another would train on, but on sizes and rates that nobody
asked for. TensorFlow's default strategy iterates the data set of `fit` itself; other strategies
read a copy of its graph, and only the question for its cardinality reaches ours.
"""

import collections

from tf_lbgap import strategy

Mark = collections.namedtuple("Mark", ["made", "asked"])


def check_batches(batches, callback):
    """Raise unless `batches` is a stream that can be steered."""
    if not hasattr(batches, "claim"):
        raise ValueError(
            f"{type(callback).__name__} works with a tf_lbgap.data.Batches, not with {type(batches).__name__}. "
            "Write batches = lb.data.Batches(x, y, batch_size=...) and give it to fit and to the callback."
        )


def mark(batches):
    """Remember how often the stream was read until now."""
    return Mark(batches.iterators_made, batches.cardinality_asked)


def check_read(callback, since):
    """Raise if `fit` has not begun to read the callback's stream since the mark."""
    now = mark(callback.batches)
    default = strategy.is_default(strategy.of(callback.model))
    if not (now.made > since.made if default else now.asked > since.asked):
        raise ValueError(
            f"{type(callback).__name__} was given a stream that fit does not read. Give both the same Batches, "
            "unchanged: model.fit(batches, callbacks=[...(batches, ...)]). To transform batches use Batches(..., map=)."
        )
