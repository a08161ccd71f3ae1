"""A copy of a model whose batch normalization sees ghost batches, without a change of the model's code."""

import keras

from tf_lbgap.layers.ghost_batch_normalization import GhostBatchNormalization

_LEFT_OUT = ("renorm", "renorm_clipping", "renorm_momentum", "synchronized")


def with_ghost_batch_normalization(model, ghost_batch_size):
    """Copy a model, with `GhostBatchNormalization` in the place of every `BatchNormalization`.

    The copy has the same layers under the same names, models inside of it included, and the same weights,
    moving statistics among them. In inference it is the same function. The model itself stays as it is.

    Args:
        model: A functional or sequential Keras model, built.
        ghost_batch_size: Most examples that a layer normalizes together. Layers that are ghost batch
            normalizations already get this one, too.

    Returns:
        A model, compiled as the given one is, if it is, with a new optimizer.

    Raises:
        ValueError: If the model is neither, is not built, has no batch normalization, or has one that cannot
            be replaced: inside another layer, or with `renorm` or `synchronized`.

    Example:
        >>> model = with_ghost_batch_normalization(networks.f1(), 128)
        >>> model.layers[2].ghost_batch_size
        128
    """
    _check(model)

    def clone(layer):
        if not isinstance(layer, keras.layers.BatchNormalization):
            return layer.__class__.from_config(layer.get_config())
        config = layer.get_config()
        if config["renorm"] or config["synchronized"]:
            raise ValueError(
                f"Layer {layer.name!r} has renorm or synchronized, which ghost batches have not. "
                "Build the model without."
            )
        kept = {name: value for name, value in config.items() if name not in _LEFT_OUT}
        return GhostBatchNormalization.from_config({**kept, "ghost_batch_size": ghost_batch_size})

    copy = keras.models.clone_model(model, _inputs(model), clone_function=clone, recursive=True)
    left = [layer.name for layer in _batch_normalizations(copy) if not _is_ghost(layer, ghost_batch_size)]
    if left:
        raise ValueError(
            f"The batch normalization {', '.join(left)} is inside another layer, where it cannot be replaced. "
            "Let that layer make a GhostBatchNormalization itself."
        )
    copy.set_weights(model.get_weights())
    return copy


def _inputs(model):
    """Inputs like those of a functional model: left to itself, Keras gives them other names."""
    if isinstance(model, keras.Sequential):
        return None

    def again(tensor):
        layer = tensor._keras_history.operation
        return keras.Input(
            batch_shape=layer.batch_shape, dtype=layer.dtype, name=layer.name, optional=layer.optional
        )

    return keras.tree.map_structure(again, model.input)


def _is_ghost(layer, ghost_batch_size):
    return isinstance(layer, GhostBatchNormalization) and layer.ghost_batch_size == ghost_batch_size


def _batch_normalizations(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def _check(model):
    if not isinstance(model, keras.Sequential | keras.src.models.functional.Functional):
        raise ValueError(
            f"Only functional and sequential models can be copied layer by layer, but this is a "
            f"{type(model).__name__}. Let it make layers.GhostBatchNormalization itself."
        )
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} has no weights yet. Give it a keras.Input, or build it first."
        )
    if not _batch_normalizations(model):
        raise ValueError(f"The model {model.name!r} has no BatchNormalization that could be replaced.")
