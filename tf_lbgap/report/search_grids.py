"""What a search found, as a grid of text and sentences, from its `results.json`."""

import math

from tf_lbgap.report.grids import Grid

MOST = 10  # trials shown


def trials_grid(results, objective):
    """Return a line for each of the best trials.

    Args:
        results: Content of a search's `results.json`.
        objective: Its `tuning.objectives.Objective`.
    """
    best = ranked(results)[:MOST]
    names = [dimension["name"] for dimension in results["dimensions"]]
    names += ["epochs"] if results.get("tuner") == "hyperband" else []
    unit = f" {objective.unit}" if objective.unit else ""
    title = f"{objective.title}{unit}".replace(" ", "\n", 1)
    rows = [
        (
            trial["trial"],
            *(_cell(trial["values"].get(name)) for name in names),
            _score(trial, objective),
            f"{trial['seconds']:.1f}",
        )
        for trial in best
    ]
    failed = len(results["trials"]) - len(ranked(results))
    count = len(results["trials"])
    return Grid(
        "trials",
        f"{results['name']}: the best {len(best)} of {count} trials, mean ± standard deviation over seeds",
        ("\ntrial", *(f"\n{short_name(name)}" for name in names), title, "\nseconds"),
        tuple(rows),
        f"{failed} of {count} trials diverged, missed the target or failed." if failed else None,
    )


def ranked(results):
    """Return the trials that finished, the best first; of Hyperband's those with more epochs before all others."""
    sign = -1 if results["direction"] == "max" else 1
    scored = sorted(
        (trial for trial in results["trials"] if trial["score"] is not None),
        key=lambda trial: sign * trial["score"],
    )
    if results.get("tuner") == "hyperband":
        scored.sort(key=lambda trial: -trial["values"]["epochs"])
    return scored


def edge_sentences(results):
    """Return a sentence for each dimension at whose end the best trial lies: a better one may lie beyond."""
    best = next(iter(ranked(results)), None)
    if best is None:
        return []
    found = []
    for dimension in results["dimensions"]:
        value = best["values"].get(dimension["name"])
        end = edge(dimension, value)
        if end is not None:
            found.append(
                f"The best trial has {dimension['name']} {_cell(value)}, at the {end} end of what was searched: a better one may lie "
                "beyond. Widen the range."
            )
    return found


def edge(dimension, value):
    """Return "low" or "high" if a value is at that end of a dimension of `results.json`, else None.

    Within a twentieth of the range, if any number of it could be drawn.
    """
    low, high = dimension["low"], dimension["high"]
    if low is None or not isinstance(value, (int, float)):
        return None
    if dimension["scale"] == "log":
        low, high, value = math.log(low), math.log(high), math.log(value)
    reach = (0.05 if dimension["values"] is None else 1e-9) * (high - low)
    return "low" if value <= low + reach else "high" if value >= high - reach else None


def _score(trial, objective):
    deviation = trial["score_deviation"]
    text = f"{objective.scale * trial['score']:,.{objective.decimals}f}"
    return text if deviation is None else f"{text}±{objective.scale * deviation:,.{objective.decimals}f}"


def short_name(name):
    """Return what a dimension is called in a heading: `optimizer.momentum` is the momentum, `learning_rate.initial` the rate."""
    first, _, rest = name.partition(".")
    return (
        name
        if not rest
        else rest
        if first in ("optimizer", "model")
        else first
        if rest == "initial"
        else name
    )


def _cell(value):
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
