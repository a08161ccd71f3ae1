"""Axes of a paper's figures: logarithmic where values span much, with numbers as they are spoken."""

import numpy as np

from tf_lbgap.report import drawing

GREY = "#555555"
FAINT = 0.3  # alpha of single seeds


def plain_numbers(axis):
    """Label an x or y axis (`axes.xaxis`) by plain numbers, few enough for its width: 0.05 and 200, not 5 x 10^-2.

    Call it once the limits are set.
    """
    from matplotlib import ticker

    low, high = sorted(axis.get_view_interval())
    if axis.get_scale() == "log":
        span = high / low
        if span > 4:
            subs = (1, 2, 5) if span < 120 else (1, 3) if span < 1500 else (1,)
            axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=7))
        else:  # less than a factor of four has too few such numbers
            axis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(ticker.NullLocator())
    else:
        axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: spoken(value)))


def spoken(value):
    """Return a tick's number: 0.05, −3, 12k, 1e-6."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:g}{letter}".replace("-", "−")
    return f"{value:.5g}".replace("-", "−")


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
