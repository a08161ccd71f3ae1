"""Numbers of a reproduction as text, in one way everywhere, so that terminal, page, gallery and `results.json` agree.

Three significant digits, or as many as the error has two of. `-` stands for what is not known: a value that is None or
not finite, as of a claim that was not run.
"""

import math

UNKNOWN = "-"


def is_number(value):
    """Return whether this is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value):
    """Return a number with three significant digits.

    Example:
        >>> number(3.9216), number(0.25), number(1234.5), number(2.0e-7), number(None)
        ('3.92', '0.250', '1,234', '2.00e-07', '-')
    """
    if not is_number(value):
        return UNKNOWN
    if value != 0 and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.2e}"
    return f"{value:,.{_decimals(value)}f}"


def whole(value):
    """Return a number without trailing zeros, as people write a setting or a count."""
    if not is_number(value):
        return UNKNOWN
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1000 else f"{value:g}"


def mean(summary, scale=1.0):
    """Return mean ± standard error, to two digits of the error; the mean alone of a single seed.

    Args:
        summary: A `claims.Summary`.
        scale: What both are multiplied by.

    Example:
        >>> mean(Summary(0.97191, 0.00463, 5), 100)
        '97.19±0.46'
    """
    middle, error = scale * summary.mean, scale * summary.standard_error
    if not is_number(middle) or not is_number(error) or error == 0:
        return whole(middle) if is_number(middle) and float(middle).is_integer() else number(middle)
    if error < 1e-6 or not 1e-4 <= abs(middle) < 1e9:
        return f"{middle:.2e}±{error:.0e}"
    decimals = 0 if error >= 10 else _decimals(error, 2)
    return f"{middle:,.{decimals}f}±{error:,.{decimals}f}"


def estimate(claim):
    """Return the estimate of a claim and its interval, such as `3.92 (2.91 to 5.08)`; a difference has its sign.

    Args:
        claim: An entry of `claims` in a reproduction's `results.json`.
    """
    middle, interval = claim.get("estimate"), claim.get("interval") or (None, None)
    write = _writer(claim.get("kind"), middle, interval)
    if not any(map(is_number, interval)):
        return write(middle)
    return f"{write(middle)} ({write(interval[0])} to {write(interval[1])})"


def statistic(value, claim):
    """Return one value of a claim's statistic, such as what was expected."""
    return _writer(claim.get("kind"), value)(value)


def percent(share):
    """Return a share in percent: power is never told as 100, which no number of seeds gives.

    Example:
        >>> percent(0.8312), percent(0.9999), percent(None)
        ('83', '> 99', 'not known')
    """
    if not is_number(share):
        return "not known"
    return "> 99" if share > 0.99 else f"{100 * share:.0f}"


def duration(seconds):
    """Return seconds as people say them.

    Example:
        >>> duration(8.31), duration(754), duration(7300)
        ('8.3 s', '12 min 34 s', '2 h 2 min')
    """
    if not is_number(seconds):
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def seeds(numbers):
    """Return which seeds these are: `100 to 109`, or `100, 102`."""
    numbers = sorted({int(n) for n in numbers or () if n is not None})
    if not numbers:
        return UNKNOWN
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _writer(kind, value, interval=(None, None)):
    """Return how a statistic is written: a ratio with digits of its own, all else with two digits of the interval's half width."""
    if kind == "ratio":
        return number
    known = [v for v in (value, *interval) if is_number(v)]
    largest = max(map(abs, known), default=0.0)
    if largest and not 1e-4 <= largest < 1e9:
        return number
    half = (interval[1] - interval[0]) / 2 if all(map(is_number, interval)) else 0.0
    decimals = _decimals(half, 2) if half > 0 else _decimals(value if is_number(value) else largest)
    sign = "+" if kind == "difference" else ""
    return lambda v: f"{v:{sign},.{min(decimals, 6)}f}" if is_number(v) else UNKNOWN


def _decimals(value, digits=3):
    """Return how many decimals show so many significant digits of a value."""
    if value == 0:
        return 0
    # 9.996 has three digits as 10.0, so rounding comes before counting.
    exponent = int(f"{abs(value):.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)
