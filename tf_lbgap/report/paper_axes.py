"""Axes of a paper's figures: logarithmic where values span much, with numbers as they are spoken."""

import numpy as np

from tf_lbgap.report import drawing

GREY = "#555555"
FAINT = 0.3  # alpha of single seeds


def plain(text):
    """Return a text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def limits(values, *, log, room=0.06):
    """Return the ends of an axis that holds values with room beside them.

    Args:
        values: Numbers; those that are not finite (or, on a log axis, not above 0) are left out.
        log: Whether the axis is logarithmic.
        room: Share of the span that is left free at each end.
    """
    values = np.array([v for v in values if v is not None], float)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not len(values):
        return (0.1, 10.0) if log else (-1.0, 1.0)
    low, high = np.log([values.min(), values.max()]) if log else (values.min(), values.max())
    spread = high - low
    pad = room * spread if spread > 0 else (np.log(1.5) if log else 0.1 * abs(high) or 1.0)
    ends = low - pad, high + pad
    return tuple(map(float, np.exp(ends) if log else ends))


def is_wide(values):
    """Return whether a log axis suits values: all positive, and more than a factor of five apart."""
    values = np.array([v for v in values if v is not None], float)
    return drawing.is_wide(values[np.isfinite(values)])
