"""Statistics of two comparisons: does a difference between two arms depend on something else, as the cost of a large batch on the optimizer?"""

from tf_lbgap.claims.statistics import Statistic, difference, ratio


def ratio_of_ratios(of, arms, to):
    """Return the statistic `of` of one arm divided by another's, divided by the same of two other arms.

    With [large, small] for `arms` and `to` it tells how much less a large batch costs one method than another: below 1, less.

    Args:
        of: Key of a row, above 0.
        arms: Two arms, [a, b].
        to: Two arms, [c, d].

    Example:
        >>> rows = {name: {"x": x} for name, x in {"a": 6.0, "b": 2.0, "c": 8.0, "d": 2.0}.items()}
        >>> statistic = ratio_of_ratios("x", ["a", "b"], ["c", "d"])
        >>> round(statistic.outward(statistic(rows)), 6)
        0.75
    """
    one, other = (ratio(of, *_two(pair, name)) for pair, name in ((arms, "arms"), (to, "to")))
    return Statistic(
        lambda rows: one(rows) - other(rows), _words(one, other), "ratio", (*one.arms, *other.arms), of
    )


def difference_of_differences(of, arms, to):
    """Return the statistic `of` of one arm minus another's, minus the same of two other arms; see `ratio_of_ratios`."""
    one, other = (difference(of, *_two(pair, name)) for pair, name in ((arms, "arms"), (to, "to")))
    return Statistic(
        lambda rows: one(rows) - other(rows), _words(one, other), "difference", (*one.arms, *other.arms), of
    )


def _two(pair, name):
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ValueError(f"{name}: {pair!r} must be two arms, such as [large, small].")
    return pair


def _words(one, other):
    return f"{one.words}, against {other.arms[0]} and {other.arms[1]}"
