"""Figures of a reproduction, drawn from its `results.json` alone.

A paper's file names each one under `figures:`, by `call: report.paper_figures.against`, with its arguments beside the call.
`claims` is always drawn. A new kind of figure is one function of `results` and these arguments that returns a matplotlib
figure, here or as a user's `module:function`.
"""

from tf_lbgap.experiment import ConfigError
from tf_lbgap.experiment.calls import mistakes, nearest, resolve
from tf_lbgap.report import drawing
from tf_lbgap.report.paper_curves import evolution, lines
from tf_lbgap.report.paper_forest import forest
from tf_lbgap.report.paper_means import against, arms

__all__ = ["CLAIMS", "against", "arms", "claims", "draw", "evolution", "figures_of", "lines"]

CLAIMS = "claims"


def claims(results, **options):
    """Return a forest plot of all claims: estimate, 95 % interval, what is claimed, and the verdict in words."""
    return forest(results)


def figures_of(results):
    """Return {name: call} of all figures: the claims, and those of the paper's file."""
    own = results.get("figures") or {}
    return {CLAIMS: {"call": "report.paper_figures.claims"}, **own}


def draw(results, name):
    """Return the matplotlib figure of a name in `figures_of`, or None if there is nothing to show.

    Raises:
        ConfigError: If there is no such figure, or an argument means nothing.
    """
    known = figures_of(results)
    if name not in known:
        raise ConfigError(f"figures: there is no {name!r}. {nearest(name, known)}")
    call = known[name]
    options = {key: value for key, value in call.items() if key != "call"}
    with drawing.style(), mistakes(f"figures: {name}"):
        return resolve(call["call"])(results, **options)
