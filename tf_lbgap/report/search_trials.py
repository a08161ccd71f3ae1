"""What the figures of a search share: what is in a trial, and its axes."""

import math

import numpy as np


def ended(results):
    """Return the trials that do not run any more."""
    return [trial for trial in results["trials"] if trial["status"] != "running"]


def columns_of(trials, *keys):
    """Return an array for each key, shape (trials,)."""
    return [np.array([trial[key] for trial in trials], float) for key in keys]


def title_of(results):
    """Return what the objective is called at an axis, and what its values are multiplied by."""
    words = results["objective"].replace("_", " ")
    return (f"{words} (%)", 100.0) if words.endswith("accuracy") else (words, 1.0)


def settings_of(trial):
    """Return the batch and the rate of a trial as a text, or all its values where these are schedules."""
    told = [f"batch {trial['batch_size']}"] if trial["batch_size"] else []
    told += [f"rate {trial['learning_rate']:.3g}"] if trial["learning_rate"] else []
    return ", ".join(told) or ", ".join(f"{name} {value}" for name, value in trial["values"].items())


def is_finite(value):
    """Return whether this is a number, and a finite one."""
    return value is not None and math.isfinite(value)


def reach(values):
    """Return ends of a log axis that leave room beside the values."""
    low, high = float(np.min(values)), float(np.max(values))
    room = (high / low) ** 0.08 if high > low else 2.0
    return low / max(room, 1.15), high * max(room, 1.15)


def number_sizes(axis, sizes):
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


def whole_numbers(axis):
    """Label the x axis by whole numbers."""
    from matplotlib import ticker

    axis.xaxis.set_major_locator(ticker.MaxNLocator(8, integer=True, min_n_ticks=1))
