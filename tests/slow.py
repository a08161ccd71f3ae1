"""Parameters of which a run by hand takes one or two, and .ci/run all."""

import pytest


def slow_but(kept, values):
    """`values` as parameters, all marked slow but those `kept`; a tuple is the values of several arguments."""
    return [value if value in kept else slow(value) for value in values]


def slow(value):
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.slow)
