"""What an optimizer may be given: one clear line where it is something else."""

import math
import numbers


def require(optimizer, name, value, low, high=math.inf, *, below=False):
    """Return a number of a range as a float.

    Args:
        optimizer: The name of the optimizer, for the message.
        name: The name of the argument.
        value: What was given.
        low: The least it may be.
        high: The most it may be; with `below`, what it has to be below of.

    Raises:
        ValueError: If it is no such number.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and low <= value and (value < high if below else value <= high):
        return float(value)
    end = "up" if high == math.inf else f"{'to below' if below else 'to'} {high:g}"
    raise ValueError(f"{name} of {optimizer} must be a number from {low:g} {end}, but got {value!r}.")


def flag(optimizer, name, value):
    """Return True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} of {optimizer} must be True or False, but got {value!r}.")
    return value


def rate(optimizer, value):
    """Return a learning rate, or a schedule or function of one, as Keras takes it: no whole number."""
    return value if callable(value) else require(optimizer, "learning_rate", value, 0)
