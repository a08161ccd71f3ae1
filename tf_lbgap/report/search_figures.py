"""Figures of a search over batch sizes and learning rates.

Each is a function from the content of a search's `results.json` to a matplotlib figure, or None where there is nothing to show.
"""

import numpy as np

from tf_lbgap.report import drawing
from tf_lbgap.report.search_map import accuracy_map
from tf_lbgap.report.search_steps import steps_to_target
from tf_lbgap.report.search_trials import ended, is_finite, settings_of, title_of, whole_numbers


def scores(results):
    """Return the trials from the best to the worst, each with its mean, standard deviation and seeds; None if none finished."""
    trials = [trial for trial in ended(results) if trial["score"] is not None]
    if not trials:
        return None
    trials.sort(key=lambda trial: trial["score"], reverse=results["direction"] == "max")
    title, scale = title_of(results)
    figure, (axis,) = drawing.panels(1, height=2.4)
    colour, _, _ = drawing.look(0)
    ranks = np.arange(1, len(trials) + 1)
    for rank, trial in zip(ranks, trials, strict=True):
        own = [
            scale * seed[results["objective"]]
            for seed in trial["seeds"]
            if is_finite(seed.get(results["objective"]))
        ]
        axis.plot([rank] * len(own), own, "o", color=colour, alpha=0.3, markersize=2, markeredgewidth=0)
    means = scale * np.array([trial["score"] for trial in trials])
    spread = scale * np.array([trial["score_deviation"] or 0.0 for trial in trials])
    axis.errorbar(ranks, means, spread, fmt="_", color=colour, markersize=5, capsize=1.5, linewidth=0.8)
    if results["direction"] == "min" and drawing.is_wide(means):
        axis.set_yscale("log")
    below = _leave_out_the_worst(axis, means, spread) if results["direction"] == "max" else 0
    drawing.plain_numbers(axis.yaxis)
    lost = len(results["trials"]) - len(trials)
    told = [f"{below} are below the panel"] * bool(below) + [f"{lost} more did not finish"] * bool(lost)
    axis.set(xlabel="trial, the best first" + (f" ({'; '.join(told)})" if told else ""), ylabel=title)
    axis.set_xlim(0.4, len(trials) + 0.6)
    whole_numbers(axis)
    axis.set_title(f"best: trial {trials[0]['trial']} ({settings_of(trials[0])})", loc="left")
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
