"""Figures of a search over batch sizes and learning rates.

Each is a function from the content of a search's `results.json` to a matplotlib figure, or None where there is nothing to show.

References:
    Smith and Le, "A Bayesian perspective on generalization and stochastic gradient descent", 2018, section 4 (lines of equal noise).
    Shallue et al., "Measuring the effects of data parallelism on neural network training", 2019 (updates to a target by size).
"""

import math
import statistics

import numpy as np

from tf_lbgap import critical_batch_size
from tf_lbgap.report import drawing
from tf_lbgap.report.search_grids import edge

CONFIDENCE = 0.95
_GREY = "#555555"
_FAINT = "#9aa0a6"
_SHADES = ("#eaf3ea", "#f7f3e6", "#f6eaea")  # of the regimes, in their order
_MAP = "viridis"
_LEVELS = 9
_ENOUGH_FOR_CONTOURS = 20
_ABOVE = 8.0  # times the most updates of a best trial, up to which other trials are shown


def accuracy_map(results):
    """Return the objective over batch size and learning rate, with lines of equal noise scale.

    A dot is a trial, its colour the mean of the objective over seeds; a cross one that diverged, missed the target or failed.
    Along a line g = lr / (1 - m) (N / B - 1) is equal; m is the median of the trials. The best trial is ringed. None if no trial
    has a fixed batch size and a fixed rate.
    """
    trials = [trial for trial in _ended(results) if trial["batch_size"] and trial["learning_rate"]]
    if not trials:
        return None
    scored = [trial for trial in trials if trial["score"] is not None]
    lost = [trial for trial in trials if trial["score"] is None]
    figure, (axis,) = drawing.panels(1, height=2.9)
    sizes, rates = _columns(trials, "batch_size", "learning_rate")
    axis.set(xscale="log", yscale="log", xlabel="batch size (examples)", ylabel="learning rate")
    axis.set_xlim(*_reach(sizes))
    axis.set_ylim(*_reach(rates))
    if scored:
        _draw_scores(figure, axis, scored, results)
    if lost:
        axis.plot(
            *_columns(lost, "batch_size", "learning_rate"),
            "x",
            color="#B03A2E",
            markersize=4.5,
            label=_lost(lost),
        )
    _draw_noise_scales(axis, trials, results)
    _number_sizes(axis, sizes)
    drawing.plain_numbers(axis)
    axis.grid(visible=False)
    _legend(figure, axis)
    return figure


def steps_to_target(results):
    """Return updates to the target against batch size, with the fitted curve, its critical batch size and the regimes.

    A dot is the best trial of a size, by the mean of updates over seeds, ± their standard deviation; other trials are faint,
    and not shown from 8 times the most updates of a best one on. A
    size is hollow, and left out of the fit, if its best rate lies at the edge of those tried: a better one may lie beyond. The
    band is the interval of the critical batch size. That a size shows its best trial favours sizes with many trials, a little.
    None unless trainings end at a target and reach it with three sizes.
    """
    trials = [trial for trial in _ended(results) if trial["batch_size"] and _updates(trial)]
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
    axis.set_xlim(*_reach(sizes))
    _limit_updates(axis, trials, best)
    _draw_fit(axis, sizes, _fit([best[size] for size in best if size not in hollow]))
    _draw_trials(axis, trials, best, hollow)
    _number_sizes(axis, sizes)
    _legend(figure, axis)
    return figure


def scores(results):
    """Return the trials from the best to the worst, each with its mean, standard deviation and seeds; None if none finished."""
    trials = [trial for trial in _ended(results) if trial["score"] is not None]
    if not trials:
        return None
    trials.sort(key=lambda trial: trial["score"], reverse=results["direction"] == "max")
    title, scale = _title(results)
    figure, (axis,) = drawing.panels(1, height=2.4)
    colour, _, _ = drawing.look(0)
    ranks = np.arange(1, len(trials) + 1)
    for rank, trial in zip(ranks, trials, strict=True):
        own = [
            scale * seed[results["objective"]]
            for seed in trial["seeds"]
            if _is_finite(seed.get(results["objective"]))
        ]
        axis.plot([rank] * len(own), own, "o", color=colour, alpha=0.3, markersize=2, markeredgewidth=0)
    means = scale * np.array([trial["score"] for trial in trials])
    spread = scale * np.array([trial["score_deviation"] or 0.0 for trial in trials])
    axis.errorbar(ranks, means, spread, fmt="_", color=colour, markersize=5, capsize=1.5, linewidth=0.8)
    if results["direction"] == "min" and drawing.is_wide(means):
        axis.set_yscale("log")
    below = _leave_out_the_worst(axis, means, spread) if results["direction"] == "max" else 0
    drawing.plain_numbers(axis)
    lost = len(results["trials"]) - len(trials)
    told = [f"{below} are below the panel"] * bool(below) + [f"{lost} more did not finish"] * bool(lost)
    axis.set(xlabel="trial, the best first" + (f" ({'; '.join(told)})" if told else ""), ylabel=title)
    axis.set_xlim(0.4, len(trials) + 0.6)
    _whole_numbers(axis)
    axis.set_title(f"best: trial {trials[0]['trial']} ({_settings(trials[0])})", loc="left")
    return figure


