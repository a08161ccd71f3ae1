"""Noise of the size of an attack: the controls that tell a direction from a distance.

A network that loses as much to `random_sign` as to `fgsm` is not robust to noise; what the attack takes beyond that is
owed to its direction. Neither asks the model anything.
"""

import tensorflow as tf

from tf_lbgap.attacks.calls import attacked, seed_tensor
from tf_lbgap.attacks.limits import clipped, unit_vectors


def random_sign(model, loss, x, y, *, epsilon, data_range=None, seed=0):
    """x + ε s with s of independent random signs: the control of `fgsm`, in the L∞ ball.

    Args:
        model: As for `fgsm`. Not asked, like the loss and the labels.
        loss: As for `fgsm`.
        x: As for `fgsm`.
        y: As for `fgsm`.
        epsilon: ε, the L∞ norm.
        data_range: As for `fgsm`.
        seed: A whole number: equal seeds give equal noise, in a traced training step the same at every step.
            A `keras.random.SeedGenerator` gives new noise at each call. XLA draws other normal numbers.

    Returns:
        A tensor of the shape and type of x.
    """
    return attacked(_random_sign, model, loss, x, y, epsilon, data_range, seed=seed_tensor(seed))


def gaussian(model, loss, x, y, *, epsilon, data_range=None, seed=0):
    """x + ε n / ‖n‖₂ with n of independent normal entries: the control of `l2grad`, on the L2 sphere.

    Args:
        model: As for `fgsm`. Not asked, like the loss and the labels.
        loss: As for `fgsm`.
        x: As for `fgsm`.
        y: As for `fgsm`.
        epsilon: ε, the L2 norm of the noise of each example, not a standard deviation: an entry has about ε / √d.
        data_range: As for `fgsm`.
        seed: As for `random_sign`.

    Returns:
        A tensor of the shape and type of x.
    """
    return attacked(_gaussian, model, loss, x, y, epsilon, data_range, seed=seed_tensor(seed))


def _random_sign(losses, x, y, epsilon, limits, seed):
    signs = 2 * tf.random.stateless_uniform(tf.shape(x), seed, 0, 2, tf.int32) - 1
    return clipped(x + epsilon * tf.cast(signs, x.dtype), x, limits)


def _gaussian(losses, x, y, epsilon, limits, seed):
    direction, _ = unit_vectors(tf.random.stateless_normal(tf.shape(x), seed, dtype=x.dtype))
    return clipped(x + epsilon * direction, x, limits)
