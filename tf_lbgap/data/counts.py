"""Numbers of examples, characters or tokens that somebody asks for: whole, and 1 or more."""

import numbers


def is_count(value):
    """Return whether a value is a whole number from 1 up; True is none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1


def check_counts(**named):
    """Raise ValueError, with its name, for the first argument that is no whole number from 1 up."""
    for name, value in named.items():
        if not is_count(value):
            raise ValueError(f"{name}={value!r} must be a whole number, 1 or more.")
