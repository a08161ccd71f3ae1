"""Statistics: one number from the results of one seed, about which a paper claims something.

A statistic is made from its arguments, as they stand in a YAML file, and applied to `{arm: row}`, the rows of
`results.json` of one seed. It is computed for each seed by itself, so that what arms share (split, initial weights)
cancels; what is claimed is claimed of its mean over seeds. Ratios are taken in logarithms: their mean is the geometric one.

A new statistic is one function here that returns a `Statistic`.
"""

import dataclasses
import math

import numpy as np

from tf_lbgap import critical_batch_size


class Missing(ValueError):
    """A row, or a value in it, that the statistic needs is not there; the text says why."""


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A function of the rows of one seed, in the unit in which it is averaged.

    Call it with `{arm: row}`.

    Raises:
        Missing: If a value that it needs is not there, or the arm that it is of failed.
    """

    function: object  # {arm: row} -> float
    words: str  # what it is, such as "sharpness, large / small"
    kind: str = "number"  # "ratio": the float is a logarithm, "difference": about 0, or "number"
    arms: tuple | None = None  # that it reads; None: all there are
    of: str = ""  # the quantity, a key of a row
    beside: tuple = ()  # the other keys of rows that it reads

    @property
    def keys(self):
        """All keys of rows that it reads."""
        return tuple(filter(None, (self.of, *self.beside)))

    def __call__(self, rows):
        found = float(self.function(rows))
        if not math.isfinite(found):
            raise Missing(f"{self.words} is not finite")
        return found

    def inward(self, value):
        """Return a value that people read in the unit that is averaged in."""
        if self.kind != "ratio":
            return float(value)
        return math.log(value) if value > 0 else -math.inf

    def outward(self, value):
        """Return a value that was averaged as people read it."""
        return math.exp(value) if self.kind == "ratio" else float(value)


def ratio(of, arm, to):
    """Return the statistic `of` of one arm divided by that of another; both have to be above 0.

    Example:
        >>> statistic = ratio("updates", "large", "small")
        >>> round(statistic.outward(statistic({"small": {"updates": 400}, "large": {"updates": 100}})), 6)
        0.25
    """

    def function(rows):
        return math.log(_positive(rows, arm, of)) - math.log(_positive(rows, to, of))

    return Statistic(function, f"{_words(of)}, {arm} / {to}", "ratio", (arm, to), of)


def difference(of, arm, to):
    """Return the statistic `of` of one arm minus that of another, in the unit of the rows: 0.01 is a point of accuracy."""

    def function(rows):
        return _value(rows, arm, of) - _value(rows, to, of)

    return Statistic(function, f"{_words(of)}, {arm} − {to}", "difference", (arm, to), of)


def quotient(of, arm, per, per_arm=None):
    """Return one quantity of an arm divided by another one, of the same arm or of `per_arm`; both have to be above 0.

    Example:
        >>> statistic = quotient("after", "a", per="before")
        >>> round(statistic.outward(statistic({"a": {"before": 2.0, "after": 6.0}})), 6)
        3.0
    """
    per_arm = arm if per_arm is None else per_arm

    def function(rows):
        return math.log(_positive(rows, arm, of)) - math.log(_positive(rows, per_arm, per))

    whose = f"{_words(of)} / {_words(per)}, {arm}" if per_arm == arm else ""
    words = whose or f"{_words(of)} of {arm} / {_words(per)} of {per_arm}"
    return Statistic(function, words, "ratio", tuple(dict.fromkeys((arm, per_arm))), of, (per,))


def value(of, arm):
    """Return the statistic `of` of an arm."""
    return Statistic(lambda rows: _value(rows, arm, of), f"{_words(of)} of {arm}", "number", (arm,), of)


def slope(of, against, arms=None):
    """Return the exponent of a power law: the least-squares slope of log `of` against log `against` over arms.

    Args:
        of: Key of a row, above 0.
        against: Key of a row or a setting of the arm, above 0, such as `batch_size` or `learning_rate`.
        arms: Names; by default all.

    Example:
        >>> slope("x", "batch_size")({"a": {"batch_size": 8, "x": 1.0}, "b": {"batch_size": 32, "x": 2.0}})
        0.5
    """

    def function(rows):
        return _slope(*_points(rows, arms, against, of))

    words = f"exponent of {_words(of)} in {_words(against)}"
    return Statistic(function, words, arms=_tuple(arms), of=of, beside=(against,))


def bend(of, against, at, arms=None):
    """Return by how much the exponent of `slope` is larger from `at` on than up to it; each side needs two arms."""

    def function(rows):
        x, y = _points(rows, arms, against, of)
        low, high = x <= math.log(at) + 1e-9, x >= math.log(at) - 1e-9
        if low.sum() < 2 or high.sum() < 2:
            raise Missing(f"fewer than two arms on one side of {at}")
        return _slope(x[high], y[high]) - _slope(x[low], y[low])

    words = f"exponent of {_words(of)} in {_words(against)} above {at:g} minus that below"
    return Statistic(function, words, "difference", _tuple(arms), of, (against,))


def correlation(of, against, arms=None):
    """Return Spearman's rank correlation of two quantities over arms, -1 to 1."""
    import scipy.stats

    def function(rows):
        names = _names(rows, arms)
        pairs = [(_value(rows, name, against), _value(rows, name, of)) for name in names]
        ranks = scipy.stats.rankdata(pairs, axis=0)
        x, y = (ranks - ranks.mean(axis=0)).T
        sizes = math.sqrt((x @ x) * (y @ y))  # 0 where all arms are the same
        return float(x @ y) / sizes if sizes else math.nan  # spearmanr is slow: it tells p values, too

    words = f"rank correlation of {_words(of)} with {_words(against)}"
    return Statistic(function, words, arms=_tuple(arms), of=of, beside=(against,))


