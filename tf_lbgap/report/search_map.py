"""The map of a search: its objective over batch size and learning rate, with lines of equal noise scale.

References:
    Smith and Le, "A Bayesian perspective on generalization and stochastic gradient descent", 2018, section 4.
"""

import math
import statistics

import numpy as np

from tf_lbgap.report import drawing
from tf_lbgap.report.search_trials import (
    columns_of,
    ended,
    number_sizes,
    reach,
    settings_of,
    title_of,
)

_MAP = "viridis"
_GREY = "#555555"
_LEVELS = 9
_ENOUGH_FOR_CONTOURS = 20


def accuracy_map(results):
    """Return the objective over batch size and learning rate, with lines of equal noise scale.

    A dot is a trial, its colour the mean of the objective over seeds; a cross one that diverged, missed the target or failed.
    Along a line g = lr / (1 - m) (N / B - 1) is equal; m is the median of the trials. The best trial is ringed. None if no trial
    has a fixed batch size and a fixed rate.
    """
    trials = [trial for trial in ended(results) if trial["batch_size"] and trial["learning_rate"]]
    if not trials:
        return None
    scored = [trial for trial in trials if trial["score"] is not None]
    lost = [trial for trial in trials if trial["score"] is None]
    figure, (axis,) = drawing.panels(1, height=2.9)
    sizes, rates = columns_of(trials, "batch_size", "learning_rate")
    axis.set(xscale="log", yscale="log", xlabel="batch size (examples)", ylabel="learning rate")
    axis.set_xlim(*reach(sizes))
    axis.set_ylim(*reach(rates))
    if scored:
        _draw_scores(figure, axis, scored, results)
    if lost:
        axis.plot(
            *columns_of(lost, "batch_size", "learning_rate"),
            "x",
            color="#B03A2E",
            markersize=4.5,
            label=_lost(lost),
        )
    _draw_noise_scales(axis, trials, results)
    number_sizes(axis, sizes)
    drawing.plain_numbers(axis.yaxis)
    axis.grid(visible=False)
    drawing.legend(figure, [axis], columns=2)
    return figure


def _lost(trials):
    """Return what a cross means."""
    known = ("diverged", "missed the target", "failed")
    return " or ".join(status for status in known if any(trial["status"] == status for trial in trials))


def _draw_scores(figure, axis, scored, results):
    title, scale = title_of(results)
    sizes, rates, values = columns_of(scored, "batch_size", "learning_rate", "score")
    values = scale * values
    norm, extend = _norm(values, results["direction"])
    colours = f"{_MAP}_r" if results["direction"] == "min" else _MAP
    _draw_contours(axis, sizes, rates, values, norm, extend, colours)
    dots = axis.scatter(
        sizes, rates, c=values, norm=norm, cmap=colours, s=20, linewidths=0.4, edgecolors="#333333", zorder=3
    )
    best = int(values.argmax() if results["direction"] == "max" else values.argmin())
    axis.plot(
        sizes[best], rates[best], "o", markersize=9, markerfacecolor="none", markeredgecolor="black", zorder=4,
        label="best trial", linestyle="none",
    )  # fmt: skip
    unit = " %" if scale == 100 else ""
    axis.set_title(f"best: {values[best]:.4g}{unit} ({settings_of(scored[best])})", loc="left")
    if np.ptp(values) > 0:
        _draw_bar(figure, axis, dots, extend, title)


def _draw_bar(figure, axis, dots, extend, title):
    from matplotlib import ticker

    bar = figure.colorbar(dots, ax=axis, extend=extend, label=title, pad=0.02)
    bar.outline.set_linewidth(0.6)
    bar.ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def _norm(values, direction):
    """Return colours for values, and on which side there are worse ones: the worst tenth do not spread the rest."""
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(values.min()), float(values.max())
    if len(values) >= 10:
        low, high = (
            (float(np.quantile(values, 0.1)), high)
            if direction == "max"
            else (low, float(np.quantile(values, 0.9)))
        )
    extend = {(True, False): "min", (False, True): "max"}.get(
        (low > values.min(), high < values.max()), "neither"
    )
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1.0), low + 0.5 * (abs(low) or 1.0)
    is_wide = direction == "min" and drawing.is_wide(np.clip(values, low, high))
    return (LogNorm if is_wide else Normalize)(low, high), extend


def _draw_contours(axis, sizes, rates, values, norm, extend, colours):
    """Colour what lies between trials, by linear interpolation in both logarithms."""
    points = np.unique(np.log(np.stack([sizes, rates])), axis=1)
    if len(values) < _ENOUGH_FOR_CONTOURS or np.linalg.matrix_rank(points - points[:, :1], 1e-6) < 2:
        return  # few, or all on a line
    x, y, z = _merged(sizes, rates, values)
    spaced = np.geomspace if type(norm).__name__ == "LogNorm" else np.linspace
    from matplotlib.tri import Triangulation

    triangles = Triangulation(np.log(x), np.log(y)).triangles
    axis.tricontourf(
        x, y, triangles, z, levels=spaced(norm.vmin, norm.vmax, _LEVELS), norm=norm, cmap=colours, extend=extend, alpha=0.45,
        zorder=1,
    )  # fmt: skip


def _merged(sizes, rates, values):
    """Return trials at one place as their mean: a triangulation has no two equal points."""
    places, which = np.unique(np.stack([sizes, rates]), axis=1, return_inverse=True)
    return (*places, np.bincount(which.ravel(), values) / np.bincount(which.ravel()))


def _draw_noise_scales(axis, trials, results):
    """Draw lr = g (1 - m) / (N / B - 1) for some g among those of the trials."""
    known = [trial["noise_scale"] for trial in trials if trial["noise_scale"]]
    if not known:
        return
    friction = 1 - statistics.median(trial["momentum"] or 0.0 for trial in trials)
    total, (left, right), (low, high) = results["num_train"], axis.get_xlim(), axis.get_ylim()
    sizes = np.geomspace(left, min(right, 0.999 * total), 200)
    label = "equal noise scale g"
    for scale in noise_levels(min(known), max(known)):
        rates = scale * friction / (total / sizes - 1)
        inside = (rates > low) & (rates < high)
        if inside.sum() < 40:
            continue
        axis.plot(
            sizes,
            rates,
            color=_GREY,
            linewidth=0.7,
            dashes=(4, 2),
            zorder=2,
            label=label,
            scalex=False,
            scaley=False,
        )
        label = None
        _name_line(axis, sizes[inside], rates[inside], f"{scale:g}")


def noise_levels(low, high):
    """Return up to six powers of ten between two numbers, or of about their geometric mean if there is none.

    Example:
        >>> noise_levels(3, 2000), noise_levels(3, 5), noise_levels(1e-3, 1e6)
        ([10.0, 100.0, 1000.0], [4.0], [0.001, 0.1, 10.0, 1000.0, 100000.0])
    """
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    if not powers:
        return [float(f"{math.sqrt(low * high):.1g}")]
    return [10.0**power for power in powers[:: -(-len(powers) // 6)]]


def _name_line(axis, x, y, text):
    """Write beside the upper end of a line, inside the axes."""
    at = int((0.88 if len(x) > 80 else 0.5) * (len(x) - 1))
    axis.text(
        x[at], y[at], text, fontsize=6.5, color="#333333", ha="center", va="center", zorder=2.5, clip_on=True,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
    )  # fmt: skip
