"""Sizes of networks, and of what is put through them at a time: whole, and 1 or more."""

import numbers


def check_sizes(**named):
    """Raise ValueError, with its name, for the first argument that is no whole number from 1 up."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name}={value!r} must be a whole number, 1 or more.")
