"""Updates to a target against the batch size: the three regimes, and the critical batch size.

References:
    Shallue et al., "Measuring the effects of data parallelism on neural network training", 2019.
"""

import math

import numpy as np

from tf_lbgap import critical_batch_size
from tf_lbgap.report import drawing
from tf_lbgap.report.search_grids import edge
from tf_lbgap.report.search_trials import columns_of, ended, number_sizes, reach

CONFIDENCE = 0.95
_GREY = "#555555"
_FAINT = "#9aa0a6"
_SHADES = ("#eaf3ea", "#f7f3e6", "#f6eaea")  # of the regimes, in their order
_ABOVE = 8.0  # times the most updates of a best trial, up to which other trials are shown


def steps_to_target(results):
    """Return updates to the target against batch size, with the fitted curve, its critical batch size and the regimes.

    A dot is the best trial of a size, by the mean of updates over seeds, ± their standard deviation; other trials are faint,
    and not shown from 8 times the most updates of a best one on. A
    size is hollow, and left out of the fit, if its best rate lies at the edge of those tried: a better one may lie beyond. The
    band is the interval of the critical batch size. That a size shows its best trial favours sizes with many trials, a little.
    None unless trainings end at a target and reach it with three sizes.
    """
    trials = [trial for trial in ended(results) if trial["batch_size"] and _updates(trial)]
    best = {}
    for trial in trials:
        before = best.get(trial["batch_size"])
        if before is None or np.mean(_updates(trial)) < np.mean(_updates(before)):
            best[trial["batch_size"]] = trial
    if results["equal"] != "loss" or len(best) < 3:
        return None
    hollow = {size for size, trial in best.items() if is_at_edge(trial, results)}
    figure, (axis,) = drawing.panels(1, height=2.9)
    sizes = np.array(sorted(best), float)
    axis.set(xscale="log", yscale="log", xlabel="batch size (examples)", ylabel="updates to the target")
    axis.set_xlim(*reach(sizes))
    _limit_updates(axis, trials, best)
    _draw_fit(axis, sizes, _fit([best[size] for size in best if size not in hollow]))
    _draw_trials(axis, trials, best, hollow)
    number_sizes(axis, sizes)
    drawing.legend(figure, [axis], columns=2)
    return figure


def is_at_edge(trial, results):
    """Return whether a trial's rate, or its noise scale, lies at an end of what was searched, so that a better one may lie beyond.

    By the range of the search, or where `results` does not tell it by the rates that were tried with the trial's batch size. A
    single rate has no edge.
    """
    ranges = [
        d
        for d in results.get("dimensions", ())
        if d["name"].startswith("learning_rate") or d["name"] == "noise_scale"
    ]
    if ranges:
        return any(edge(dimension, trial["values"].get(dimension["name"])) for dimension in ranges)
    rates = {
        other["learning_rate"]
        for other in ended(results)
        if other["learning_rate"] and other["batch_size"] == trial["batch_size"]
    }
    return len(rates) > 1 and trial["learning_rate"] in (min(rates), max(rates))


def _updates(trial):
    """Return the updates of the seeds of a trial that reached the target with all of them, else nothing."""
    is_there = trial["status"] == "finished" and all(seed.get("reached", True) for seed in trial["seeds"])
    return [seed["updates"] for seed in trial["seeds"] if seed.get("updates")] if is_there else []


def _fit(trials):
    """Return the `CriticalBatchSize` of the trials' seeds, or None for fewer than three sizes."""
    if len(trials) < 3:
        return None
    sizes = [trial["batch_size"] for trial in trials for _ in _updates(trial)]
    return critical_batch_size.fit(
        sizes, [n for trial in trials for n in _updates(trial)], confidence=CONFIDENCE
    )


