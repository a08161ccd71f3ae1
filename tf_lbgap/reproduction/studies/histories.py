"""Curvature against the loss while training: is a minimum sharp because training went further down?

At the same update a large batch has made other progress than a small one. At the same training loss it has
not, so curves against the loss compare like with like (Keskar et al., figure 6).
"""

import itertools
import math

import numpy as np

from tf_lbgap.experiment.calls import ConfigError, nearest
from tf_lbgap.experiment.checks import positive

QUANTITIES = {
    "top_eigenvalue": lambda row: row["values"][0] if row["converged"][0] else None,
    "preconditioned_top_eigenvalue": lambda row: (
        row["preconditioned_top_eigenvalue"] if row.get("preconditioned_converged") else None
    ),
    "trace": lambda row: row["trace"],
}
"""What a row of a monitor's history tells; None where it is not to be trusted."""


def evolution(run, *, arms=None, losses=(0.5, 0.2, 0.1), quantity="top_eigenvalue", seeds=None):
    """Read from the monitors' histories what the curvature was when the training loss first fell past given
    levels.

    The loss is that of the monitor's sample in inference mode, at the weights at which curvature was
    measured. Between two measurements the logarithm of the curvature is taken to be linear in that of the
    loss. Costs nothing: files are read.

    Args:
        run: A `FinishedRun` of an experiment with `measure: {monitor: {at_start: true, every: ...}}`.
            Measurements have to be so frequent that the loss does not fall past two levels between two of
            them.
        arms: Names of arms; None: all.
        losses: Levels.
        quantity: One of `QUANTITIES`.
        seeds: How many of the run's seeds; None: all.

    Returns:
        `rows` with `top_eigenvalue_at_0.5`, .. (in the name of the quantity): NaN for a level that the loss
        never reached, or had reached at the first measurement; and `largest`, over all measurements. `curves`
        with `update`, `examples` (seen in training), `loss`, and the quantity.

    References:
        Keskar et al., "On large-batch training for deep learning", 2017, figure 6.
    """
    losses = [positive(loss, "losses") for loss in ([losses] if np.isscalar(losses) else losses)]
    _check(run, quantity)
    rows, curves = [], []
    for arm, seed in run.finished(arms, seeds):
        curve = _curve(run, arm, seed, quantity)
        curves.append({"arm": arm, "seed": seed, **curve})
        found = {f"{quantity}_at_{at:g}": _when_falling(curve["loss"], curve[quantity], at) for at in losses}
        finite = [value for value in curve[quantity] if math.isfinite(value)]
        rows.append({"arm": arm, "seed": seed, **found, "largest": max(finite, default=math.nan)})
    return {"rows": rows, "curves": curves}


def _check(run, quantity):
    if quantity not in QUANTITIES:
        raise ConfigError(f"quantity: {quantity!r} is not one. {nearest(quantity, QUANTITIES)}")
    which = (run.experiment.measure.monitor or {}).get("which", "largest")
    if quantity == "top_eigenvalue" and which != "largest":
        raise ConfigError(
            f"measure: monitor: which: {which!r}, so no top_eigenvalue was measured. Leave it out."
        )


def _curve(run, arm, seed, quantity):
    history, result = run.history(arm, seed), run.row(arm, seed)
    size = result["examples"] / result["epochs"] if result["epochs"] else 0  # of the training set
    return {
        "update": [row["update"] for row in history],
        "examples": [round(row["progress"] * size) for row in history],
        "loss": [_number(_of(row, "loss", arm)) for row in history],
        quantity: [_number(_measured(row, quantity, arm)) for row in history],
    }


def _measured(row, quantity, arm):
    try:
        return QUANTITIES[quantity](row)
    except KeyError as error:
        if not any(row.get("converged", ())):  # the row of weights that diverged has nothing
            return None
        raise ConfigError(_missing(error.args[0], arm)) from None


def _of(row, key, arm):
    if key not in row:
        raise ConfigError(_missing(key, arm))
    return row[key]


def _missing(key, arm):
    return (
        f"The monitor of arm {arm!r} has no {key!r} in its history. Let measure: monitor: measure it, and train anew: "
        "lbgap run with --again."
    )


def _number(value):
    return math.nan if value is None else float(value)


def _when_falling(losses, values, level):
    """The value where the loss first comes from above `level` to it; NaN if it never does."""
    known = [(a, b) for a, b in zip(losses, values, strict=True) if math.isfinite(a) and math.isfinite(b)]
    for (before, first), (after, second) in itertools.pairwise(known):
        if before > level >= after:
            part = math.log(before / level) / math.log(before / after) if after > 0 else 1.0
            if first > 0 and second > 0:
                return math.exp((1 - part) * math.log(first) + part * math.log(second))
            return (1 - part) * first + part * second
    return math.nan
