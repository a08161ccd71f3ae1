"""Which variables belong to which layer."""


def by_layer(variables):
    """Return a dict from the path of a layer to the positions of its variables.

    Args:
        variables: Keras variables, such as `model.trainable_variables`.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")])
        >>> by_layer(model.trainable_variables)
        {'out': [0, 1]}
    """
    layers = {}
    for position, variable in enumerate(variables):
        path = variable.path.rpartition("/")[0] or variable.path
        layers.setdefault(path, []).append(position)
    return layers