def closer_correlation(of, to, than, arms=None):
    """Return by how much `of` is closer tied to one quantity than to another: |ρ(of, to)| - |ρ(of, than)|, -1 to 1.

    ρ is Spearman's rank correlation over arms, as of `correlation`.
    """
    closer, other = correlation(of, to, arms), correlation(of, than, arms)

    def function(rows):
        return abs(closer(rows)) - abs(other(rows))

    words = f"rank correlation of {_words(of)}, size, with {_words(to)} minus with {_words(than)}"
    return Statistic(function, words, "difference", _tuple(arms), of, (to, than))


def spread(of, arms=None):
    """Return the largest value of arms divided by the smallest, at least 1."""

    def function(rows):
        values = [_positive(rows, name, of) for name in _names(rows, arms)]
        return math.log(max(values) / min(values))

    return Statistic(function, f"{_words(of)}, largest / smallest", "ratio", _tuple(arms), of)


def optimum_slope(of, over, against, arms=None, best="largest"):
    """Return the exponent with which the best `over` grows with `against`: Smith & Le's optimal batch against the rate.

    Arms are grouped by `against`. In each group the best `over` is the vertex of the parabola in log `over` through the best arm
    and its neighbours (the best arm itself where it has no neighbour on one side, or where the parabola does not bend that way); the
    statistic is the least-squares slope of its logarithm against log `against`.

    Args:
        of: Key of a row, of which the largest (or smallest) is best.
        over: Key that is optimised, such as `batch_size`.
        against: Key by which arms are grouped, such as `learning_rate`.
        arms: Names; by default all.
        best: `"largest"` or `"smallest"`.
    """
    sign = {"largest": 1.0, "smallest": -1.0}[best]

    def function(rows):
        groups = {}
        for name in _names(rows, arms):
            point = math.log(_positive(rows, name, over)), sign * _value(rows, name, of)
            groups.setdefault(math.log(_positive(rows, name, against)), []).append(point)
        if len(groups) < 2:
            raise Missing(f"arms have fewer than two values of {against}")
        return _slope(np.array(list(groups)), np.array([_vertex(sorted(group)) for group in groups.values()]))

    words = f"exponent of the best {_words(over)} in {_words(against)}"
    return Statistic(function, words, arms=_tuple(arms), of=of, beside=(over, against))


def critical_batch(of="updates", against="batch_size", arms=None, per=None, per_arm=None):
    """Return the critical batch size of (S/S_min - 1)(E/E_min - 1) = 1, fitted to the arms of one seed, in examples.

    Args:
        of: Updates to the target.
        against: Batch size.
        arms: Names; by default all that have updates.
        per: Key of a quantity by which it is divided, such as `noise_scale`: the statistic is a ratio then.
        per_arm: The arm that has it; by default the geometric mean over all arms that have it.

    References:
        McCandlish et al., "An empirical model of large-batch training", 2018, equation 2.11.
    """

    def function(rows):
        names = [name for name in _names(rows, arms) if arms or of in rows[name]]
        sizes = [_positive(rows, name, against) for name in names]
        updates = [_positive(rows, name, of) for name in names]
        try:
            found = math.log(critical_batch_size.fit(sizes, updates).value)
        except ValueError as error:
            raise Missing(str(error)) from error
        if per is None:
            return found
        having = [per_arm] if per_arm else [name for name in rows if rows[name].get(per) is not None]
        if not having:
            raise Missing(f"no arm has {per}")
        return found - float(np.mean([math.log(_positive(rows, name, per)) for name in having]))

    words = "critical batch size" + (f" / {_words(per)}" if per else "")
    return Statistic(function, words, "ratio", None, of, (against, per) if per else (against,))


def _value(rows, arm, key):
    row = rows.get(arm)
    if row is None:
        raise Missing(f"{arm} has no result")
    if row.get("why_not"):
        raise Missing(f"{arm} {row['why_not']}")
    found = row.get(key)
    if found is None or isinstance(found, str) or not math.isfinite(found):
        raise Missing(f"{arm} has no {key}")
    if row.get(f"{key}_converged") is False:
        raise Missing(f"{key} of {arm} did not converge")
    return float(found)


def _positive(rows, arm, key):
    found = _value(rows, arm, key)
    if found <= 0:
        raise Missing(f"{key} of {arm} is not above 0")
    return found


def _names(rows, arms):
    return list(rows) if arms is None else list(arms)


def _tuple(arms):
    return None if arms is None else tuple(arms)


def _points(rows, arms, against, of):
    """Return the logarithms of two quantities over arms, shapes (arms,)."""
    names = _names(rows, arms)
    points = [(math.log(_positive(rows, n, against)), math.log(_positive(rows, n, of))) for n in names]
    return np.array(sorted(points)).T


def _slope(x, y):
    if len(x) < 2 or np.ptp(x) == 0:
        raise Missing("there are fewer than two different values to draw a line through")
    return float(np.polyfit(x - x.mean(), y, 1)[0])


def _vertex(points):
    """Return where the parabola through the highest of points (x, y) and its neighbours is highest."""
    x, y = np.array(points).T
    i = int(np.argmax(y))
    if not 0 < i < len(x) - 1:
        return float(x[i])
    a, b, _ = np.polyfit(x[i - 1 : i + 2] - x[i], y[i - 1 : i + 2], 2)
    return float(x[i] - b / (2 * a)) if a < 0 else float(x[i])


def _words(key):
    return str(key).replace("_", " ")
