"""Mirrors: the numbers that are also written as stock scalars.

A hosted TensorBoard does not load plugins, but shows scalars. So the measures of the tab are repeated there, under
tags `lbgap/<last part of the name>`.
"""

import numpy as np

PREFIXES = ("sharpness/", "schedule/", "generalization/")
_END = {"largest": "top_eigenvalue", "smallest": "smallest_eigenvalue", "magnitude": "dominant_eigenvalue"}


def of_scalar(name, mirror=None):
    """Return the mirror's tag of a scalar, or None if it has none.

    Without `mirror` those under `sharpness/`, `schedule/` and `generalization/` have one.
    """
    wanted = name.startswith(PREFIXES) if mirror is None else mirror
    return f"lbgap/{_last(name)}" if wanted else None


def of_eigenvalues(name, which):
    """Return the mirror's tag: `eigenvalues` becomes `lbgap/top_eigenvalue`, `hessian_eigenvalues` `lbgap/hessian_eigenvalue`."""
    singular = _last(name).removesuffix("s")
    return f"lbgap/{_END[which] if singular == 'eigenvalue' else singular}"


def top_values(values, converged, which):
    """Return the value of each row that is mirrored: the outermost at its end of the spectrum, shape (R,).

    A stock scalar has no flag beside it, so a value that did not converge is NaN there.
    """
    values = np.atleast_2d(np.asarray(values, np.float64))
    towards = {"largest": values, "smallest": -values, "magnitude": np.abs(values)}[which]
    outermost = np.argmax(np.where(np.isnan(towards), -np.inf, towards), axis=1)[:, None]
    top = np.take_along_axis(values, outermost, axis=1)[:, 0]
    if converged is not None:
        flags = np.atleast_2d(np.asarray(converged, np.float64))
        top = np.where(np.take_along_axis(flags, outermost, axis=1)[:, 0] == 0, np.nan, top)
    return top


def _last(name):
    return name.rstrip("/").rsplit("/", 1)[-1] or name
