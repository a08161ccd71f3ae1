"""JSON as browsers read it: NaN and infinities travel as the strings "NaN", "Infinity" and "-Infinity"."""

import json

import numpy as np


def numbers(values):
    """Return an array of any shape as nested lists, whole numbers as int, others as float or one of the strings."""
    values = np.asarray(values)
    if values.ndim > 1:
        return [numbers(row) for row in values]
    if values.dtype.kind in "iub":
        return values.tolist()
    listed = values.tolist()
    for i in np.flatnonzero(~np.isfinite(values)):
        listed[i] = number(listed[i])
    return listed


def number(value):
    """Return one float, or its string if it is not finite."""
    if value != value:
        return "NaN"
    return value if abs(value) != float("inf") else "Infinity" if value > 0 else "-Infinity"


def as_written(values):
    """Return float32 values as the float64 numbers that print as short: 0.1, not 0.10000000149011612."""
    return np.asarray(values, np.float32).astype(str).astype(np.float64)


def dumps(document):
    """Return JSON text; a NaN that no one encoded is an error here and not in the browser.

    It is ASCII, since names of files, and so of runs, may hold characters that no UTF-8 has.
    """
    return json.dumps(document, allow_nan=False, separators=(",", ":"))
