"""The table: one row a run, the last finite value of what one compares runs by."""

import math

import numpy as np

from tb_plugin.encode import as_written, number
from tb_plugin.reader import Unreadable
from tb_plugin.runs import group_and_seed

_TAGS = {
    "batch_size": ("schedule/batch_size",),
    "learning_rate": ("schedule/learning_rate",),
    "test_accuracy": ("generalization/test_accuracy",),
    "test_loss": ("generalization/test_loss",),
    "train_loss": ("generalization/train_loss",),
    "top_eigenvalue": ("sharpness/top_eigenvalue", "curvature/eigenvalues"),
    "sharpness": ("sharpness/epsilon_sharpness",),
}
COLUMNS = ("run", "group", "seed", *_TAGS, "updates", "seconds")
_EPSILONS = "sharpness/epsilon_sharpness_"  # one tag per epsilon: the first will do


def sources(run):
    """Return the series that the cells of a run are read from, a dict by column."""
    found = {}
    for column, tags in _TAGS.items():
        if column == "sharpness":
            tags = (
                *tags,
                *(t for t in sorted(run.series) if t.startswith(_EPSILONS) and not t.endswith("_spread")),
            )
        series = next((run.series[tag] for tag in tags if tag in run.series), None)
        if series is not None:
            found[column] = series
    return found


def row(reader, ctx, experiment, run):
    """Return the row of a run as a dict by column, and a list of (tag, message) of what cannot be read.

    What is unknown is None. `updates` is the greatest step of any tag that counts updates.
    """
    group, seed = group_and_seed(run.name)
    cells, problems = {"run": run.name, "group": group, "seed": seed} | dict.fromkeys(_TAGS), []
    for column, series in sources(run).items():
        try:
            cells[column] = _last_finite(reader, ctx, experiment, series)
        except Unreadable as problem:
            problems.append((series.tag, str(problem)))
    own = [series for series in run.series.values() if not series.by_keras]
    cells["updates"] = max((series.max_step for series in own), default=None)
    end = max((series.max_wall_time for series in run.series.values()), default=math.nan)
    cells["seconds"] = None if run.start is None or not math.isfinite(end) else number(end - run.start)
    return cells, problems


def _last_finite(reader, ctx, experiment, series):
    """Return the last finite value of the first column; None if there is none."""
    for read in (reader.last, reader.columns):  # nearly always the last record will do
        values = read(ctx, experiment, series).values
        finite = np.flatnonzero(np.isfinite(values[:, 0])) if values.size else []
        if len(finite):
            last = values[finite[-1], 0]
            return float(as_written(last) if series.data_class == "scalar" else last)
    return None
