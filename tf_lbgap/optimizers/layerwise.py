"""What LARS and LAMB have in common: a step's length is a matter of each layer, and decay is in the step.

A layer is a variable here, as in the authors' code: a kernel has one length, its bias another.
"""

import re

import keras
import tensorflow as tf

from tf_lbgap.optimizers import ranges


class Layerwise(keras.optimizers.Optimizer):
    """An optimizer that scales the step of every variable, but for those that are left out, by their norms.

    Args:
        learning_rate: A float, a Keras schedule, or a function without arguments.
        weight_decay: λ of the paper, from 0 up.
        exclude: Regular expressions; a variable in whose path (such as "dense_1/kernel") one is found is left
            out.
        exclude_vectors: Whether variables with one axis, or none, are left out as well.
        **options: Of `keras.optimizers.Optimizer`.
    """

    def __init__(self, learning_rate, weight_decay, exclude, exclude_vectors, **options):
        of = type(self).__name__
        super().__init__(ranges.rate(of, learning_rate), **options)
        self.weight_decay = ranges.require(of, "weight_decay", weight_decay, 0)
        self.exclude = _patterns(of, exclude)
        self.exclude_vectors = ranges.flag(of, "exclude_vectors", exclude_vectors)
        self._left_out = frozenset()

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        for pattern in self.exclude:
            if not any(re.search(pattern, path) for path in paths):
                raise ValueError(
                    f"exclude of {type(self).__name__} has {pattern!r}, which is in no variable's path. "
                    f"They are {', '.join(paths)}."
                )
        self._left_out = frozenset(
            i
            for i, (variable, path) in enumerate(zip(variables, paths, strict=True))
            if (self.exclude_vectors and len(variable.shape) <= 1)
            or any(re.search(pattern, path) for pattern in self.exclude)
        )

    def is_excluded(self, variable):
        """Whether a variable takes plain steps, without decay."""
        return self._get_variable_index(variable) in self._left_out

    def decay_of(self, variable):
        """λ for a variable, a float: 0 if it is left out, here or by `exclude_from_weight_decay`."""
        decays = not self.is_excluded(variable) and self._use_weight_decay(variable)
        return self.weight_decay if decays else 0.0

    def _apply_weight_decay(self, variables):
        """Nothing: Keras would shrink the weights here, apart from the step; ours has λ in it."""

    def get_config(self):
        return {
            **super().get_config(),
            "exclude": list(self.exclude),
            "exclude_vectors": self.exclude_vectors,
        }


def dense(gradient, variable):
    """The gradient as a tensor in the type of the variable, also of an embedding, whose norm needs all of it."""
    return tf.convert_to_tensor(tf.cast(gradient, variable.dtype))


def half_norm(x):
    """‖x‖ / √2 over all entries: quotients of norms lack nothing without the √2, and it costs an operation.

    In one pass, and in float32 at least: squares of float16 overflow.
    """
    x = tf.convert_to_tensor(x)
    return tf.sqrt(tf.nn.l2_loss(tf.cast(x, tf.float32) if x.dtype.size < 4 else x))


def where_positive(one, other, value):
    """A scalar value where both norms are above 0, else 1: a layer that starts at 0 has to move, too."""
    return tf.where(tf.minimum(one, other) > 0, value, 1.0)


def _patterns(of, exclude):
    if isinstance(exclude, str) or not all(isinstance(pattern, str) for pattern in exclude):
        raise ValueError(
            f"exclude of {of} must be a list of regular expressions, such as ['embedding'], "
            f"but got {exclude!r}."
        )
    for pattern in exclude:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"exclude of {of} has {pattern!r}, which is no regular expression: {error}."
            ) from None
    return tuple(exclude)
