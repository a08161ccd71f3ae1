"""How much the loss rises from the present weights to others: what the measures of sharpness have in common."""

import math
import warnings

import numpy as np


def centre(surface):
    """The present weights (n,), the mean loss there, and its gradient (n,), float64: two passes' worth of work.

    Raises:
        ValueError: If loss or gradient is not finite.
    """
    weights = surface.weights()
    value, gradient = surface.value_and_gradient(weights)
    if not (math.isfinite(value) and np.isfinite(gradient).all()):
        what = f"is {value}" if not math.isfinite(value) else "has a gradient with NaN or infinite entries"
        raise ValueError(
            f"The loss {what} at the present weights, so it has no sharpness there. Has training diverged, or do the "
            "data hold NaN?"
        )
    return weights, value, gradient


def length(vector):
    """The Euclidean norm, a float."""
    return float(np.linalg.norm(vector))


def for_each(sizes, name, measure):
    """measure(size) as a float, or as a list of floats in the order of a sequence of sizes.

    Raises:
        ValueError: If a size is not a finite number above 0.
    """
    wanted = np.atleast_1d(np.asarray(sizes, float)).ravel().tolist()
    if not all(math.isfinite(size) and size > 0 for size in wanted):
        raise ValueError(f"{name} is {sizes!r}, but should be a number above 0, or several of them.")
    found = [float(measure(size)) for size in wanted]
    _warn_of(found, sizes, name)
    return found[0] if np.ndim(sizes) == 0 else found


def _warn_of(found, sizes, name):
    if not np.isfinite(found).all():
        warnings.warn(
            f"For {name}={sizes!r} the sharpness is {found if np.ndim(sizes) else found[0]}: within that distance of the "
            f"weights the loss is not finite. Pass a smaller {name}.",
            stacklevel=4,
        )
