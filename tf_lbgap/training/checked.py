"""Arguments of changes of the update: the value itself, or one line that says what was wanted."""

import math
import numbers


def at_least(low, who, *, most=math.inf, **named):
    """Return the one named argument as a float from `low` to `most`."""
    [(name, value)] = named.items()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not low <= value <= most or not math.isfinite(value):
        upper = f" to {most:g}" if most < math.inf else " up"
        raise ValueError(f"{who}({name}={value!r}): {name} must be a number from {low:g}{upper}.")
    return float(value)


def check_whole(who, **named):
    """Return the one named argument as a whole number of at least 1."""
    [(name, value)] = named.items()
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{who}({name}={value!r}): {name} must be a whole number of at least 1.")
    return int(value)
