"""Parameters of which a run by hand takes one or two, and .ci/run all."""

import pytest


def slow(*values):
    """`values` of one case as a parameter, marked slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def slow_but(kept, cases):
    """`cases` as parameters, all marked slow but those `kept`; a tuple holds the values of several arguments."""
    return [
        case if case in kept else slow(*case) if isinstance(case, tuple) else slow(case) for case in cases
    ]
