"""Curves of a study as figures: the loss between two minima, and curvature against the loss while training.

References:
    Keskar et al., "On large-batch training for deep learning", 2017, figures 3 and 7 (`lines`) and 6 (`evolution`).
"""

import itertools

import numpy as np

from tf_lbgap.report import drawing
from tf_lbgap.report.paper_axes import FAINT, GREY, is_wide, limits, plain
from tf_lbgap.report.paper_results import curves_of, place_of, quantity

_TRAIN = (3, 1.5)  # dashes of training data, as in the other figures
_LOSS, _ACCURACY = drawing.COLOURS[0], drawing.COLOURS[1]
_BINS = 12
_MOST_POINTS = 40  # of a seed's line


def lines(results, *, ends=None, **options):
    """Return loss and accuracy on the way from one minimum to another, a panel per pair, as Keskar et al. drew them.

    The loss is on the left, logarithmic, the accuracy on the right; training data dashed, test data solid. Thin lines are
    seeds, thick ones medians over them. Where curvature was measured on the way it is below.

    Args:
        results: Content of a reproduction's `results.json`.
        ends: What stands at α = 0 and 1, two names; by default those in the name of the pair, `small to large`.
        **options: `in`, a study of `reproduction.studies.interpolation`; and what stands in a file for the caption.

    Returns:
        A matplotlib figure, or None if the study has no curves.
    """
    pairs = _by_arm(curves_of(results, place_of(options, "lines")))
    if not pairs:
        return None
    has_eigenvalues = any(curve.get("top_eigenvalue") for own in pairs.values() for curve in own)
    figure, top, below = _panels(len(pairs), has_eigenvalues)
    for axis, (pair, own) in zip(top, pairs.items(), strict=True):
        axis.set_title(plain(pair) if len(pairs) > 1 else "")
        _draw_loss(axis, own)
        _draw_accuracy(axis.twinx(), own)
        _mark_ends(axis, ends or pair.split(" to "))
    for axis, own in zip(below, pairs.values(), strict=False):  # or there are none
        _draw_eigenvalues(axis, own)
        _mark_ends(axis, ())
    for axis in [*top, *below]:
        axis.set_xlim(*top[0].get_xlim())  # one above the other, ends are at the same place
        drawing.plain_numbers(axis.xaxis)
    for axis in below or top:
        axis.set_xlabel("position α")
    drawing.legend(
        figure, [], [("test", None), ("training", _TRAIN)], columns=2
    )  # colours are those of the axes
    return figure


def evolution(results, *, x="loss", y="top_eigenvalue", **options):
    """Return curvature against the training loss while training, which falls to the right; log-log.

    Thin lines are seeds, thick ones geometric means over the seeds of an arm in twelfths of the range of x, where at least
    half of them are.

    Args:
        results: Content of a reproduction's `results.json`.
        x: A key of the study's curves; `loss` falls to the right, all else rises.
        y: Another one.
        **options: `in`, a study of `reproduction.studies.evolution` or another one with such curves; and what stands in a
            file for the caption.

    Returns:
        A matplotlib figure, or None if no curve has a point above 0.
    """
    arms = {}
    for arm, own in _by_arm(curves_of(results, place_of(options, "evolution"))).items():
        found = [_positive(curve, x, y) for curve in own]
        arms[arm] = [points for points in found if points.shape[1]]
    drawn = [points for own in arms.values() for points in own]
    if not drawn:
        return None
    figure, (axis,) = drawing.panels(1, height=2.7)
    every = np.concatenate(drawn, axis=1)
    axis.set(xscale="log", yscale="log", xlim=limits(every[0], log=True), ylim=limits(every[1], log=True))
    edges = np.geomspace(every[0].min(), every[0].max() * (1 + 1e-9), _BINS + 1)
    for index, (arm, own) in enumerate(arms.items()):
        colour, marker, dashes = drawing.look(index)
        for points in own:
            axis.plot(*_thinned(points), color=colour, alpha=FAINT, linewidth=0.7)
        middle = _binned(own, edges)
        (line,) = axis.plot(*middle, marker=marker, markersize=3, color=colour, linewidth=1.6, label=plain(arm))  # fmt: skip
        line.set_dashes(dashes or (None, None))
    if x == "loss":
        axis.invert_xaxis()
    axis.set(xlabel=_words(x), ylabel=quantity(y).label)
    for each in (axis.xaxis, axis.yaxis):
        drawing.plain_numbers(each)
    drawing.legend(figure, [axis])
    return figure


# Between two minima.


