"""What differs: every setting that is not the same for all arms, and for all runs the machine and the versions.

A difference in results is a difference of arms only if nothing else differs. A setting that is not listed was equal.
"""

import dataclasses

from tf_lbgap.report.grids import Grid

_NOT_SETTINGS = ("name", "output", "arms", "reference")


def audit_grid(runs):
    """Return a grid with a row per setting that is not equal and a column per arm.

    Args:
        runs: List of `runs.Run`.

    Returns:
        A `Grid`, or None if there are no two arms to compare.
    """
    columns = {}
    for run in runs:
        for arm in run.arms:
            columns[run.group(arm, runs)] = _settings(run, arm)
    if len(columns) < 2:
        return None
    keys = sorted({key for settings in columns.values() for key in settings})
    rows = []
    for key in keys:
        values = [settings.get(key) for settings in columns.values()]
        if any(value != values[0] for value in values):
            rows.append((key, *map(text_of, values)))
    return Grid(
        "audit",
        "What differs",
        ("setting", *columns),
        tuple(rows),
        f"{len(keys) - len(rows)} other settings were compared, and are equal.",
    )


def _settings(run, arm):
    about = {k: v for k, v in dataclasses.asdict(run.experiment).items() if k not in _NOT_SETTINGS}
    return dict(
        [
            *_flat("", run.experiment.arms[arm]),
            *_flat("", about),
            *_flat("environment.", run.environment),
        ]
    )


def _flat(prefix, content):
    for key, value in content.items():
        if isinstance(value, dict) and "call" not in value:
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def text_of(value):
    """Return a setting as one writes it: a number, a list, a call with its arguments."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        options = ", ".join(f"{key}={text_of(own)}" for key, own in value.items() if key != "call")
        return str(value.get("call", "")) + (f"({options})" if options else "")
    return f"[{', '.join(map(text_of, value))}]" if isinstance(value, (list, tuple)) else str(value)
