"""One seed for a network, a different one for each of its layers.

Two arms of an experiment should start from the same weights, so a network takes one `seed`. Handing that
number to every initializer would be a mistake: Keras initializers are stateless, and two layers of equal
shape with equal seeds get equal weights. So each layer gets a seed derived from (seed, position).
"""

import itertools
import numbers

import numpy as np


def layer_seeds(seed):
    """Return an endless iterator of seeds, one for each layer that draws random numbers, in order of creation.

    Args:
        seed: Integer from 0 up, or `None`.

    Returns:
        An iterator of ints in [0, 2³¹), hashed from (seed, position) by `numpy.random.SeedSequence`; for
        `None`, an iterator of `None`, which makes Keras draw from its global seed.

    Raises:
        ValueError: If `seed` is neither `None` nor an integer from 0 up.
    """
    if seed is None:
        return itertools.repeat(None)
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(
            f"seed={seed!r} came in, but the seed of a network is an integer from 0 up, or None for "
            "Keras' global seed. Pass seed=0, say."
        )
    return (_derived(int(seed), position) for position in itertools.count())


def _derived(seed, position):
    # 31 of the 32 bits: TensorFlow's stateless generators take a signed int32.
    return int(np.random.SeedSequence((seed, position)).generate_state(1)[0] >> 1)
