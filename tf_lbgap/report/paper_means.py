"""Means of arms as figures: over a setting in which the arms differ, or arm by arm.

Bars are 95 % intervals of the mean over seeds, by Student's t. Arms share seeds, so two intervals that overlap do not
say that the arms are alike: paired differences are in the claims.
"""

import numpy as np

from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.calls import nearest
from tf_lbgap.report import drawing
from tf_lbgap.report.paper_axes import FAINT, is_wide, limits, plain
from tf_lbgap.report.paper_numbers import is_number
from tf_lbgap.report.paper_results import arms_of, place_of, quantity, reach
from tf_lbgap.report.search_trials import number_sizes

_ROW, _AROUND = 0.19, 0.62  # inches: an arm, and the axis below


def against(results, *, x, y, series=None, **options):
    """Return quantities over a setting of the arms, a panel each, with 95 % intervals.

    Args:
        results: Content of a reproduction's `results.json`.
        x: A setting that is a number, such as `batch_size` or `optimizer.momentum`, or a quantity, of which the mean is taken.
        y: A quantity, or a list of them.
        series: {label: arms} for a line each; by default one line through all arms.
        **options: `in`, an experiment or a study, or several, whose arms are joined; and what stands in a file
            for the caption.

    Returns:
        A matplotlib figure, or None if no arm has the setting and a quantity.
    """
    arms = arms_of(results, place_of(options, "against"))
    lines = {
        label: _sorted(_chosen(arms, names), x)
        for label, names in (series or {"": list(arms)}).items()
    }  # fmt: skip
    keys = [key for key in _listed(y) if any(_has(arm, key) for own in lines.values() for _, arm in own)]
    if not keys:
        return None
    figure, axes = drawing.panels(len(keys), columns=2 if len(keys) in (2, 4) else 3)
    places = [at for own in lines.values() for at, _ in own]
    for axis, key in zip(axes, keys, strict=True):
        _draw_lines(axis, lines, key)
        _scale_x(axis, places)
        axis.set(xlabel=quantity(x).label, ylabel=quantity(key).label)
    drawing.legend(figure, axes)
    return figure


def arms(results, *, y, arms=None, **options):
    """Return quantities arm by arm, a panel each: the mean as a dot with its 95 % interval, seeds faint where they are known.

    Args:
        results: Content of a reproduction's `results.json`.
        y: A quantity, or a list of them.
        arms: Names, in the order in which they stand; by default all.
        **options: As of `against`.

    Returns:
        A matplotlib figure, or None if no arm has one of the quantities.
    """
    known = arms_of(results, place_of(options, "arms"))
    shown = _chosen(known, list(known) if arms is None else arms)
    keys = [key for key in _listed(y) if any(_has(arm, key) for arm in shown.values())]
    if not keys:
        return None
    columns = min(len(keys), 4)
    rows = -(-len(keys) // columns)
    figure, axes = drawing.panels(len(keys), columns=columns, height=_ROW * len(shown) + _AROUND)
    figure.set_size_inches(drawing.WIDTH, rows * (_ROW * len(shown) + _AROUND))
    for place, (axis, key) in enumerate(zip(axes, keys, strict=True)):
        _draw_arms(axis, shown, key, is_named=place % columns == 0)
    return figure


def _draw_lines(axis, lines, key):
    drawn = []
    for index, (label, own) in enumerate(lines.items()):
        told = [(at, arm) for at, arm in own if _has(arm, key)]
        if not told:
            continue
        colour, marker, dashes = drawing.look(index)
        means, bars = _means([arm for _, arm in told], key)
        (line, *_) = axis.errorbar(
            [at for at, _ in told], means, bars, fmt=marker, linestyle="-", color=colour, markersize=3.5, capsize=2,
            linewidth=1.1, elinewidth=0.9, label=plain(str(label)) or None,
        )  # fmt: skip
        line.set_dashes(dashes or (None, None))
        drawn += [*means, *(means - np.nan_to_num(bars[0])), *(means + np.nan_to_num(bars[1]))]
    _set_scale(axis, drawn, "y")


def _draw_arms(axis, shown, key, is_named):
    scale = quantity(key).scale
    drawn = []
    for place, arm in enumerate(shown.values()):
        if not _has(arm, key):
            continue
        colour, marker, _ = drawing.look(place)
        values = [scale * value for value in arm.values.get(key, ())]
        axis.plot(values, [place] * len(values), marker, color=colour, alpha=FAINT, markersize=3, markeredgewidth=0)  # fmt: skip
        means, bars = _means([arm], key)
        axis.errorbar(means, [place], xerr=bars, fmt=marker, color=colour, markersize=4, capsize=2, linewidth=1.1)  # fmt: skip
        drawn += [*values, *means, *(means - np.nan_to_num(bars[0])), *(means + np.nan_to_num(bars[1]))]
    _set_scale(axis, drawn, "x")
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set_yticks(range(len(shown)), [plain(name) for name in shown] if is_named else [""] * len(shown))
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel(quantity(key).label)


def _means(arms, key):
    """Return means, shape (arms,), and how far their intervals reach down and up, shape (2, arms)."""
    scale = quantity(key).scale
    means = np.array([scale * arm.summary(key).mean for arm in arms])
    bars = scale * np.array([reach(arm.summary(key)) for arm in arms])
    # On a log axis an interval of few seeds that reaches below 0 has no lower end: it is cut at a tenth.
    down = np.where(means > 0, np.fmin(bars, 0.9 * means), bars) if is_wide(means) else bars
    return means, np.stack([down, bars])


def _set_scale(axis, drawn, side):
    """Choose a log axis where values span much, and limits that hold them."""
    log = is_wide(drawn)
    if log:
        axis.set(**{f"{side}scale": "log"})
    axis.set(**{f"{side}lim": limits(drawn, log=log)})
    drawing.plain_numbers(axis.yaxis if side == "y" else axis.xaxis)


def _scale_x(axis, places):
    log = is_wide(places)
    if log:
        axis.set_xscale("log")
    axis.set_xlim(*limits(places, log=log))
    if log and len(set(places)) <= 12:
        number_sizes(axis, places)
    else:
        drawing.plain_numbers(axis.xaxis)


def _sorted(arms, x):
    """Return (x, arm) pairs of the arms that have it, in its order."""
    pairs = []
    for arm in arms.values():
        at = arm.setting(x)
        if at is None:
            at = quantity(x).scale * arm.summary(x).mean
        pairs += [(float(at), arm)] if is_number(at) else []  # a schedule is at no place
    return sorted(pairs, key=lambda pair: pair[0])


def _chosen(arms, names):
    """Return the arms of those names; none where there are no arms at all, since what should have found them failed."""
    if not arms:
        return {}
    for name in _listed(names):
        if name not in arms:
            raise ConfigError(f"There is no arm {name!r}. {nearest(name, arms)}")
    return {name: arms[name] for name in _listed(names)}


def _has(arm, key):
    return is_number(arm.summary(key).mean)


def _listed(value):
    return [value] if isinstance(value, str) else list(value)