def _draw_trials(axis, trials, best, hollow):
    colour, _, _ = drawing.look(0)
    others = [trial for trial in trials if trial is not best[trial["batch_size"]]]
    if others:
        means = [np.mean(_updates(trial)) for trial in others]
        axis.plot(
            *columns_of(others, "batch_size"), means, "o", color=_FAINT, alpha=0.6, markersize=2.5, markeredgewidth=0,
            label="other rates",
        )  # fmt: skip
    for is_hollow, label in (
        (False, "best rate of a size"),
        (True, "best rate at the edge, not fitted"),
    ):
        own = [trial for size, trial in sorted(best.items()) if (size in hollow) == is_hollow]
        if own:
            means = np.array([np.mean(_updates(trial)) for trial in own])
            axis.errorbar(
                *columns_of(own, "batch_size"), means, _spread(own, means), fmt="o", color=colour, markersize=4, capsize=2,
                linewidth=0.9, markerfacecolor="white" if is_hollow else colour, label=label, zorder=4,
            )  # fmt: skip


def _limit_updates(axis, trials, best):
    """Show the best trials with their seeds, and others that are not far worse; leave room for the names of the regimes."""
    from matplotlib import ticker

    counts = np.concatenate([_updates(trial) for trial in trials])
    most = max(max(_updates(trial)) for trial in best.values())
    axis.set_ylim(counts.min() / 1.6, 1.9 * min(counts.max(), _ABOVE * most))
    axis.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())


def _spread(trials, means):
    """Return the standard deviation over seeds, shape (2, trials); below no more than leaves the axis positive."""
    spread = np.array([np.std(own, ddof=1) if len(own) > 1 else 0.0 for own in map(_updates, trials)])
    return np.stack([np.minimum(spread, 0.9 * means), spread])


def _draw_fit(axis, sizes, found):
    """Draw the regimes, the critical batch size with its interval, the curve, and what perfect scaling would be."""
    if found is None:
        return
    left, right = axis.get_xlim()
    bounds = np.clip([left, *found.boundaries, right], left, right)
    for low, high, shade, name in zip(
        bounds[:-1], bounds[1:], _SHADES, critical_batch_size.REGIMES, strict=True
    ):
        if high > low:
            axis.axvspan(low, high, color=shade, linewidth=0, zorder=0)
            _name_regime(axis, low, high, name)
    low, high = np.clip(found.interval, left, right)
    colour, _, _ = drawing.look(1)
    axis.axvspan(low, high, color=colour, alpha=0.18, linewidth=0, zorder=0.5, label=_told(found))
    if left < found.value < right:
        axis.axvline(found.value, color=colour, linewidth=0.9, zorder=0.6)
    x = np.geomspace(left, right, 200)
    if found.min_examples:
        axis.plot(
            x, found.min_examples / x, color=_GREY, linewidth=0.8, dashes=(4, 2), label="perfect scaling"
        )
    fits = " (does not fit)" if found.fits is False else ""
    axis.plot(x, found.updates(x), color="black", linewidth=1.1, label=f"$S_{{min}}(1 + B_{{crit}}/B)${fits}")


def _name_regime(axis, low, high, name):
    """Write a name at the top, in two lines, if there is room."""
    left, right = axis.get_xlim()
    share = math.log(high / low) / math.log(right / left)
    if share > 0.16:
        axis.text(
            math.sqrt(low * high), 0.98, name.replace(" ", "\n"), transform=axis.get_xaxis_transform(), ha="center", va="top",
            fontsize=6.5, color=_GREY, linespacing=1.05,
        )  # fmt: skip


def _told(found):
    """Return the critical batch size as a legend names it."""
    low, high = found.interval
    if found.is_open_below and found.is_open_above:
        return "$B_{crit}$ not determined"
    if found.is_open_above:
        return f"$B_{{crit}}$ above {_short(low)} (95 %)"
    if found.is_open_below:
        return f"$B_{{crit}}$ below {_short(high)} (95 %)"
    return f"$B_{{crit}}$ = {_short(found.value)} ({_short(low)} to {_short(high)}, 95 %)"


def _short(number):
    return f"{float(f'{number:.2g}'):,.0f}" if number >= 10 else f"{number:.2g}"
