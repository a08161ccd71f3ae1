"""Methods of `tf.data.Dataset` that would hide a stream from `fit`, and what to do instead.

What they return is another data set: Keras would not ask the stream how long an epoch is, and a
buffer in front of it would make a new batch size hold late.
"""

import tensorflow as tf

_INSTEAD = {
    "map": "To augment, give Batches(..., map=function).",
    "repeat": "fit(batches, epochs=...) already reads it once per epoch.",
    "shuffle": "It is shuffled already, seeded by Batches(..., seed=).",
    "batch": "It is batched already: give Batches(..., batch_size=).",
    "rebatch": "It is batched already: give Batches(..., batch_size=).",
    "unbatch": "Use batches.in_order(1).unbatch() for single examples.",
    "prefetch": "It prefetches by itself where that is exact.",
    "cache": "Cache the data set that you give to Batches.from_dataset.",
    "filter": "Filter the data before you give them to Batches.",
}


def refuse_transformations(stream_class):
    """Class decorator: replace those methods by a clear error."""
    for name, instead in _INSTEAD.items():
        setattr(stream_class, name, _refuse(name, instead))
    return stream_class


def _refuse(name, instead):
    def refused(self, *args, **kwargs):
        function = getattr(args[0], "__module__", "") if args else ""
        if name == "map" and function.startswith("tensorflow."):  # a strategy takes the batches apart
            return tf.data.Dataset.map(self, *args, **kwargs)
        if name == "map" and function.startswith("keras."):
            raise ValueError(
                "fit was given class_weight: give it to the stream instead, Batches(..., class_weight=)."
            )
        raise ValueError(f"Batches.{name}() would hide the stream from fit and its callbacks. {instead}")

    refused.__doc__ = f"Refused: {instead}"
    return refused
