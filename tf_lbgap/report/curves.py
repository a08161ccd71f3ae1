"""Curves of arms, from those of their seeds: mean and band.

As in the tab, a seed counts where it was measured on both sides, by linear interpolation, and never beyond its ends.
Where fewer than half of the seeds are left, a mean would be one of others than before: there the line ends.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line with its band."""

    x: np.ndarray  # (n,) increasing
    mean: np.ndarray  # (n,)
    low: np.ndarray  # (n,) mean - standard deviation (n - 1) over seeds; the mean for one seed
    high: np.ndarray  # (n,)
    num_seeds: int


def mean_curve(lines):
    """Average lines of seeds.

    Args:
        lines: List of (x, y), arrays of equal length; points that are not finite are left out.

    Returns:
        A `Curve`, or None without a finite point.

    Example:
        >>> mean_curve([([0, 2], [0.0, 2.0]), ([0, 1], [2.0, 3.0])]).mean.tolist()  # at 0, 1 and 2
        [1.0, 2.0, 2.0]
    """
    lines = [_finite(*line) for line in lines]
    lines = [(x, y) for x, y in lines if len(x)]
    if not lines:
        return None
    x = np.unique(np.concatenate([x for x, _ in lines]))
    columns = np.stack([np.interp(x, own, y, left=np.nan, right=np.nan) for own, y in lines])
    counts = np.isfinite(columns).sum(0)
    kept = counts * 2 >= len(lines)
    x, columns, counts = x[kept], columns[:, kept], counts[kept]
    mean = np.nansum(columns, 0) / counts
    squares = np.nansum((columns - mean) ** 2, 0)
    deviation = np.sqrt(squares / np.maximum(counts - 1, 1))
    return Curve(x, mean, mean - deviation, mean + deviation, len(lines))


def _finite(x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    known = np.isfinite(x) & np.isfinite(y)
    order = np.argsort(x[known], kind="stable")
    return x[known][order], y[known][order]


class Curves:
    """The series of a report, by arm.

    Args:
        answers: What `answers.answers` returned.
        groups: Names of arms in the order wanted; others follow.
        axis: What curves are drawn against. Defaults to epochs, or updates where not all know their epochs.
    """

    def __init__(self, answers, groups=(), axis=None):
        self._series = {(each["run"], each["tag"]): each for each in answers["series"]["series"]}
        self._runs = answers["runs"]["runs"]
        present = list(dict.fromkeys(run["group"] for run in self._runs))
        self.groups = [g for g in groups if g in present] + [g for g in present if g not in groups]
        self.axis = axis or ("epochs" if self._all_have("epochs") else "updates")

    def _all_have(self, axis):
        own = [each for each in self._series.values() if not each["tag"].startswith("progress/")]
        return bool(own) and all(each["x"].get(axis) is not None for each in own)

    def tags(self, prefix, kind="scalar"):
        """Return the tags of a kind below a prefix, in order."""
        return sorted({t for (_, t), e in self._series.items() if t.startswith(prefix) and e["kind"] == kind})

    def lines(self, group, tag, column=0):
        """Return (x, y) of each seed of an arm that has the tag; eigenvalues that did not converge are NaN."""
        found = []
        for run in self._runs:
            each = self._series.get((run["run"], tag))
            if run["group"] == group and each is not None and each["x"].get(self.axis) is not None:
                y = _trusted(each, column)
                if y is not None:
                    found.append((_numbers(each["x"][self.axis]), y))
        return found

    def width(self, tag):
        """Return how many eigenvalues a tag has at most."""
        own = [each for (_, other), each in self._series.items() if other == tag]
        return max((sum(c.startswith("value_") for c in each["columns"]) for each in own), default=0)

    def curve(self, group, tag, column=0):
        """Return the `Curve` of an arm, or None."""
        return mean_curve(self.lines(group, tag, column))

    def is_history(self, tag):
        """Return whether some seed has more than one point."""
        return any(len(x) > 1 for group in self.groups for x, _ in self.lines(group, tag))

    def first_seed(self, group):
        """Return the run of an arm that comes first."""
        return next(run["run"] for run in self._runs if run["group"] == group)


def _trusted(each, column):
    names = each["columns"]
    if each["kind"] == "scalar":
        return _numbers(each["values"][column])
    name = f"value_{column + 1}"
    if name not in names:
        return None
    y = _numbers(each["values"][names.index(name)])
    flags = f"converged_{column + 1}"
    if flags in names:
        y[_numbers(each["values"][names.index(flags)]) == 0] = np.nan
    return y


def _numbers(values):
    """Numbers as the routes send them: what is not finite is text."""
    return np.array([float(value) if value is not None else np.nan for value in values], float)