def _leave_out_the_worst(axis, means, spread):
    """Let the axis end where the better half can be told apart; return how many means lie below."""
    best, reach = means.max(), 4 * (means.max() - np.median(means)) + 2 * np.median(spread)
    low, top = best - reach, (means + spread).max()
    if reach <= 0 or low <= (means - spread).min():
        return 0
    axis.set_ylim(low, top + 0.05 * (top - low))
    return int(np.sum(means < low))


FIGURES = {"accuracy_map": accuracy_map, "steps_to_target": steps_to_target, "scores": scores}


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
        for other in _ended(results)
        if other["learning_rate"] and other["batch_size"] == trial["batch_size"]
    }
    return len(rates) > 1 and trial["learning_rate"] in (min(rates), max(rates))


# What is in a trial.


def _ended(results):
    return [trial for trial in results["trials"] if trial["status"] != "running"]


def _columns(trials, *keys):
    """Return an array for each key, shape (trials,)."""
    return [np.array([trial[key] for trial in trials], float) for key in keys]


def _updates(trial):
    """Return the updates of the seeds of a trial that reached the target with all of them, else nothing."""
    is_there = trial["status"] == "finished" and all(seed.get("reached", True) for seed in trial["seeds"])
    return [seed["updates"] for seed in trial["seeds"] if seed.get("updates")] if is_there else []


def _is_finite(value):
    return value is not None and math.isfinite(value)


def _title(results):
    """Return what the objective is called at an axis, and what its values are multiplied by."""
    words = results["objective"].replace("_", " ")
    return (f"{words} (%)", 100.0) if words.endswith("accuracy") else (words, 1.0)


def _settings(trial):
    told = [f"batch {trial['batch_size']}"] if trial["batch_size"] else []
    told += [f"rate {trial['learning_rate']:.3g}"] if trial["learning_rate"] else []
    return ", ".join(told) or ", ".join(f"{name} {value}" for name, value in trial["values"].items())


def _lost(trials):
    """Return what a cross means."""
    known = ("diverged", "missed the target", "failed")
    return " or ".join(status for status in known if any(trial["status"] == status for trial in trials))


# The map.


def _draw_scores(figure, axis, scored, results):
    title, scale = _title(results)
    sizes, rates, values = _columns(scored, "batch_size", "learning_rate", "score")
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
    axis.set_title(f"best: {values[best]:.4g}{unit} ({_settings(scored[best])})", loc="left")
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


# Updates to the target.


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
            *_columns(others, "batch_size"), means, "o", color=_FAINT, alpha=0.6, markersize=2.5, markeredgewidth=0,
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
                *_columns(own, "batch_size"), means, _spread(own, means), fmt="o", color=colour, markersize=4, capsize=2,
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


# Axes.


def _reach(values):
    """Return ends of a log axis that leave room beside the values."""
    low, high = float(np.min(values)), float(np.max(values))
    room = (high / low) ** 0.08 if high > low else 2.0
    return low / max(room, 1.15), high * max(room, 1.15)


def _number_sizes(axis, sizes):
    """Put the sizes that were tried at the axis; of those that are close to each other, one."""
    from matplotlib import ticker

    left, right = np.log(axis.get_xlim())
    chosen = []
    for size in np.unique(sizes):
        room = (right - left) * max(0.08, 0.033 * len(f"{size:g}"))  # of a number, and a space
        if not chosen or math.log(size / chosen[-1]) > room:
            chosen.append(size)
    axis.xaxis.set_major_locator(ticker.FixedLocator(chosen))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(figure, axis):
    """Put a legend below the axes, in two columns."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=2, handlelength=2.2, columnspacing=1.4
        )


def _whole_numbers(axis):
    from matplotlib import ticker

    axis.xaxis.set_major_locator(ticker.MaxNLocator(8, integer=True, min_n_ticks=1))