def _panels(count, has_eigenvalues):
    """Return a figure, and its upper and lower axes; the lower ones only where there are eigenvalues."""
    columns, rows = min(count, 2), -(-count // min(count, 2))
    figure, axes = drawing.panels(columns * rows * (2 if has_eigenvalues else 1), columns=columns)
    if columns == 1:
        figure.set_size_inches(0.7 * drawing.WIDTH, figure.get_size_inches()[1])
    grid = np.array(axes).reshape(-1, columns)
    top, below = (grid[0::2], grid[1::2]) if has_eigenvalues else (grid, grid[:0])
    for unused in [*top.ravel()[count:], *below.ravel()[count:]]:
        unused.remove()
    return figure, list(top.ravel()[:count]), list(below.ravel()[:count])


def _draw_loss(axis, curves):
    drawn = []
    for key, dashes in (("train_loss", _TRAIN), ("test_loss", None)):
        drawn += _draw_seeds(axis, curves, "alpha", key, _LOSS, dashes)
    log = is_wide(drawn)
    if log:
        axis.set_yscale("log")
    axis.set_ylim(*limits(drawn, log=log))
    drawing.plain_numbers(axis.yaxis)
    axis.set_ylabel("loss", color=_LOSS)
    axis.tick_params(axis="y", colors=_LOSS)


def _draw_accuracy(axis, curves):
    for key, dashes in (("train_accuracy", _TRAIN), ("test_accuracy", None)):
        _draw_seeds(axis, curves, "alpha", key, _ACCURACY, dashes, scale=100.0)
    axis.set_ylim(0, 102)
    axis.grid(visible=False)
    axis.spines["right"].set_visible(True)
    axis.set_ylabel("accuracy (%)", color=_ACCURACY)
    axis.tick_params(axis="y", colors=_ACCURACY)


def _draw_eigenvalues(axis, curves):
    drawn = _draw_seeds(axis, curves, "alpha_eigenvalues", "top_eigenvalue", drawing.COLOURS[2], None)
    log = is_wide(drawn)
    if log:
        axis.set_yscale("log")
    axis.set_ylim(*limits(drawn, log=log))
    drawing.plain_numbers(axis.yaxis)
    axis.set_ylabel("top eigenvalue\n(loss / weight²)")


def _draw_seeds(axis, curves, x, key, colour, dashes, scale=1.0):
    """Draw a thin line per seed and a thick one through their medians; return the finite values."""
    found = [
        (np.array(curve[x], float), scale * np.array(curve[key], float))
        for curve in curves
        if curve.get(key) and curve.get(x)
    ]
    for at, values in found if len(found) > 1 else ():
        axis.plot(at, values, color=colour, alpha=FAINT, linewidth=0.6)
    if found:
        places = found[0][0]
        values = np.stack([np.interp(places, at, own) for at, own in found])
        middle = np.full(len(places), np.nan)
        known = np.isfinite(values).any(0)
        middle[known] = np.nanmedian(np.where(np.isfinite(values), values, np.nan)[:, known], axis=0)
        (line,) = axis.plot(places, middle, color=colour, linewidth=1.5)
        line.set_dashes(dashes or (None, None))
    every = np.concatenate([values for _, values in found]) if found else np.zeros(0)
    return list(every[np.isfinite(every)])


def _mark_ends(axis, names):
    for at in (0, 1):
        axis.axvline(at, color=GREY, linewidth=0.8, dashes=(1, 1.5))
    if len(names) == 2:
        for at, name in enumerate(names):
            axis.annotate(
                plain(str(name)), (at, 1), xycoords=("data", "axes fraction"), xytext=(0, 1.5), textcoords="offset points",
                ha="center", va="bottom", fontsize=7, color=GREY,
            )  # fmt: skip


# While training.


def _positive(curve, x, y):
    """Return the points of a curve that a log-log axis can show, shape (2, points)."""
    points = np.array([curve.get(x) or [], curve.get(y) or []], float)
    return points[:, (points > 0).all(0) & np.isfinite(points).all(0)]


def _thinned(points):
    """Return about as many points as a line of this width shows, the first and the last among them."""
    chosen = np.unique(np.linspace(0, points.shape[1] - 1, _MOST_POINTS).round().astype(int))
    return points[:, chosen]


def _binned(seeds, edges):
    """Return the geometric mean over seeds of what each has within each bin, shape (2, bins); bins with half the seeds."""
    found = []
    for low, high in itertools.pairwise(edges):
        held = [points[:, (points[0] >= low) & (points[0] < high)] for points in seeds]
        own = [np.log(points).mean(1) for points in held if points.shape[1]]
        if own and 2 * len(own) >= len(seeds):
            found.append(np.exp(np.mean(own, axis=0)))
    return np.array(found).T if found else np.zeros((2, 0))


def _words(key):
    return {"loss": "training loss", "update": "weight updates"}.get(key, quantity(key).label)


def _by_arm(curves):
    found = {}
    for curve in curves:
        found.setdefault(curve["arm"], []).append(curve)
    return found
